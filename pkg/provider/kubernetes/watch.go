package kubernetes

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// sayAfter is how long a start must have been waiting before a person is told
// why: the first seconds are full of states that pass.
const sayAfter = 2 * time.Second

// goneWait is how long a Pod that was deleted under way is given to be followed
// by another, or by the end of its Job.
const goneWait = 5 * time.Second

// Updates that the informers send to Watch, besides *corev1.Event.
type (
	podUpdate struct {
		pod  *corev1.Pod
		gone bool
	}
	jobUpdate struct {
		job  *batchv1.Job
		gone bool
	}
	// refusal is an error that watching or dialling can't overcome.
	refusal struct{ err error }
	// blindness is why events can't be read.
	blindness struct{ err error }
)

// Watch reports the phases of the start and returns how the job ended, as the
// cluster sees it; the coordinator may know more, and know it sooner. An error
// is a *job.Failure that ended the start, or ctx's. It is called once. With
// NoTunnel, where no agent says so, it reports of each attempt that its command
// runs, with the Pod's name.
func (r *Run) Watch(ctx context.Context, report func(job.Event)) (*job.Outcome, error) {
	w := &watcher{run: r, report: report, reached: -1, attempts: map[string]*attempt{}}
	w.reach(job.Submitted, r.provider.Describe())
	if r.found != nil {
		if r.found.Finished {
			return r.found.Outcome, nil
		}
		w.resume(r.found)
	}
	startTimeout := time.NewTimer(r.startLeft(time.Now()))
	defer startTimeout.Stop()
	look := time.NewTicker(500 * time.Millisecond) // for graces that pass without an update
	defer look.Stop()
	held := false
	for {
		var outcome *job.Outcome
		var err error
		select {
		case u := <-r.updates:
			outcome, err = w.take(u)
		case <-look.C:
			outcome, err = w.passed()
		case <-startTimeout.C:
			if !w.started {
				err = w.startTimeout()
			}
		case <-ctx.Done():
			err = ctx.Err()
		}
		if outcome != nil || err != nil {
			return outcome, err
		}
		// A queue may take days to let it go, and that is no start that hangs.
		switch {
		case w.suspended && !held:
			startTimeout.Stop()
		case !w.suspended && held:
			startTimeout.Reset(r.spec.StartTimeout)
		}
		held = w.suspended
	}
}

// leastStart is how long a command waits for a start whose timeout is over when the command
// begins: long enough to find out what keeps the start.
const leastStart = 5 * time.Second

// startLeft is what is left of the start timeout: all of it for a job that was just made.
func (r *Run) startLeft(now time.Time) time.Duration {
	if r.found == nil || r.job.Status.StartTime == nil || wasSuspended(r.job) || len(r.found.Attempts) > 1 || r.spec.Retries > 0 {
		return r.spec.StartTimeout
	}
	ahead, _ := r.provider.clock.Ahead()
	return max(leastStart, r.job.Status.StartTime.Add(r.spec.StartTimeout).Sub(now.Add(ahead)))
}

// watcher is the state of one Watch.
type watcher struct {
	run    *Run
	report func(job.Event)

	attempts map[string]*attempt // by Pod name
	reached  job.Phase           // of the latest attempt
	pulling  string              // the latest image
	started  bool                // the job's container ran once

	suspended bool // the Job is, by a queue or a person: no Pod is made until it is resumed

	blind *job.Failure // why events can't be read

	trouble verdict // what keeps the start, and since when
	since   time.Time
	said    string

	last   *job.Outcome // of the latest attempt that ended
	goneAt time.Time    // when a Pod vanished with nothing said
	over   string       // why there will be no other attempt, and since when
	overAt time.Time

	restless  time.Time // since when the next attempt is waited for
	nodeSeen  time.Time // when the node was looked at that does not take the Pod up
	unreached bool      // it was said that the agent can't be reached

	lines Contact // the API server's answers to what is doubted
}

type attempt struct {
	bound, ran, ended bool
	seen              time.Time          // when its Pod was, first
	told              bool               // its agent, that the job's container has ended
	suspended         bool               // its Job was, under way
	overdue           time.Time          // when it has to have ended that was told to
	disrupted         job.Cause          // why it was
	runsSince         time.Time          // of the agent, as we saw it
	others            []string           // that run on though it has ended,
	keptSince         time.Time          // and since when that is so
	stop              context.CancelFunc // of its tunnel
}

