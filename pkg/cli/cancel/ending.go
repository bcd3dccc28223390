package cancel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/signals"
)

const (
	// agentWait is how long the agent of a job is waited for before the job is ended without it. A tunnel takes 0.1 s,
	// and an agent that was just started some seconds more.
	agentWait = 10 * time.Second
	// youngWait is the same for an agent of which the Pod does not say yet that it runs. It is there 3 s after its Pod
	// has got a node, and if its image has to be pulled nothing is lost.
	youngWait = 3 * time.Second
	// endMargin is how much longer than its grace a command is waited for. The agent kills it at the grace, and its end
	// comes within a second; without the agent it comes from the kubelet, by way of the API server.
	endMargin = 5 * time.Second
	// podMargin is what the Pod of a job has on top of the job's grace. It counts where the kubelet ends the command.
	podMargin = 15 * time.Second
	// retriesWait is how long a job is waited for that may make no other attempt. The job controller ends it within a
	// second.
	retriesWait = 10 * time.Second
)

// cancel ends one job in the way that fits how it was found, and prints it.
func (o *Options) cancel(ctx context.Context, found *kubernetes.Found) error {
	w, why := decide(found, o.Force)
	switch {
	case w == leaveIt:
		o.Note(why)
		return nil
	case o.DryRun != command.DryRunNone:
		return o.rehearse(ctx, found, w)
	case w == askAgent:
		return o.ask(ctx, found)
	case w == endRetries:
		return o.endRetries(ctx, found)
	case w == deleteNow:
		return o.delete(ctx, found, kubernetes.DeleteOptions{Cancelled: true, AtOnce: true}, planned[deleteNow])
	}
	return o.deleteUnstarted(ctx, found)
}

// planned is what is said of each way; see planning.
var planned = map[way]string{
	askAgent: " through its agent", endRetries: ": no other attempt follows", deleteIt: " by deleting it: its command has not started",
	deleteNow: " by deleting it at once",
}

// rehearse says how a job would be ended; where that is by deleting it, the API server may check it.
func (o *Options) rehearse(ctx context.Context, found *kubernetes.Found, w way) error {
	if o.DryRun == command.DryRunServer && (w == deleteIt || w == deleteNow) {
		if err := o.Cluster.Delete(ctx, found, kubernetes.DeleteOptions{DryRun: true}); err != nil {
			return err
		}
	}
	return o.Print(found.Job, planning(found, w))
}

// planning is what is printed of a job that is ended in one of these ways.
func planning(found *kubernetes.Found, w way) string {
	if w == deleteIt && found.Suspended() != nil { // a command of it may have run before
		return " by deleting it: it is suspended, and no command of it runs"
	}
	return planned[w]
}

// ask has the agent of the last attempt end the command. Without a way to the agent the cluster does it.
func (o *Options) ask(ctx context.Context, found *kubernetes.Found) error {
	outcome, err := o.order(ctx, found)
	switch {
	case err == nil && outcome.Cause != job.Cancelled:
		o.Note(fmt.Sprintf("job %s ended by itself: %s", found.Spec.Name, outcome.Summary()))
		return nil
	case err == nil:
		return o.Print(found.Job, " through its agent: the command "+ended(outcome))
	case errors.Is(err, follow.ErrNoCommand):
		return o.deleteUnstarted(ctx, found)
	case errors.Is(err, follow.ErrRuns):
		return o.goesOn(found, o.grace(found)+endMargin)
	case errors.Is(err, follow.ErrNotMet):
		o.Note(fmt.Sprintf("job %s ended before its agent could be asked", found.Spec.Name))
		return nil
	case ctx.Err() != nil || errors.Is(err, kubernetes.ErrLost):
		return err
	}
	why := err.Error()
	if errors.Is(err, follow.ErrLate) {
		why = fmt.Sprintf("its agent was not reached within %s", waitFor(lastAttempt(found)))
	}
	if !lastAttempt(found).Started { // as far as the Pod says
		return o.delete(ctx, found, kubernetes.DeleteOptions{Cancelled: true}, " by deleting it: "+why)
	}
	return o.deleteRunning(ctx, found, why)
}

// order tells the agent, and returns how the command ended.
func (o *Options) order(ctx context.Context, found *kubernetes.Found) (*job.Outcome, error) {
	run, err := o.Cluster.Attach(ctx, found, kubernetes.RunOptions{})
	if err != nil {
		return nil, err
	}
	defer run.Close()
	if err := run.StopRetrying(ctx); err != nil { // before: the next attempt comes soon
		return nil, err
	}
	order := &follow.Order{
		Job: run, Namespace: o.Cluster.Namespace(), Name: found.Spec.Name, JobUID: run.UID(), AttemptUID: lastAttempt(found).UID,
		Wait: waitFor(lastAttempt(found)), TurnedAway: func(fault *coordinator.Fault) { o.Note(follow.FaultNote(fault)) },
	}
	cancel := &hodeipb.Cancel{}
	if o.Grace != nil {
		cancel.Grace = durationpb.New(*o.Grace)
	}
	return order.Cancel(ctx, cancel, o.grace(found)+endMargin)
}

