// Package describe is the command hodei describe: it shows all that cluster, agent and store know of one job. [New]
// makes the command; Run gathers a description, which is also what -o prints; text.go writes it for a person. It
// shows no output of the job; hodei logs does.
package describe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

const (
	// lookWait bounds the wait for the agent of a job that runs. It answers within a second, and sends two samples
	// in the next.
	lookWait = 5 * time.Second
	// eventsOf is how many attempts of a job have their events shown. The cluster deletes events after an hour, so
	// those of earlier attempts are mostly gone.
	eventsOf = 3
)

// New makes the command; run is (*Options).Run, or a test's.
func New(env *command.Env, run func(*Options, context.Context) error) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "describe NAME [-o json|yaml]",
		Short: "Show all that is known of a job",
		Long: templates.LongDesc(`
			Show what the job asked for, its state and why, and the cluster's events. Each
			attempt is shown with its node, the times of its start and end, what it used and how
			that was measured, and which eBPF programs took part.

			The figures of a job that runs come from its agent; its output is not fetched. The
			figures of a job that has ended come from its Pod, or from this machine. What you may
			not see, or what is gone, is named. Values of variables are not shown.`),
		Example: templates.Examples(`
			# Show a job
			hodei describe hodei-make-k3x9z

			# Which eBPF programs take part, for a script
			hodei describe hodei-make-k3x9z -o json | jq '.attempts[-1].probes'`),
		Args:              command.Names(1, 1),
		ValidArgsFunction: env.CompleteLog,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]string{"", "json", "yaml"}, output) {
				return command.Usagef(cmd, "-o %q: want json or yaml", output)
			}
			o, err := complete(env, args[0], output)
			if err != nil {
				return err
			}
			defer o.store.Close(o.finder.Note)
			return env.UntilSignal(cmd.Context(), signals.NextEndsUs, func(ctx context.Context) error { return run(o, ctx) })
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json or yaml. Default: text.")
	env.AddProviderFlag(cmd, cmd.Flags(), "Where the job ran")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// Options is which job to describe, how, and what that needs. [New] fills it in.
type Options struct {
	out    io.Writer
	print  func(v any, format string) error // as json or yaml
	finder *history.Finder
	store  *place.Store        // the finder's
	client clientset.Interface // nil: no cluster is asked
	name   string
	format string // json or yaml; empty: text
}

// complete finds where to look. The caller closes the store.
func complete(env *command.Env, name, format string) (*Options, error) {
	o := &Options{out: env.Out, print: env.PrintData, name: name, format: format}
	var err error
	if o.finder, o.store, err = env.Finder(false, command.NewScreen(env, format != "").Note); err != nil {
		return nil, err
	}
	if o.finder.Cluster != nil {
		o.client, err = env.Clientset()
	}
	if err != nil {
		o.store.Close(o.finder.Note)
		return nil, err
	}
	return o, nil
}

// Run describes the job, unless ctx ends before all is known.
func (o *Options) Run(ctx context.Context) error {
	d, err := o.gather(ctx)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	case o.format != "":
		return o.print(d, o.format)
	}
	return d.print(o.out, time.Now(), time.Local)
}

// description is what is known of a job. What is not known is empty; Missing gives the reasons that are known.
type description struct {
	Name      string    `json:"name"`
	Namespace string    `json:"namespace"`
	Provider  string    `json:"provider,omitempty"`
	Created   time.Time `json:"created,omitzero"`
	// State is Pending, Suspended, Starting, Running, Lingering, Ending, or the cause of the end.
	State    string       `json:"state"`
	Outcome  *job.Outcome `json:"outcome,omitempty"`
	Spec     *job.Spec    `json:"spec,omitempty"`
	Attempts []attempt    `json:"attempts"`
	Events   []event      `json:"events,omitempty"`
	Missing  []string     `json:"missing,omitempty"`
	// WithoutEBPF is why its agents got no eBPF, where its provider says auto.
	WithoutEBPF string `json:"withoutEBPF,omitempty"`
	eventsRead  bool   // Events has all that there are
}

// attempt is one of the job's Pods.
type attempt struct {
	Name    string       `json:"name"`
	Node    string       `json:"node,omitempty"`
	Phases  []job.Event  `json:"phases,omitempty"`
	Running bool         `json:"running,omitempty"`
	Outcome *job.Outcome `json:"outcome,omitempty"`
	// Usage is as of Sampled, by the worker's clock. Without Sampled it is as of the attempt's end.
	Usage   *job.Usage  `json:"usage,omitempty"`
	Sampled time.Time   `json:"sampled,omitzero"`
	Rate    *job.Rate   `json:"rate,omitempty"`
	Probes  []job.Probe `json:"probes,omitempty"`
	// Others are containers that the cluster added and that keep the job from completing.
	Others []string `json:"others,omitempty"`
	asked  bool     // Usage and Probes are from its agent, just now
	// lingers is true if its command has ended and its agent waits for somebody who fetches the output.
	lingers bool
}

