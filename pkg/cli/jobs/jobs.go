// Package jobs is the command hodei jobs: it lists the jobs of a cluster, and shows those that change. [New] makes the
// command, [Options] is what one listing does, and columns are what its table shows. It lists the Kubernetes Jobs
// themselves: what else is known of a job, hodei describe tells.
package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
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
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// New makes the command; run is (*Options).Run, or a test's.
func New(env *command.Env, run func(*Options, context.Context) error) *cobra.Command {
	o := &Options{
		Out: env.Out, ErrOut: env.ErrOut, named: env.Named, showError: env.ShowError,
		width:     func() int { return ui.Width(env.Stdout()) },
		openStore: func() (*place.Store, error) { return env.Home().OpenStore(false) },
	}
	f := typedFlags{print: get.NewGetPrintFlags()}
	f.print.HumanReadableFlags.SortBy = nil   // ours says what the default is
	f.print.HumanReadableFlags.ShowKind = nil // there is one kind
	cmd := &cobra.Command{
		Use:   "jobs [NAME...] [-o wide|json|yaml|name|...]",
		Short: "List the jobs",
		Long: templates.LongDesc(`
			List the jobs of the provider in use, or of the namespace of -n, the latest first.
			They are the Kubernetes Jobs themselves, with the state of their last Pod. -o wide
			adds image, node and command; on a terminal the command is cut.

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

			# Those of the last hour that have failed
			hodei jobs --since 1h --status failed

			# How a job ended, for a script
			hodei jobs hodei-make-k3x9z -o jsonpath='{.status.conditions[*].type}'`),
		ValidArgsFunction: env.CompleteJobs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.complete(cmd, env, f, args); err != nil {
				return err
			}
			return env.UntilSignal(cmd.Context(), signals.NextEndsUs, func(ctx context.Context) error { return run(o, ctx) })
		},
	}
	cmd.Flags().BoolVarP(&f.allNamespaces, "all-namespaces", "A", false, "List the jobs of all namespaces.")
	cmd.Flags().StringVarP(&f.selector, "selector", "l", "", "List the jobs with these labels: key=value,..., as in kubectl.")
	cmd.Flags().StringSliceVar(&o.statuses, "status", nil,
		"List the jobs with one of these words in the column STATUS, in any case: running,pending.")
	cmd.Flags().DurationVar(&f.since, "since", 0, "List the jobs made in the last 10m, 2h, ... Default: all.")
	cmd.Flags().StringVar(&f.sortBy, "sort-by", "",
		"Sort by a field of the Jobs, a JSONPath expression as in kubectl: .metadata.name. Default: the latest job first.")
	_ = cmd.RegisterFlagCompletionFunc("status", cobra.FixedCompletions(statuses, cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "After the list, show each job that changes, until Ctrl-C.")
	f.print.AddFlags(cmd)
	return cmd
}

// typedFlags are the flags of jobs that complete turns into options.
type typedFlags struct {
	selector      string
	allNamespaces bool
	since         time.Duration
	sortBy        string
	print         *get.PrintFlags
}

// Options is which jobs to list, how, and what that needs. [New] fills it in.
type Options struct {
	Out, ErrOut io.Writer
	client      clientset.Interface
	namespace   string   // empty: all
	names       []string // in the order in which they are shown; none: all that the rest chooses
	selector    string
	statuses    []string  // none: any
	from        time.Time // the jobs were made no earlier; zero: at any time
	sortBy      field
	watch       bool // go on with those that change
	// table is true if printer is for people and takes a metav1.Table.
	table   bool
	printer printers.ResourcePrinter
	// width returns the columns of the terminal that Out is; 0: it is none.
	width func() int
	// sweep removes jobs that will never start, except the one called keep, and returns a line for each; nil: none
	// is removed.
	sweep func(ctx context.Context, keep string) []string
	// openStore opens the log store of this machine.
	openStore func() (*place.Store, error)
	// named makes a hint ready to be typed, and showError shows an error after which Run goes on.
	named     func(hint string) string
	showError func(error)

	blind bool // we may not list the Pods, and have said so
}

