package jobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/cli-runtime/pkg/printers"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
	"k8s.io/kubectl/pkg/cmd/get"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/shell"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// jobsFlags are the flags of jobs that are more than an option.
type jobsFlags struct {
	selector      string
	allNamespaces bool
	print         *get.PrintFlags
}

// New makes the command; run is (*jobsOptions).run, or a test's.
func New(env *command.Env, run func(*Options, context.Context) error) *cobra.Command {
	o := &Options{
		Out: env.Out, ErrOut: env.ErrOut, named: env.Named,
		width:     func() int { return ui.Width(env.Stdout()) },
		openStore: func() (*place.Store, error) { return env.Home().OpenStore(false) },
	}
	f := jobsFlags{print: get.NewGetPrintFlags()}
	f.print.HumanReadableFlags.SortBy = nil   // kubectl does that on the client's side,
	f.print.HumanReadableFlags.ShowKind = nil // and there is one kind
	cmd := &cobra.Command{
		Use:                   "jobs [NAME] [-o wide|json|yaml|name|...]",
		DisableFlagsInUseLine: true,
		Short:                 "List the jobs",
		Long: templates.LongDesc(`
			List the jobs of the provider in use, or of the namespace of -n. They are the
			Kubernetes Jobs themselves, with the state of their last Pod. -o wide adds image,
			node and command; on a terminal the command is cut.

			First it removes jobs whose start timeout has passed and that nothing in the cluster
			will start or end, for example because no node takes them, and says so. With -A it
			removes none.`),
		Example: templates.Examples(`
			# List the jobs
			hodei jobs

			# With their images, commands and nodes, as they change
			hodei jobs -o wide -w

			# Names of all jobs with a label, in all namespaces
			hodei jobs -A -l team=build -o name

			# How a job ended, for a script
			hodei jobs hodei-make-k3x9z -o jsonpath='{.status.conditions[*].type}'`),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: env.CompleteJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.complete(cmd, env, f, args); err != nil {
				return err
			}
			return run(o, cmd.Context())
		},
	}
	cmd.Flags().BoolVarP(&f.allNamespaces, "all-namespaces", "A", false, "List the jobs of all namespaces.")
	cmd.Flags().StringVarP(&f.selector, "selector", "l", "", "List the jobs with these labels: key=value,..., as in kubectl.")
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "After the list, show each job that changes, until Ctrl-C.")
	f.print.AddFlags(cmd)
	return cmd
}

// Options is which jobs to list, how, and what that needs.
type Options struct {
	Out, ErrOut io.Writer
	client      clientset.Interface
	namespace   string // empty: all
	name        string // empty: all that the selector chooses
	selector    string
	watch       bool // go on with those that change
	// table says that printer is for people and takes a metav1.Table.
	table   bool
	printer printers.ResourcePrinter
	// width returns the columns of the terminal that Out is; 0: it is none.
	width func() int
	// sweep removes jobs that will never start, except the one called keep, and returns a line for
	// each; nil: none are removed.
	sweep func(ctx context.Context, keep string) []string
	// openStore opens the log store of this machine.
	openStore func() (*place.Store, error)
	// named makes a hint ready to be typed.
	named func(hint string) string

	blind bool // the Pods may not be listed, which was said
}

// complete turns what was typed into options.
func (o *Options) complete(cmd *cobra.Command, env *command.Env, f jobsFlags, args []string) error {
	if len(args) == 1 {
		o.name = args[0]
	}
	if o.name != "" && (f.allNamespaces || f.selector != "") {
		return command.Usagef(cmd, "a job is named by its NAME, or chosen by -A and -l, not both")
	}
	if _, err := labels.Parse(f.selector); err != nil {
		return command.Usagef(cmd, "--selector %q: %w", f.selector, err)
	}
	o.selector = kubernetes.LabelManagedBy + "=" + kubernetes.ManagedBy
	if f.selector != "" {
		o.selector += "," + f.selector
	}
	format := f.print.OutputFormat
	o.table = *format == "" || *format == "wide"
	var err error
	if f.allNamespaces {
		if err = f.print.EnsureWithNamespace(); err != nil {
			return err
		}
	}
	if o.printer, err = command.NewPrinter(format, f.print.ToPrinter); err != nil {
		return command.Usagef(cmd, "%w", err)
	}
	return o.connect(env, f.allNamespaces)
}