// resume takes up a job under way. Of an attempt that has ended before there is
// nothing to report, and whether another follows the Job says.
func (w *watcher) resume(found *Found) {
	for _, a := range found.Attempts {
		w.started = w.started || a.ran
		if a.Ended {
			w.attempts[a.Name] = &attempt{bound: true, ran: true, ended: true, stop: func() {}}
			w.last = a.Outcome
		}
	}
}

func (w *watcher) take(u any) (*job.Outcome, error) {
	switch u := u.(type) {
	case podUpdate:
		return w.pod(u.pod, u.gone)
	case jobUpdate:
		return w.job(u.job, u.gone)
	case *corev1.Event:
		w.event(u)
	case unreached:
		w.unreachable(u)
	case blindness:
		w.blind = Explain(u.err)
		if w.trouble.waiting == "" && w.trouble.failure == nil {
			w.keep(verdict{waiting: notKnown(w.blind)})
		}
	case answer:
		if lost := w.contact(u.err); lost != nil {
			return nil, lost
		}
	case refusal:
		// Under way it may pass, and doubt looks into it. But who attaches to a job under way
		// and never meets an agent would wait for nothing.
		if !w.started || w.run.found != nil && !w.run.met.Load() {
			return nil, Explain(u.err)
		}
	}
	return w.passed()
}

func (w *watcher) pod(pod *corev1.Pod, gone bool) (*job.Outcome, error) {
	r := w.run
	a := w.attempts[pod.Name]
	if a == nil {
		if !metav1.IsControlledBy(pod, r.job) { // of an earlier job of the same name
			return w.passed()
		}
		r.mu.Lock()
		r.pods[pod.Name] = true
		r.mu.Unlock()
		a = &attempt{seen: time.Now(), stop: func() {}}
		w.attempts[pod.Name] = a
		w.reached, w.goneAt, w.restless = job.Submitted, time.Time{}, time.Time{}
		w.trouble = verdict{} // what kept it from being made is over
		r.watchEvents("Pod", pod.Name)
	}
	if pod.Spec.NodeName != "" && !a.bound {
		a.bound = true
		w.reach(job.Scheduled, pod.Spec.NodeName)
		if !r.provider.NoTunnel {
			a.stop = r.dial(pod)
		}
	}
	others := othersIn(pod)
	r.mu.Lock()
	r.others = others
	r.mu.Unlock()
	if a.runsSince.IsZero() && agentRuns(pod) {
		a.runsSince = time.Now()
	}
	if hasRun(pod) && !a.ran {
		a.ran, w.started = true, true
		if r.provider.NoTunnel {
			w.report(job.Event{Phase: job.Running, Time: time.Now(), Detail: pod.Name})
		}
	}
	a.toldToEnd(pod, time.Now())
	if t := commandEnd(pod); t != nil && !a.told && r.JobEnded != nil && agentRuns(pod) {
		a.told = true
		r.JobEnded(pod.Name, endedHow(t))
	}
	ended := hasEnded(pod)
	if a.others = nil; ended && !gone {
		a.others = others
	}
	if ended && !a.ended && NeverStarted(pod) { // what ran was the launcher
		a.ran, w.started = false, w.hasRun(pod.Name)
		if r.NeverStarted != nil {
			r.NeverStarted(pod.Name)
		}
	}
	if (ended || gone) && !a.ended && pod.DeletionTimestamp != nil && !a.suspended {
		a.suspended = r.isSuspended() // the Pod's end may be told before the Job's suspension
	}
	switch {
	case ended && !a.ended:
		a.ended = true
		a.stop()
		w.last = podOutcome(pod)
		if a.suspended {
			w.last = suspendedOutcome(pod, r.suspendedWords())
		}
		w.last = r.provider.withWords(r.ctx, pod, w.last)
		w.last.Attempt = pod.Name
		if w.mayFollow(pod, a) {
			return w.passed()
		}
		if !w.started {
			if v := r.provider.named(explainPod(pod)); v.failure != nil {
				v.failure.NeverStarted = true
				return nil, v.failure
			}
			if r.found != nil && w.last.NeverStarted { // and so the Job has failed
				return w.last, nil
			}
			return nil, r.provider.neverStartedFailure(pod, w.last)
		}
		if w.last.Succeeded() || r.spec.Retries == 0 {
			return w.last, nil
		}
	case gone && !a.ended:
		a.ended = true
		a.stop()
		cause, _ := disruption(pod)
		w.last = &job.Outcome{Cause: cause, Message: fmt.Sprintf("Pod %s was deleted under way", pod.Name)}
		if w.last.Cause == "" {
			w.last.Cause = job.Unknown
		}
		if w.over != "" {
			w.last.Message = w.over
		}
		if a.suspended {
			w.last = &job.Outcome{Cause: job.Preempted, Message: r.suspendedWords()}
			if w.started && r.spec.Retries == 0 {
				return w.last, nil
			}
		}
		if r.spec.Retries == 0 { // else the Job says whether another follows, after a back-off
			w.goneAt = time.Now()
		}
	case !ended && !w.runs():
		w.keep(explainPod(pod))
	}
	return w.passed()
}