// complete turns arguments and flags into options.
func (o *Options) complete(cmd *cobra.Command, env *command.Env, f typedFlags, args []string) error {
	for _, name := range args {
		if !slices.Contains(o.names, name) {
			o.names = append(o.names, name)
		}
	}
	if len(o.names) > 0 && (f.allNamespaces || f.selector != "" || len(o.statuses) > 0 || f.since != 0) {
		return command.Usagef(cmd, "jobs are named by NAME, or chosen by -A, -l, --status and --since, not both")
	}
	if err := o.completeChoice(cmd, f); err != nil {
		return err
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

// completeChoice turns the flags about the choice and the order of jobs into options.
func (o *Options) completeChoice(cmd *cobra.Command, f typedFlags) (err error) {
	for _, word := range o.statuses {
		if err := checkStatus(word); err != nil {
			return command.Usagef(cmd, "--status %q: %w", word, err)
		}
	}
	switch {
	case f.since < 0:
		return command.Usagef(cmd, "--since %s: must not be negative", f.since)
	case f.since > 0:
		o.from = time.Now().Add(-f.since)
	}
	if f.sortBy != "" {
		if o.sortBy, err = parseField(f.sortBy); err != nil {
			return command.Usagef(cmd, "--sort-by %q: %w", f.sortBy, err)
		}
	}
	return nil
}

// connect finds the cluster. In a listing of all namespaces no job is swept: most are somebody else's.
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

// Run lists the jobs. With watch it then shows each job that changes, until ctx ends or the cluster stays unreachable;
// it returns why.
func (o *Options) Run(ctx context.Context) error {
	which := metav1.ListOptions{LabelSelector: o.selector}
	only := "" // the job, if one is named
	if len(o.names) == 1 {
		only = o.names[0]
		which.FieldSelector = fields.OneTermEqualSelector("metadata.name", only).String()
	}
	if o.sweep != nil {
		for _, note := range o.sweep(ctx, only) {
			o.say(note)
		}
	}
	list, err := kubernetes.Ask(ctx, o.watch, o.say, func(ctx context.Context) (*batchv1.JobList, error) {
		return o.client.BatchV1().Jobs(o.namespace).List(ctx, which)
	})
	if err != nil {
		return kubernetes.Explain(err)
	}
	rows, err := o.rows(ctx, list.Items)
	if err != nil {
		return err
	}
	missing := o.missing(rows)
	switch {
	case only != "" && len(missing) > 0:
		return o.notFound(only)
	case len(rows) == 0 && len(o.names) == 0 && o.table && !o.watch:
		o.sayNone()
		return nil
	}
	if err := o.sortBy.sort(rows); err != nil {
		return err
	}
	if len(rows) > 0 || len(missing) == 0 {
		if err := o.print(rows); err != nil {
			return err
		}
	}
	for _, name := range missing {
		o.showError(o.notFound(name))
	}
	switch {
	case len(missing) > 0:
		return &job.ExitError{Code: command.ExitFailed}
	case !o.watch:
		return nil
	}
	return o.follow(ctx, which, list.ResourceVersion)
}

// notFound returns the error that there is no job of a name.
func (o *Options) notFound(name string) error {
	return &job.Hinted{
		Err:  fmt.Errorf("job %q not found in namespace %s", name, o.namespace),
		Hint: "{hodei} jobs -n " + o.namespace,
	}
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

// follow shows the jobs that change, from a version of the list on, until ctx ends or the cluster stays
// unreachable.
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
				err = errors.New(err.Error()) // the watcher tries again only after an error that it does not know
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
		rows, err := o.rows(ctx, []batchv1.Job{*changed})
		if err == nil && len(rows) > 0 {
			err = o.print(rows)
		}
		if err != nil {
			return err
		}
	}
	return context.Cause(watching)
}

// rows returns the rows of those of jobs that were asked for. It looks for Pods only if something depends on them.
func (o *Options) rows(ctx context.Context, jobs []batchv1.Job) ([]row, error) {
	var pods map[types.NamespacedName]*corev1.Pod
	if o.table || len(o.statuses) > 0 {
		var err error
		if pods, err = o.lastPods(ctx); err != nil {
			return nil, err
		}
	}
	rows := make([]row, len(jobs))
	for i := range jobs {
		rows[i] = newRow(&jobs[i], pods[nameOf(&jobs[i])], time.Now())
	}
	return o.choose(rows), nil
}

// print shows rows: as a table, or as the Kubernetes objects.
func (o *Options) print(rows []row) error {
	if o.table {
		return o.printTable(rows)
	}
	list := &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": "v1", "kind": "List"}}
	for _, r := range rows {
		r.job.SetGroupVersionKind(batchv1.SchemeGroupVersion.WithKind("Job"))
		object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(r.job)
		if err != nil {
			return err
		}
		list.Items = append(list.Items, unstructured.Unstructured{Object: object})
	}
	// A name and a change are one object, as with kubectl get.
	if len(list.Items) == 1 && (len(o.names) == 1 || o.watch) {
		return o.printer.PrintObj(&list.Items[0], o.Out)
	}
	return o.printer.PrintObj(list, o.Out)
}

// printTable shows rows as a table.
func (o *Options) printTable(rows []row) error {
	o.addStoredExits(rows)
	table := tableOf(rows)
	if width := o.width(); width > 0 {
		cutCommands(table, width, o.namespace == metav1.NamespaceAll)
	}
	return o.printer.PrintObj(table, o.Out)
}

// nameOf is what a job is called in its cluster.
func nameOf(j *batchv1.Job) types.NamespacedName {
	return types.NamespacedName{Namespace: j.Namespace, Name: j.Name}
}

// lastPods returns the Pod of each job's last attempt. A user who may list Jobs but not Pods gets none, is told so
// once, and still sees the jobs.
func (o *Options) lastPods(ctx context.Context) (map[types.NamespacedName]*corev1.Pod, error) {
	which := metav1.ListOptions{LabelSelector: kubernetes.LabelManagedBy + "=" + kubernetes.ManagedBy}
	if len(o.names) == 1 {
		which.LabelSelector += "," + batchv1.JobNameLabel + "=" + o.names[0]
	}
	list, err := o.client.CoreV1().Pods(o.namespace).List(ctx, which)
	switch {
	case apierrors.IsForbidden(err) && !o.blind:
		o.blind = true
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

// columns are those of the table, from left to right. An empty cell shows as <none>, and what would command a
// terminal is made harmless.
var columns = []column{
	{name: "Name", cell: func(r *row) string { return r.job.Name }},
	{name: "Status", cell: func(r *row) string { return statusOf(r.job, r.pod) }},
	{name: "Exit", cell: func(r *row) string { return r.exit }},
	{name: "Attempts", cell: func(r *row) string { return strconv.FormatInt(attempts(r.job), 10) }},
	{name: "Age", cell: func(r *row) string { return duration.HumanDuration(r.now.Sub(r.job.CreationTimestamp.Time)) }},
	{name: "Image", wide: true, cell: func(r *row) string { return imageOf(r.job) }},
	{name: "Node", wide: true, cell: func(r *row) string { return nodeOf(r.pod) }},
	{name: "Command", wide: true, cell: func(r *row) string { return commandOf(r.job) }}, // stays last: cutCommands cuts it
}

// none stands in a cell that has nothing to show.
const none = "<none>"

// column is one of the table's, and how its cells are made.
type column struct {
	name string
	wide bool // -o wide shows it, and the plain table does not
	cell func(*row) string
}

// row is what the columns show of one job.
type row struct {
	job  *batchv1.Job
	pod  *corev1.Pod // of the last attempt; nil: there is none, or we may not see it
	exit string      // the exit code; empty: it has not ended, or its code is not known
	now  time.Time
}

// newRow returns the row of a job, as far as the cluster knows.
func newRow(j *batchv1.Job, pod *corev1.Pod, now time.Time) row {
	return row{job: j, pod: pod, exit: exitOf(j, pod), now: now}
}

// tableOf puts rows into a table.
func tableOf(rows []row) *metav1.Table {
	table := &metav1.Table{}
	for _, c := range columns {
		definition := metav1.TableColumnDefinition{Name: c.name, Type: "string"}
		if c.wide {
			definition.Priority = 1
		}
		table.ColumnDefinitions = append(table.ColumnDefinitions, definition)
	}
	for i := range rows {
		r := &rows[i]
		line := metav1.TableRow{Object: runtime.RawExtension{Object: r.job}} // for -A and --show-labels
		for _, c := range columns {
			line.Cells = append(line.Cells, ui.Printable(cmp.Or(c.cell(r), none)))
		}
		table.Rows = append(table.Rows, line)
	}
	return table
}

// minCommand is the room in columns that a command gets at least, however narrow the terminal is.
const minCommand = 20

// cutCommands shortens the commands, the last column of a table, so that its rows fit a terminal of width columns.
// With namespaces the printer adds a column.
func cutCommands(table *metav1.Table, width int, namespaces bool) {
	const between = 3 // columns, as kubectl's printer leaves them
	room := width
	command := len(table.ColumnDefinitions) - 1
	for i, column := range table.ColumnDefinitions[:command] {
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
		row.Cells[command] = ui.Cut(row.Cells[command].(string), max(room, minCommand))
	}
}

// exitOf returns the exit code of a job's last attempt, as hodei run would have returned it; empty: it has not ended,
// has not started, or nobody knows.
func exitOf(j *batchv1.Job, pod *corev1.Pod) string {
	if end := kubernetes.End(j, pod); end != nil && !end.NeverStarted {
		return strconv.Itoa(end.ExitCode())
	} else if state := containerState(pod); end == nil && state.Terminated != nil && !kubernetes.NeverStarted(pod) {
		return strconv.Itoa(int(state.Terminated.ExitCode)) // its agent still runs
	}
	return ""
}

// nodeOf returns the node of a Pod; empty: it has none yet.
func nodeOf(pod *corev1.Pod) string {
	if pod == nil {
		return ""
	}
	return pod.Spec.NodeName
}

// imageOf returns the image that the job's command runs in.
func imageOf(j *batchv1.Job) string {
	for _, c := range j.Spec.Template.Spec.Containers {
		if c.Name == jobContainer {
			return c.Image
		}
	}
	return ""
}

// commandOf returns the job's command as a shell takes it; empty: the Job does not tell.
func commandOf(j *batchv1.Job) string {
	spec, err := kubernetes.SpecOf(j)
	if err != nil {
		return ""
	}
	return shell.Line(spec.Command)
}

// attempts counts the Pods that a job has had. That includes those that have ended and that the job controller has
// not counted yet.
func attempts(j *batchv1.Job) int64 {
	n := int64(j.Status.Active + j.Status.Succeeded + j.Status.Failed)
	if u := j.Status.UncountedTerminatedPods; u != nil {
		n += int64(len(u.Succeeded) + len(u.Failed))
	}
	return n
}

// jobContainer is the container of a worker's Pod in which the command runs.
const jobContainer = "job"

// containerState returns the state of the job's container; the zero value: there is none.
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

// statusOf says in one word how a job is: by its own conditions once it has ended, before that by its last Pod.
func statusOf(j *batchv1.Job, pod *corev1.Pod) string {
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
			return held + ":" + strings.Join(others, ",")
		}
		return "Lingering" // its agent still has output to deliver
	case state.Waiting != nil && state.Waiting.Reason != "ContainerCreating" && state.Waiting.Reason != "PodInitializing":
		return state.Waiting.Reason // kubectl's word: ImagePullBackOff
	}
	return "Pending"
}