// connect finds the cluster. Who looks at all namespaces is no owner of them, and sweeps none.
func (o *Options) connect(env *command.Env, allNamespaces bool) error {
	provider, chosen, err := env.ChooseCluster()
	if err != nil {
		return err
	}
	if o.client, err = env.Client(); err != nil {
		return err
	}
	p, err := env.KubernetesProvider(provider, chosen)
	if err != nil {
		return err
	}
	if !allNamespaces {
		o.namespace, o.sweep = chosen.Namespace, p.SweepNotes
	}
	return nil
}

// Run lists the jobs, and with watch those that change, until ctx ends.
func (o *Options) Run(ctx context.Context) error {
	which := metav1.ListOptions{LabelSelector: o.selector}
	if o.name != "" {
		which.FieldSelector = fields.OneTermEqualSelector("metadata.name", o.name).String()
	}
	if o.sweep != nil {
		for _, note := range o.sweep(ctx, o.name) {
			o.say(note)
		}
	}
	list, err := kubernetes.Ask(ctx, o.watch, o.say, func(ctx context.Context) (*batchv1.JobList, error) {
		return o.client.BatchV1().Jobs(o.namespace).List(ctx, which)
	})
	switch {
	case err != nil:
		return kubernetes.Explain(err)
	case o.name != "" && len(list.Items) == 0:
		return &job.Hinted{
			Err:  fmt.Errorf("job %q not found in namespace %s", o.name, o.namespace),
			Hint: "{hodei} jobs -n " + o.namespace,
		}
	case len(list.Items) == 0 && o.table && !o.watch:
		o.sayNone()
		return nil
	}
	if err := o.print(ctx, list.Items); err != nil || !o.watch {
		return err
	}
	return o.follow(ctx, which, list.ResourceVersion)
}

// say tells a person something beside the list.
func (o *Options) say(text string) { fmt.Fprintln(o.ErrOut, ui.Printable(text)) }

// sayNone says, as kubectl does, that there are no jobs.
func (o *Options) sayNone() {
	if o.namespace == metav1.NamespaceAll {
		fmt.Fprintln(o.ErrOut, "No jobs found.")
	} else {
		fmt.Fprintf(o.ErrOut, "No jobs found in %s namespace.\n", o.namespace)
	}
}

// follow shows the jobs that change, from a version of the list on, for as long as the cluster
// answers.
func (o *Options) follow(ctx context.Context, which metav1.ListOptions, from string) error {
	watching, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	var contact kubernetes.Contact
	changes, err := watchtools.NewRetryWatcherWithContext(watching, from, &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.LabelSelector, options.FieldSelector = which.LabelSelector, which.FieldSelector
			changed, err := o.client.BatchV1().Jobs(o.namespace).Watch(ctx, options)
			if ctx.Err() != nil {
				return changed, err
			}
			news, lost := contact.Next(time.Now(), err)
			if news != "" {
				o.say(news)
			}
			if lost != nil {
				lose(lost)
			}
			if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
				err = errors.New(err.Error()) // else the watcher would end with it
			}
			return changed, err
		},
	})
	if err != nil {
		return err
	}
	defer changes.Stop()
	for event := range changes.ResultChan() {
		changed, ok := event.Object.(*batchv1.Job)
		if !ok {
			return kubernetes.Explain(apierrors.FromObject(event.Object))
		}
		if err := o.print(ctx, []batchv1.Job{*changed}); err != nil {
			return err
		}
	}
	return context.Cause(watching)
}