// event is an event of the cluster about the job or one of its Pods.
type event struct {
	Last    time.Time `json:"last"`
	Type    string    `json:"type"`
	Reason  string    `json:"reason"`
	Object  string    `json:"object"`
	Message string    `json:"message"`
	Count   int32     `json:"count,omitempty"`
}

// gather puts together what cluster, agent and store know of the job.
func (o *Options) gather(ctx context.Context) (*description, error) {
	j, err := o.finder.FindRun(ctx, o.name)
	if err != nil {
		return nil, err
	}
	d := &description{Name: j.Name, Namespace: o.finder.Namespace, Attempts: []attempt{}}
	if j.Absent != nil {
		d.Missing = append(d.Missing, fmt.Sprintf("the job itself: %v; this is what is stored here", j.Absent))
	}
	for i := range j.Attempts {
		p := o.finder.PastRun(j, &j.Attempts[i])
		d.Namespace, d.Provider, d.Spec = p.Namespace, p.Provider, p.Spec
		for _, err := range p.Damaged {
			d.Missing = append(d.Missing, err.Error())
		}
		a := describeAttempt(p)
		if pod := j.Attempts[i].Pod; pod != nil {
			a.Others, a.lingers = pod.Others, pod.Left
		}
		d.Attempts = append(d.Attempts, a)
	}
	if j.Found == nil {
		d.conclude()
		return d, nil
	}
	d.Spec, d.Provider, d.Created = history.WithoutValues(j.Found.Spec), o.finder.Cluster.Name(), j.Found.Job.CreationTimestamp.Time
	if n := len(d.Attempts); n > 0 && !j.Found.Finished && j.Attempts[n-1].Pod != nil && j.Attempts[n-1].Pod.Running {
		if err := o.ask(ctx, j.Found, &d.Attempts[n-1]); err != nil {
			d.Missing = append(d.Missing, "what it uses now: "+err.Error())
		}
	}
	if err := o.events(ctx, d, j); err != nil {
		d.Missing = append(d.Missing, "events: "+err.Error())
	} else {
		d.eventsRead = true
	}
	d.WithoutEBPF = j.Found.Job.Annotations[kubernetes.AnnotationEBPF]
	d.Outcome = j.Found.Outcome
	if n := len(d.Attempts); n > 0 {
		d.Outcome = history.EndOf(j.Found, n, d.Attempts[n-1].Outcome)
	}
	d.State = stateOf(j.Found, d.Outcome, d.Attempts)
	return d, ctx.Err()
}

// describeAttempt returns what is known of an attempt without its agent.
func describeAttempt(p *history.PastRun) attempt {
	a := attempt{Name: p.Attempt, Phases: p.Phases, Running: p.Running, Outcome: p.Outcome}
	for _, e := range p.Phases {
		if e.Phase == job.Scheduled && !e.Waiting {
			a.Node = e.Detail
		}
	}
	if p.Outcome != nil {
		a.Usage, a.Probes = p.Outcome.Usage, p.Outcome.Probes
	}
	if n := len(p.Samples); n > 0 && a.Usage == nil {
		a.Usage, a.Sampled = &p.Samples[n-1].Usage, p.Samples[n-1].Time
	}
	return a
}

// conclude takes the state of a job that is not in the cluster from its last attempt.
func (d *description) conclude() {
	d.State = string(job.Unknown)
	if len(d.Attempts) == 0 {
		return
	}
	switch last := d.Attempts[len(d.Attempts)-1]; {
	case last.Outcome != nil:
		d.Outcome = last.Outcome
		d.State = string(d.Outcome.Cause)
	case last.Running && history.Started(last.Phases):
		d.State = "Running"
	case last.Running:
		d.State = "Starting"
	}
}

// stateOf returns a job's state in one word. outcome is how it has ended, if it has.
func stateOf(found *kubernetes.Found, outcome *job.Outcome, attempts []attempt) string {
	switch {
	case found.Finished:
		return string(outcome.Cause)
	case found.Job.Spec.Suspend != nil && *found.Job.Spec.Suspend:
		return "Suspended"
	case len(attempts) == 0:
		return "Pending"
	}
	switch last := attempts[len(attempts)-1]; {
	case last.Outcome != nil: // another attempt may follow
		return "Ending"
	case last.lingers:
		return "Lingering"
	case history.Started(last.Phases):
		return "Running"
	case last.Node != "":
		return "Starting"
	}
	return "Pending"
}