// hasRun tells that the command ran in another attempt than the one of that name.
func (w *watcher) hasRun(except string) bool {
	for name, a := range w.attempts {
		if name != except && a.ran {
			return true
		}
	}
	return false
}

// mayFollow tells that the Job says whether another attempt follows one that ended before
// any command ran. Who submitted a job without retries takes it for the end: it is told
// at once, and the job is removed before the cluster, which would try again, does.
func (w *watcher) mayFollow(pod *corev1.Pod, a *attempt) bool {
	if w.started && !NeverStarted(pod) {
		return false
	}
	r := w.run
	counted := agentEnd(pod) != nil && agentEnd(pod).ExitCode == contract.ExitNeverStarted
	return a.suspended || r.spec.Retries > 0 && (isDisrupted(pod) || counted) || r.found != nil && counted
}

// dial keeps a tunnel to the agent of a Pod until it is stopped, or Close.
func (r *Run) dial(pod *corev1.Pod) (stop context.CancelFunc) {
	ctx, stop := context.WithCancel(r.ctx)
	r.work.Go(func() {
		if err := r.provider.dialer.keep(ctx, pod, r.tunnel, r.tried(ctx, pod.Name)); err != nil {
			r.send(refusal{err})
		}
	})
	return stop
}

func (w *watcher) job(j *batchv1.Job, gone bool) (*job.Outcome, error) {
	if j.UID != w.run.job.UID { // an earlier one of the same name
		return w.passed()
	}
	if gone {
		w.over, w.overAt = fmt.Sprintf("job %s was deleted", j.Name), time.Now()
		return w.passed()
	}
	w.reach(job.Submitted, w.run.provider.Describe())
	w.suspend(j)
	outcome, over := jobEnd(j)
	if outcome != nil {
		return outcome, nil
	}
	if over != "" && w.over == "" {
		w.over, w.overAt = over, time.Now()
	}
	return w.passed()
}

func (w *watcher) hasOpenAttempt() bool {
	for _, a := range w.attempts {
		if !a.ended {
			return true
		}
	}
	return false
}

// isOpen tells that an event is of the Pod of an attempt that has not ended.
func (w *watcher) isOpen(e *corev1.Event) bool {
	a := w.attempts[e.InvolvedObject.Name]
	return a != nil && !a.ended
}

func (w *watcher) event(e *corev1.Event) {
	if said := nodeEvent(e); said != "" && w.started && w.isOpen(e) {
		w.report(job.Event{Phase: job.Running, Time: time.Now(), Waiting: true, Detail: said})
	}
	if w.runs() || e.InvolvedObject.Kind == "Job" && e.InvolvedObject.UID != w.run.job.UID {
		return // events live for an hour: of an earlier job of the same name
	}
	switch e.Reason {
	case "Pulling":
		w.pulling = quoted(e.Message)
		w.reach(job.Pulling, w.pulling)
		return
	case "Pulled":
		if strings.Contains(e.InvolvedObject.FieldPath, "{"+jobContainer+"}") {
			detail := "pulled"
			if strings.Contains(e.Message, "already present") {
				detail = "present"
			}
			w.reach(job.Pulled, detail)
		}
		return
	}
	v := explainEvent(e)
	if v.failure != nil && v.waiting == v.failure.Message { // it may pass, and names no object of the cluster's yet
		v.failure = w.run.provider.nameWebhook(w.run.ctx, v.failure)
		v.waiting = v.failure.Message
	}
	if v.waiting != "" || v.failure != nil {
		w.keep(v)
	}
}

// quoted is the first quoted word of an event's message: the image.
func quoted(message string) string {
	_, rest, _ := strings.Cut(message, `"`)
	image, _, _ := strings.Cut(rest, `"`)
	return oneLine(image)
}

