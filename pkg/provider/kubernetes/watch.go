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

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

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
// is a *job.Failure that ended the start, or ctx's. It is called once.
func (r *Run) Watch(ctx context.Context, tell job.Observer) (*job.Outcome, error) {
	w := newWatcher(r, tell)
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
			outcome, err = w.take(ctx, u)
		case <-look.C:
			outcome, err = w.passed(ctx)
		case <-startTimeout.C:
			if !w.started {
				err = w.startTimedOut()
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

// watcher is one Watch: it takes in updates, has its course decide what they mean, and does what
// that takes.
type watcher struct {
	course
	run     *Run
	tell    job.Observer
	tunnels map[string]context.CancelFunc // to the agents of attempts that have not ended, by Pod name

	pulling   string       // the latest image
	blind     *job.Failure // why events can't be read
	unreached bool         // it was said that the agent can't be reached
	lines     Contact      // the API server's answers to what is doubted
}

func newWatcher(r *Run, tell job.Observer) *watcher {
	return &watcher{
		run: r, tell: tell, tunnels: map[string]context.CancelFunc{},
		course: course{
			reached: -1, attempts: map[string]*attempt{},
			terms: terms{
				namespace: r.provider.settings.Namespace, startTimeout: r.spec.StartTimeout, retries: r.spec.Retries,
				attached: r.found != nil, tunnelled: !r.noTunnel, onSuspension: r.suspendedWords(),
			},
		},
	}
}

// resume takes up a job under way. Attempts that have ended are not reported; the Job says
// whether another follows.
func (w *watcher) resume(found *Found) {
	for _, a := range found.Attempts {
		w.started = w.started || a.Started
		if a.Ended {
			w.attempts[a.Name] = &attempt{bound: true, ran: true, ended: true}
			w.last = a.Outcome
		}
	}
}

func (w *watcher) take(ctx context.Context, u any) (*job.Outcome, error) {
	switch u := u.(type) {
	case podUpdate:
		return w.pod(ctx, u.pod, u.gone)
	case jobUpdate:
		return w.job(ctx, u.job, u.gone)
	case *corev1.Event:
		w.event(ctx, u)
	case unreached:
		w.unreachable(u)
	case blindness:
		w.blind = explain.Error(u.err)
		if w.trouble.Waiting == "" && w.trouble.Failure == nil {
			w.keepNamed(explain.Verdict{Waiting: notKnown(w.blind)})
		}
	case answer:
		if lost := w.contact(u.err); lost != nil {
			return nil, lost
		}
	case refusal:
		// Under way it may pass, and doubt looks into it. But who attaches to a job under way
		// and never meets an agent would wait for nothing.
		if !w.started || w.run.found != nil && !w.run.met.Load() {
			return nil, explain.Error(u.err)
		}
	}
	return w.passed(ctx)
}

func (w *watcher) pod(ctx context.Context, pod *corev1.Pod, gone bool) (*job.Outcome, error) {
	r, now := w.run, time.Now()
	a := w.attempts[pod.Name]
	if a == nil {
		if !metav1.IsControlledBy(pod, r.job) { // of an earlier job of the same name
			return w.passed(ctx)
		}
		a = w.begin(pod.Name, now)
		r.watchEvents(ctx, "Pod", pod.Name)
	}
	r.remember(pod)
	do := w.see(a, pod, gone, now)
	w.carryOut(ctx, pod, do)
	if do.unsure {
		a.suspended = r.isSuspended(ctx)
	}
	then := goesOn
	switch {
	case do.ended:
		o := r.provider.withWords(ctx, pod, w.end(a, pod))
		o.Attempt = pod.Name
		then = w.conclude(a, pod, o)
	case do.vanished:
		then = w.vanish(a, pod, now)
	}
	switch then {
	case isOver:
		return w.last, nil
	case startFailed:
		return nil, r.provider.startFailure(pod, w.last)
	}
	return w.passed(ctx)
}

// carryOut does what an update of a Pod calls for at once.
func (w *watcher) carryOut(ctx context.Context, pod *corev1.Pod, do step) {
	for _, e := range do.report {
		w.tell.Report(e)
	}
	if do.dial {
		w.tunnels[pod.Name] = w.run.dial(ctx, pod)
	}
	if do.jobEnded != "" && w.tell.JobEnded != nil {
		w.tell.JobEnded(pod.Name, do.jobEnded)
	}
	if do.neverStarted && w.tell.NeverStarted != nil {
		w.tell.NeverStarted(pod.Name)
	}
	if stop := w.tunnels[pod.Name]; stop != nil && (do.ended || do.vanished) {
		stop()
		delete(w.tunnels, pod.Name)
	}
	if do.explain {
		w.keepNamed(explain.Pod(pod))
	}
}

// remember keeps what Delete and Keeps need of a Pod of the job.
func (r *Run) remember(pod *corev1.Pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pods[pod.Name] = true
	r.others = othersIn(pod)
}

// dial keeps a tunnel to the agent of a Pod until it is stopped, or Close.
func (r *Run) dial(ctx context.Context, pod *corev1.Pod) (stop context.CancelFunc) {
	return r.work.Go(ctx, func(ctx context.Context) {
		if err := r.provider.dialer.Keep(ctx, pod, r.tunnel, r.tried(ctx, pod.Name)); err != nil {
			r.send(ctx, refusal{err})
		}
	})
}

func (w *watcher) job(ctx context.Context, j *batchv1.Job, gone bool) (*job.Outcome, error) {
	if j.UID != w.run.job.UID { // an earlier one of the same name
		return w.passed(ctx)
	}
	if !gone {
		w.reach(job.Submitted, w.run.provider.Describe())
		if w.suspend(isSuspended(j)) && w.suspended {
			w.keepNamed(suspendedVerdict(j))
		}
	}
	if outcome := w.seeJob(j, gone, time.Now()); outcome != nil {
		return outcome, nil
	}
	return w.passed(ctx)
}

func (w *watcher) event(ctx context.Context, e *corev1.Event) {
	if said := nodeEvent(e); said != "" && w.started && w.isOpen(e) {
		w.tell.Report(job.Event{Phase: job.Running, Time: time.Now(), Waiting: true, Detail: said})
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
		if strings.Contains(e.InvolvedObject.FieldPath, "{"+manifest.JobContainer+"}") {
			detail := "pulled"
			if strings.Contains(e.Message, "already present") {
				detail = "present"
			}
			w.reach(job.Pulled, detail)
		}
		return
	}
	v := explain.Event(e)
	if v.Failure != nil && v.Waiting == v.Failure.Message { // it may pass, and names no object of the cluster's yet
		v.Failure = w.run.provider.nameWebhook(ctx, v.Failure)
		v.Waiting = v.Failure.Message
	}
	if v.Waiting != "" || v.Failure != nil {
		w.keepNamed(v)
	}
}

// quoted is the first quoted word of an event's message: the image.
func quoted(message string) string {
	_, rest, _ := strings.Cut(message, `"`)
	image, _, _ := strings.Cut(rest, `"`)
	return explain.OneLine(image)
}

// keepNamed remembers what is wrong, with the provider's name in its hint.
func (w *watcher) keepNamed(v explain.Verdict) { w.keep(w.run.provider.named(v), time.Now()) }

// notKnown is what is said of a start of which only events could tell more.
func notKnown(blind *job.Failure) string { return "why is not known, " + blind.Message }

// passed acts on what time alone brings about.
func (w *watcher) passed(ctx context.Context) (*job.Outcome, error) {
	now := time.Now()
	d := w.isGivenUp(now)
	switch {
	case d.ends():
	case w.started:
		d = w.underWay(now)
	default:
		w.lookAtNode(ctx, now)
		d = w.starting(now)
	}
	if d.say != "" {
		w.tell.Report(job.Event{Phase: d.phase, Time: now, Detail: d.say, Waiting: true})
	}
	if d.failure != nil {
		return nil, d.failure
	}
	return d.outcome, nil
}

// startTimedOut ends a start that took too long, with what kept it.
func (w *watcher) startTimedOut() error {
	limit := w.startTimeout
	removed := ""
	if w.attached { // it is not ours to remove
		removed = fmt.Sprintf("it will not start any more: {hodei} jobs -n %s removes it if the cluster does not", w.run.job.Namespace)
	}
	if f := w.trouble.Failure; f != nil {
		return &job.Failure{Cause: f.Cause, Message: fmt.Sprintf("%s (waited %s)", f.Message, limit), Hint: cmp.Or(removed, f.Hint)}
	}
	f := &job.Failure{Cause: job.StartTimeout, Message: fmt.Sprintf("the command did not start within %s", limit),
		Hint: "allow more with --start-timeout, or see: kubectl get events -n " + w.run.provider.settings.Namespace}
	switch {
	case w.trouble.Waiting != "":
		f.Message += ": " + w.trouble.Waiting
		if w.blind != nil && w.trouble.Waiting == notKnown(w.blind) {
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
	if w.reaches(p) {
		w.tell.Report(job.Event{Phase: p, Time: time.Now(), Detail: detail})
	}
}