// print shows jobs: as rows, or as the objects that they are.
func (o *Options) print(ctx context.Context, jobs []batchv1.Job) error {
	if o.table {
		return o.printRows(ctx, jobs)
	}
	list := &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": "v1", "kind": "List"}}
	for i := range jobs {
		jobs[i].SetGroupVersionKind(batchv1.SchemeGroupVersion.WithKind("Job"))
		object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&jobs[i])
		if err != nil {
			return err
		}
		list.Items = append(list.Items, unstructured.Unstructured{Object: object})
	}
	// A name and a change are one object, as with kubectl get.
	if len(list.Items) == 1 && (o.name != "" || o.watch) {
		return o.printer.PrintObj(&list.Items[0], o.Out)
	}
	return o.printer.PrintObj(list, o.Out)
}

// printRows shows jobs as a table.
func (o *Options) printRows(ctx context.Context, jobs []batchv1.Job) error {
	pods, err := o.lastPods(ctx)
	if err != nil {
		return err
	}
	table := &metav1.Table{ColumnDefinitions: jobColumns}
	for i := range jobs {
		table.Rows = append(table.Rows, jobRow(&jobs[i], pods[jobName(&jobs[i])], time.Now()))
	}
	o.storedExits(jobs, table.Rows, pods)
	if width := o.width(); width > 0 {
		cutCommands(table, width, o.namespace == metav1.NamespaceAll)
	}
	return o.printer.PrintObj(table, o.Out)
}

// jobName is what a job is called in its cluster.
func jobName(j *batchv1.Job) types.NamespacedName {
	return types.NamespacedName{Namespace: j.Namespace, Name: j.Name}
}

// lastPods returns the Pod of every job's last attempt. Who may list Jobs but
// not Pods is shown less, not nothing.
func (o *Options) lastPods(ctx context.Context) (map[types.NamespacedName]*corev1.Pod, error) {
	which := metav1.ListOptions{LabelSelector: kubernetes.LabelManagedBy + "=" + kubernetes.ManagedBy}
	if o.name != "" {
		which.LabelSelector += "," + batchv1.JobNameLabel + "=" + o.name
	}
	list, err := o.client.CoreV1().Pods(o.namespace).List(ctx, which)
	switch {
	case apierrors.IsForbidden(err) && !o.blind:
		o.blind = true // and said so once
		f := kubernetes.Explain(err)
		fmt.Fprintln(o.ErrOut, "without what only Pods tell:", f)
		if f.Hint != "" {
			fmt.Fprintln(o.ErrOut, "hint:", o.named(f.Hint))
		}
	case err != nil && !apierrors.IsForbidden(err):
		return nil, kubernetes.Explain(err)
	}
	last := map[types.NamespacedName]*corev1.Pod{}
	if list != nil {
		for i := range list.Items {
			pod := &list.Items[i]
			key := types.NamespacedName{Namespace: pod.Namespace, Name: pod.Labels[batchv1.JobNameLabel]}
			if old := last[key]; old == nil || old.CreationTimestamp.Before(&pod.CreationTimestamp) {
				last[key] = pod
			}
		}
	}
	return last, nil
}

var jobColumns = []metav1.TableColumnDefinition{
	{Name: "Name", Type: "string", Format: "name"},
	{Name: "Status", Type: "string"},
	{Name: "Exit", Type: "string"},
	{Name: "Attempts", Type: "integer"},
	{Name: "Age", Type: "string"},
	{Name: "Image", Type: "string", Priority: 1},
	{Name: "Node", Type: "string", Priority: 1},
	{Name: "Command", Type: "string", Priority: 1}, // the last: it may be of any length
}

// The columns of a job's exit code and of its command.
const exitColumn, commandColumn = 2, 7

// minCommand is the room that a command gets on a terminal that has none for it.
const minCommand = 20

// cutCommands shortens the commands of a table so that its rows fit a terminal of width
// columns; with namespaces there is a column more.
func cutCommands(table *metav1.Table, width int, namespaces bool) {
	const between = 3 // columns, as kubectl's printer leaves them
	room := width
	for i, column := range table.ColumnDefinitions {
		if i == commandColumn {
			continue
		}
		widest := ui.Columns(column.Name)
		for _, row := range table.Rows {
			widest = max(widest, ui.Columns(fmt.Sprint(row.Cells[i])))
		}
		room -= widest + between
	}
	if namespaces {
		widest := len("NAMESPACE")
		for _, row := range table.Rows {
			widest = max(widest, len(row.Object.Object.(*batchv1.Job).Namespace))
		}
		room -= widest + between
	}
	for _, row := range table.Rows {
		row.Cells[commandColumn] = ui.Cut(row.Cells[commandColumn].(string), max(room, minCommand))
	}
}