// keep remembers what is wrong, and since when.
func (w *watcher) keep(v verdict) {
	v = w.run.provider.named(v)
	if v.waiting == "" && v.failure == nil {
		if w.trouble.failure != nil {
			w.trouble = verdict{}
		}
		return
	}
	if v.failure == nil && w.trouble.failure != nil {
		return // an event's complaint says less than the Pod's state
	}
	if !sameTrouble(v, w.trouble) {
		w.since = time.Now()
	}
	w.trouble = v
}

// notKnown is what is said of a start of which only events could tell more.
func notKnown(blind *job.Failure) string { return "why is not known, " + blind.Message }

// sameTrouble tells a change of the cause from a change of its wording: the
// kubelet alternates between two for one image that it can't pull.
func sameTrouble(a, b verdict) bool {
	if a.failure != nil && b.failure != nil {
		return a.failure.Cause == b.failure.Cause
	}
	return a.waiting == b.waiting
}

// passed acts on what time alone brings about.
func (w *watcher) passed() (*job.Outcome, error) {
	if w.over != "" && !w.hasOpenAttempt() {
		// What is said of the Pods comes another way, and may be late.
		switch {
		case w.last != nil:
			return w.last, nil
		case time.Since(w.overAt) > goneWait:
			return &job.Outcome{Cause: job.Unknown, Message: w.over}, nil
		}
	}
	if w.suspended && !w.started { // its Pod is deleted for that
		w.goneAt = time.Time{}
	}
	if !w.goneAt.IsZero() && time.Since(w.goneAt) > goneWait {
		if !w.started {
			return nil, &job.Failure{Cause: w.last.Cause, Message: w.last.Message, Hint: "kubectl get events -n " + w.run.provider.settings.namespace}
		}
		return w.last, nil
	}
	if o := w.overdue(time.Now()); o != nil {
		if w.started {
			return o, nil
		}
		return nil, &job.Failure{Cause: o.Cause, Message: o.Message, Hint: "kubectl get pods,nodes -o wide -n " + w.run.provider.settings.namespace}
	}
	if w.started {
		for _, a := range w.attempts {
			if o := w.kept(a); o != nil {
				return o, nil
			}
		}
		return nil, w.next(time.Now())
	}
	w.lookAtNode(time.Now())
	t, age := w.trouble, time.Since(w.since)
	if t.failure != nil && (t.grace == 0 || age >= t.grace) {
		f := *t.failure
		if t.grace > 0 {
			f.Message += fmt.Sprintf(" (waited %s)", t.grace)
		}
		return nil, &f
	}
	if t.waiting != "" && t.waiting != w.said && age >= max(sayAfter, t.after) {
		w.said = t.waiting
		w.report(job.Event{Phase: w.reached + 1, Time: time.Now(), Detail: t.waiting, Waiting: true})
	}
	return nil, nil
}

// startTimeout ends a start that took too long, with what kept it.
func (w *watcher) startTimeout() error {
	limit := w.run.spec.StartTimeout
	removed := ""
	if w.run.found != nil { // it is not ours to remove
		removed = fmt.Sprintf("it will not start any more: {hodei} jobs -n %s removes it if the cluster does not", w.run.job.Namespace)
	}
	if f := w.trouble.failure; f != nil {
		return &job.Failure{Cause: f.Cause, Message: fmt.Sprintf("%s (waited %s)", f.Message, limit), Hint: cmp.Or(removed, f.Hint)}
	}
	f := &job.Failure{Cause: job.StartTimeout, Message: fmt.Sprintf("the command did not start within %s", limit),
		Hint: "allow more with --start-timeout, or see: kubectl get events -n " + w.run.provider.settings.namespace}
	switch {
	case w.trouble.waiting != "":
		f.Message += ": " + w.trouble.waiting
		if w.blind != nil && w.trouble.waiting == notKnown(w.blind) {
			f.Hint = w.blind.Hint
		}
	case w.reached == job.Pulling:
		f.Message += ": still pulling " + w.pulling
	case w.run.met.Load():
		f.Message += ": the agent runs, but its postStart hook, which copies the launcher, has not returned"
	}
	f.Hint = cmp.Or(removed, f.Hint)
	return f
}

// reach reports a phase once.
func (w *watcher) reach(p job.Phase, detail string) {
	if p <= w.reached || w.started {
		return
	}
	w.reached = p
	w.report(job.Event{Phase: p, Time: time.Now(), Detail: detail})
}