// ask adds to the running attempt what its agent says: what it uses, and which eBPF programs take part.
func (o *Options) ask(ctx context.Context, found *kubernetes.Found, a *attempt) error {
	switch may, err := o.finder.Cluster.MayTunnel(ctx); {
	case err != nil:
		return err
	case !may:
		return errors.New("the tunnel to its agent is forbidden (create pods/portforward)")
	}
	run, err := o.finder.Cluster.Attach(ctx, found, kubernetes.RunOptions{})
	if err != nil {
		return err
	}
	looking, enough := context.WithTimeoutCause(ctx, lookWait, fmt.Errorf("its agent was not reached within %s", lookWait))
	defer enough()
	look := &glance{attempt: a.Name, enough: enough}
	m := &follow.Meter{
		Job: run, Spec: found.Spec, Namespace: found.Job.Namespace, Interval: follow.FollowedEvery, Hasty: true, Tell: look.take,
		TurnedAway: func(f *coordinator.Fault) { o.finder.Note(follow.FaultNote(f)) },
	}
	err = m.Run(looking)
	return look.put(a, err)
}

// glance collects what a meter tells of one attempt, until that is enough.
type glance struct {
	attempt string
	enough  func() // is called once there are two samples

	mu      sync.Mutex
	samples []job.Sample // the last two
	probes  []job.Probe
	outcome *job.Outcome
	met     bool // the meter has told something
}

// take takes a reading; those of other attempts are dropped.
func (g *glance) take(r follow.Reading) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r.Attempt != g.attempt {
		return
	}
	g.met = true
	if r.Probes != nil {
		g.probes = r.Probes
	}
	if r.Outcome != nil {
		g.outcome = r.Outcome
	}
	if r.Sample == nil {
		return
	}
	if g.samples = append(g.samples, *r.Sample); len(g.samples) > 2 {
		g.samples = g.samples[1:]
	}
	if len(g.samples) == 2 {
		g.enough()
	}
}

// put adds to an attempt what the meter has told. It returns why there is no sample, which is err where nothing else
// is known.
func (g *glance) put(a *attempt, err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.outcome != nil {
		a.Running, a.Outcome, a.Usage, a.Sampled, a.Probes = false, g.outcome, g.outcome.Usage, time.Time{}, g.outcome.Probes
		return nil
	}
	if len(g.probes) > 0 {
		a.Probes = g.probes
	}
	n := len(g.samples)
	if n > 0 {
		a.Usage, a.Sampled, a.asked = &g.samples[n-1].Usage, g.samples[n-1].Time, true
	}
	if n > 1 {
		rate := job.RateBetween(g.samples[0], g.samples[1])
		a.Rate = &rate
	}
	switch {
	case n > 0:
		return nil
	case g.met:
		return errors.New("its agent has no sample yet")
	}
	return err
}

// events adds the cluster's events about the job and its last Pods, the oldest first.
func (o *Options) events(ctx context.Context, d *description, j *history.Job) error {
	objects := []fields.Set{{"involvedObject.kind": "Job", "involvedObject.uid": string(j.Found.Job.UID)}}
	for i := max(0, len(j.Attempts)-eventsOf); i < len(j.Attempts); i++ {
		if j.Attempts[i].Pod != nil {
			objects = append(objects, fields.Set{"involvedObject.kind": "Pod", "involvedObject.uid": j.Attempts[i].UID})
		}
	}
	for _, which := range objects {
		list, err := o.client.CoreV1().Events(j.Found.Job.Namespace).List(ctx, metav1.ListOptions{FieldSelector: which.String()})
		if err != nil {
			return kubernetes.Explain(err)
		}
		for i := range list.Items {
			d.Events = append(d.Events, describeEvent(&list.Items[i]))
		}
	}
	slices.SortStableFunc(d.Events, func(a, b event) int {
		return cmp.Or(a.Last.Compare(b.Last), strings.Compare(a.Object, b.Object))
	})
	return nil
}

// describeEvent returns an event with what others wrote made harmless for a terminal.
func describeEvent(e *corev1.Event) event {
	at := e.LastTimestamp.Time
	if at.IsZero() {
		at = e.EventTime.Time
	}
	return event{
		Last: at, Type: ui.Printable(e.Type), Reason: ui.Printable(e.Reason), Count: e.Count, Message: ui.Printable(e.Message),
		Object: strings.ToLower(e.InvolvedObject.Kind) + "/" + ui.Printable(e.InvolvedObject.Name),
	}
}