// waitFor is how long the agent of an attempt is waited for.
func waitFor(a *kubernetes.Attempt) time.Duration {
	if a.MayRun {
		return youngWait
	}
	return agentWait
}

// grace is the time between SIGTERM and SIGKILL.
func (o *Options) grace(found *kubernetes.Found) time.Duration {
	if o.Grace != nil {
		return *o.Grace
	}
	return found.Spec.Grace
}

// ended says how a cancelled command did.
func ended(o *job.Outcome) string {
	switch {
	case o.Signal == syscall.SIGKILL:
		return "was killed after its grace"
	case o.Signal != 0:
		return "ended by " + signals.LinuxName(int32(o.Signal))
	}
	return fmt.Sprintf("ended with exit code %d", o.Code)
}

// goesOn is the error of a command that has not ended in the time that it had.
func (o *Options) goesOn(found *kubernetes.Found, waited time.Duration) error {
	name := found.Spec.Name
	return &job.Hinted{
		Err:  fmt.Errorf("job %s was asked to stop %s ago and still runs", name, job.Duration(waited)),
		Hint: "{hodei} cancel --force " + name,
	}
}

// deleteUnstarted deletes a job of which no command has started.
func (o *Options) deleteUnstarted(ctx context.Context, found *kubernetes.Found) error {
	return o.delete(ctx, found, kubernetes.DeleteOptions{Cancelled: true, AtOnce: true}, planning(found, deleteIt))
}

// delete deletes a job without waiting for its Pods, and prints it.
func (o *Options) delete(ctx context.Context, found *kubernetes.Found, options kubernetes.DeleteOptions, how string) error {
	if err := o.Cluster.Delete(ctx, found, options); err != nil {
		return err
	}
	return o.Print(found.Job, how)
}

// deleteRunning deletes a job whose command runs, and waits for its end by what the API server says.
func (o *Options) deleteRunning(ctx context.Context, found *kubernetes.Found, why string) error {
	run, err := o.Cluster.Attach(ctx, found, kubernetes.RunOptions{NoTunnel: true})
	if err != nil {
		return err
	}
	defer run.Close()
	if err := o.Cluster.Delete(ctx, found, kubernetes.DeleteOptions{Cancelled: true, Grace: o.Grace}); err != nil {
		return err
	}
	wait := o.grace(found) + endMargin
	if o.Grace == nil {
		wait += podMargin
	}
	if err := over(ctx, run, wait); errors.Is(err, follow.ErrRuns) {
		return o.goesOn(found, wait)
	} else if err != nil {
		return err
	}
	return o.Print(found.Job, " by deleting it: "+why)
}

// endRetries ends a job between two attempts: it stays, with what its attempts have left.
func (o *Options) endRetries(ctx context.Context, found *kubernetes.Found) error {
	run, err := o.Cluster.Attach(ctx, found, kubernetes.RunOptions{NoTunnel: true})
	if err != nil {
		return err
	}
	defer run.Close()
	if err := run.StopRetrying(ctx); err != nil {
		return err
	}
	if last := lastAttempt(found); last != nil && last.Left { // the Job ends when the agent does
		return o.Print(found.Job, planned[endRetries])
	}
	switch err := over(ctx, run, retriesWait); {
	case errors.Is(err, follow.ErrRuns): // an attempt that nothing counts keeps it
		return o.delete(ctx, found, kubernetes.DeleteOptions{Cancelled: true, AtOnce: true},
			" by deleting it: it would have tried again")
	case err != nil:
		return err
	}
	return o.Print(found.Job, planned[endRetries])
}

// over waits for the end of a job by the API server's word, for as long as wait. The error is follow.ErrRuns if it has
// not ended by then, or why that is not known.
func over(ctx context.Context, run *kubernetes.Run, wait time.Duration) error {
	watching, stop := context.WithTimeoutCause(ctx, wait, follow.ErrRuns)
	defer stop()
	outcome, err := run.Watch(watching, job.Observer{Report: func(job.Event) {}})
	if outcome != nil || ctx.Err() == nil && watching.Err() == nil && isFailure(err) { // it ended before any command ran
		return nil
	}
	return cmp.Or(context.Cause(watching), err)
}

// isFailure reports whether err is how a job ended, and not that the cluster is out of reach.
func isFailure(err error) bool {
	_, failure := errors.AsType[*job.Failure](err)
	return failure && !errors.Is(err, kubernetes.ErrLost)
}