// jobRow is a job in a table; pod is that of its last attempt, or nil.
func jobRow(j *batchv1.Job, pod *corev1.Pod, now time.Time) metav1.TableRow {
	const none = unknownExit
	exit, node, image, command := none, none, none, none
	if end := kubernetes.End(j, pod); end != nil && !end.NeverStarted {
		exit = strconv.Itoa(end.ExitCode())
	} else if state := containerState(pod); end == nil && state.Terminated != nil && !kubernetes.NeverStarted(pod) {
		exit = strconv.Itoa(int(state.Terminated.ExitCode)) // which the agent has had a word in
	}
	if pod != nil && pod.Spec.NodeName != "" {
		node = pod.Spec.NodeName
	}
	for _, c := range j.Spec.Template.Spec.Containers {
		if c.Name == jobContainer {
			image = c.Image
		}
	}
	if spec, err := kubernetes.SpecOf(j); err == nil && len(spec.Command) > 0 {
		words := make([]string, len(spec.Command))
		for i, word := range spec.Command {
			words[i] = shell.Quote(word)
		}
		command = strings.Join(words, " ")
	}
	return metav1.TableRow{
		Cells: []any{
			ui.Printable(j.Name),
			ui.Printable(jobStatus(j, pod)),
			exit,
			attempts(j),
			duration.HumanDuration(now.Sub(j.CreationTimestamp.Time)),
			ui.Printable(image),
			ui.Printable(node),
			ui.Printable(command),
		},
		Object: runtime.RawExtension{Object: j}, // for -A and --show-labels
	}
}

// attempts counts the Pods that a job has had, those too that have ended and that
// the job controller is about to count.
func attempts(j *batchv1.Job) int64 {
	n := int64(j.Status.Active + j.Status.Succeeded + j.Status.Failed)
	if u := j.Status.UncountedTerminatedPods; u != nil {
		n += int64(len(u.Succeeded) + len(u.Failed))
	}
	return n
}

// jobContainer is the container of a worker's Pod in which the command runs.
const jobContainer = "job"

// containerState is that of the job's container, the zero value if it has none.
func containerState(pod *corev1.Pod) corev1.ContainerState {
	if pod != nil {
		for _, c := range pod.Status.ContainerStatuses {
			if c.Name == jobContainer {
				return c.State
			}
		}
	}
	return corev1.ContainerState{}
}

// jobStatus is one word on how a job is: its own condition once it has ended,
// before that what its last Pod does.
func jobStatus(j *batchv1.Job, pod *corev1.Pod) string {
	conditions := map[batchv1.JobConditionType]bool{}
	for _, c := range j.Status.Conditions {
		conditions[c.Type] = c.Status == corev1.ConditionTrue
	}
	state := containerState(pod)
	switch {
	case conditions[batchv1.JobComplete]:
		return "Complete"
	case conditions[batchv1.JobFailed] && pod != nil && kubernetes.StartTimedOut(pod):
		return string(job.StartTimeout)
	case conditions[batchv1.JobFailed]:
		return "Failed"
	case j.DeletionTimestamp != nil:
		return "Deleting"
	case conditions[batchv1.JobSuspended]:
		return "Suspended"
	case state.Running != nil:
		return "Running"
	case state.Terminated != nil:
		if others := kubernetes.OthersLeft(pod); len(others) > 0 {
			return "HeldBy:" + strings.Join(others, ",")
		}
		return "Lingering" // its agent still has output to deliver
	case state.Waiting != nil && state.Waiting.Reason != "ContainerCreating" && state.Waiting.Reason != "PodInitializing":
		return state.Waiting.Reason // kubectl's word: ImagePullBackOff
	}
	return "Pending"
}
