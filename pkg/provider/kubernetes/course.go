package kubernetes

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

// sayAfter is how long a start must have been waiting before a person is told
// why: the first seconds are full of states that pass.
const sayAfter = 2 * time.Second

// goneWait is how long a Pod that was deleted under way is given to be followed
// by another, or by the end of its Job.
const goneWait = 5 * time.Second

// course is what a watcher knows of its job. Its methods decide what an update, or the time,
// means. They change nothing but the course and do no I/O: the watcher carries out what they
// return.
type course struct {
	terms

	attempts map[string]*attempt // by Pod name
	reached  job.Phase           // the latest attempt's
	started  bool                // the job's container ran in some attempt

	suspended bool // the Job is suspended, by a queue or a person: no Pod is made until it is resumed

	trouble explain.Verdict // what keeps the start
	since   time.Time       // when trouble began
	said    string          // what was last reported of trouble

	last   *job.Outcome // the outcome of the latest attempt that ended
	goneAt time.Time    // when a Pod vanished before its end was seen; zero: none has
	over   string       // why no other attempt will follow; "": one may
	// cancelled tells that the Job was deleted because somebody cancelled the job.
	cancelled bool
	overAt    time.Time // since when

	restless time.Time // since when the next attempt is waited for; zero: it is not
	nodeSeen time.Time // when we last asked for the node that has not taken up the Pod
}

// terms are what is known of a job before it is watched. They do not change.
type terms struct {
	namespace    string
	startTimeout time.Duration
	retries      int32
	attached     bool   // the job was there before us; false: we have submitted it
	tunnelled    bool   // its agents are dialled, and say when the command runs
	onSuspension string // what to say of the job when it is suspended under way
}

// attempt is what is known of one Pod of the job.
type attempt struct {
	bound     bool      // the Pod has a node
	ran       bool      // the job's container ran, and no agent denies that the command did
	ended     bool      // both of our containers have ended, or the Pod is gone
	seen      time.Time // when we first saw the Pod
	runsSince time.Time // when we first saw the agent run; zero: not yet
	told      bool      // the agent was told that the job's container has ended
	suspended bool      // the Job was suspended under way
	overdue   time.Time // by when the Pod must have ended, since it was told to; zero: it was not
	disrupted job.Cause // why the Pod was told to end; "": not known
	others    []string  // containers of others that still run in a Pod that has ended
	keptSince time.Time // when a person was told of them; zero: not yet
}

// step is what is to be done about an update of a Pod.
type step struct {
	report       []job.Event
	dial         bool   // open a tunnel to its agent
	jobEnded     string // tell its agent that the job's container has ended, and how; "": do not
	neverStarted bool   // tell that its command never started
	unsure       bool   // ask whether the Job is suspended: the Pod's end may be seen first
	ended        bool   // the attempt has ended, and its Pod says how
	vanished     bool   // the Pod is gone, and its end was not seen
	explain      bool   // find out what keeps the Pod from starting
}

// begin adds the attempt of a Pod that is seen for the first time. What kept the Pod from being
// made is over.
func (c *course) begin(pod string, now time.Time) *attempt {
	a := &attempt{seen: now}
	c.attempts[pod] = a
	c.reached, c.goneAt, c.restless, c.trouble = job.Submitted, time.Time{}, time.Time{}, explain.Verdict{}
	return a
}

// see takes in an update of a Pod of the attempt a; gone: the Pod was deleted.
func (c *course) see(a *attempt, pod *corev1.Pod, gone bool, now time.Time) step {
	var do step
	if pod.Spec.NodeName != "" && !a.bound {
		a.bound, do.dial = true, c.tunnelled
		if c.reaches(job.Scheduled) {
			do.report = append(do.report, job.Event{Phase: job.Scheduled, Time: now, Detail: pod.Spec.NodeName})
		}
	}
	if a.runsSince.IsZero() && explain.AgentRuns(pod) {
		a.runsSince = now
	}
	if hasRun(pod) && !a.ran {
		a.ran, c.started = true, true
		if !c.tunnelled {
			do.report = append(do.report, job.Event{Phase: job.Running, Time: now, Detail: pod.Name})
		}
	}
	a.toldToEnd(pod, now)
	if t := commandEnd(pod); t != nil && !a.told && explain.AgentRuns(pod) {
		a.told, do.jobEnded = true, endedHow(t)
	}
	c.seeEnd(a, pod, gone, &do)
	return do
}

// seeEnd completes see with what follows from whether the Pod has ended.
func (c *course) seeEnd(a *attempt, pod *corev1.Pod, gone bool, do *step) {
	ended := hasEnded(pod)
	if a.others = nil; ended && !gone {
		a.others = othersIn(pod)
	}
	switch {
	case a.ended:
		do.explain = !ended && !c.runs()
		return
	case !ended && !gone:
		do.explain = !c.runs()
		return
	}
	if ended && NeverStarted(pod) { // what ran was the launcher
		a.ran, do.neverStarted = false, true
		c.started = c.hasRun(pod.Name)
	}
	a.ended, do.ended, do.vanished = true, ended, !ended
	do.unsure = pod.DeletionTimestamp != nil && !a.suspended
}

// hasRun tells that the command ran in another attempt than the one of that name.
func (c *course) hasRun(except string) bool {
	for name, a := range c.attempts {
		if name != except && a.ran {
			return true
		}
	}
	return false
}

// end reads from a Pod how its attempt ended.
func (c *course) end(a *attempt, pod *corev1.Pod) *job.Outcome {
	if c.cancelled && pod.DeletionTimestamp != nil {
		return c.cancelledOutcome()
	}
	if a.suspended {
		return suspendedOutcome(pod, c.onSuspension)
	}
	return podOutcome(pod)
}

// conclusion is what the end of an attempt means to the job.
type conclusion int

const (
	goesOn      conclusion = iota // another attempt may follow: the Job says so, or time
	isOver                        // the attempt's outcome is the job's
	startFailed                   // no command has run, and none will
)

// conclude takes in o, the outcome of the attempt a that has just ended.
func (c *course) conclude(a *attempt, pod *corev1.Pod, o *job.Outcome) conclusion {
	c.last = o
	switch {
	case c.cancelled:
		return isOver
	case c.mayFollow(a, pod):
		return goesOn
	case !c.started && c.attached && o.NeverStarted && explain.Pod(pod).Failure == nil: // and so the Job has failed
		return isOver
	case !c.started:
		return startFailed
	case o.Succeeded() || c.retries == 0:
		return isOver
	}
	return goesOn
}

// mayFollow reports whether the Job may make another attempt after a, which ended before any command
// ran. Whoever submitted a job without retries takes the end of a for the job's end: it is reported
// at once, and the job is removed before the cluster tries again.
func (c *course) mayFollow(a *attempt, pod *corev1.Pod) bool {
	if c.started && !NeverStarted(pod) {
		return false
	}
	counted := explain.AgentEnd(pod) != nil && explain.AgentEnd(pod).ExitCode == contract.ExitNeverStarted
	return a.suspended || c.retries > 0 && (isDisrupted(pod) || counted) || c.attached && counted
}

// vanish takes in that the Pod of the attempt a is gone before its end was seen.
func (c *course) vanish(a *attempt, pod *corev1.Pod, now time.Time) conclusion {
	if c.retries == 0 { // else the Job says whether another follows, after a back-off
		c.goneAt = now
	}
	if c.cancelled {
		c.last = c.cancelledOutcome()
		return isOver
	}
	if a.suspended {
		c.last = &job.Outcome{Cause: job.Preempted, Message: c.onSuspension}
		if c.started && c.retries == 0 {
			return isOver
		}
		return goesOn
	}
	cause, _ := disruption(pod)
	c.last = &job.Outcome{
		Cause:   cmp.Or(cause, job.Unknown),
		Message: cmp.Or(c.over, fmt.Sprintf("Pod %s was deleted under way", pod.Name)),
	}
	return goesOn
}

// seeJob takes in an update of the Job; gone: it was deleted. An outcome is the job's.
func (c *course) seeJob(j *batchv1.Job, gone bool, now time.Time) *job.Outcome {
	if gone && j.Annotations[manifest.AnnotationCancelled] != "" {
		c.cancelled = true
		if !c.hasOpenAttempt() {
			return c.cancelledOutcome()
		}
	}
	if gone {
		c.over, c.overAt = fmt.Sprintf("job %s was deleted", j.Name), now
		return nil
	}
	outcome, over := jobEnd(j)
	if over != "" && c.over == "" {
		c.over, c.overAt = over, now
	}
	return outcome
}

// cancelledOutcome is how a job ends that somebody cancelled by deleting it.
func (c *course) cancelledOutcome() *job.Outcome {
	if !c.started {
		return &job.Outcome{Cause: job.Cancelled, Code: job.ExitCancelled, NeverStarted: true,
			Message: "it was cancelled before its command started"}
	}
	return &job.Outcome{Cause: job.Cancelled, Code: job.ExitCancelled, Message: "it was cancelled by deleting it"}
}

// suspend takes note of whether the Job is suspended, and tells whether that has changed. What
// was wrong before says nothing of the Pod that comes after.
func (c *course) suspend(suspended bool) (changed bool) {
	if suspended == c.suspended {
		return false
	}
	c.suspended, c.trouble, c.said = suspended, explain.Verdict{}, ""
	if suspended {
		for _, a := range c.attempts {
			a.suspended = a.suspended || !a.ended
		}
	}
	return true
}

func (c *course) hasOpenAttempt() bool {
	for _, a := range c.attempts {
		if !a.ended {
			return true
		}
	}
	return false
}

// isOpen tells that an event is of the Pod of an attempt that has not ended.
func (c *course) isOpen(e *corev1.Event) bool {
	a := c.attempts[e.InvolvedObject.Name]
	return a != nil && !a.ended
}

// reaches tells whether a phase of the start is reached for the first time in its attempt.
func (c *course) reaches(p job.Phase) bool {
	if p <= c.reached || c.started {
		return false
	}
	c.reached = p
	return true
}

// keep remembers what is wrong, and since when.
func (c *course) keep(v explain.Verdict, now time.Time) {
	if v.Waiting == "" && v.Failure == nil {
		if c.trouble.Failure != nil {
			c.trouble = explain.Verdict{}
		}
		return
	}
	if v.Failure == nil && c.trouble.Failure != nil {
		return // an event's complaint says less than the Pod's state
	}
	if !sameTrouble(v, c.trouble) {
		c.since = now
	}
	c.trouble = v
}

// sameTrouble tells a change of the cause from a change of its wording: the
// kubelet alternates between two for one image that it can't pull.
func sameTrouble(a, b explain.Verdict) bool {
	if a.Failure != nil && b.Failure != nil {
		return a.Failure.Cause == b.Failure.Cause
	}
	return a.Waiting == b.Waiting
}

// decision is what the time that has passed means. At most one of outcome and failure is set,
// and each ends the watch. The zero decision is to wait on.
type decision struct {
	outcome *job.Outcome
	failure *job.Failure
	// say is why a phase is waited for, and is to be reported; "": nothing is.
	say   string
	phase job.Phase
}

func (d decision) ends() bool { return d.outcome != nil || d.failure != nil }

// isGivenUp decides whether what is missing is waited for no longer: the end of a Pod after its
// Job's, a Pod after one that vanished, the end of a Pod that was told to end.
func (c *course) isGivenUp(now time.Time) decision {
	if c.over != "" && !c.hasOpenAttempt() {
		// What is said of the Pods comes another way, and may be late.
		switch {
		case c.last != nil:
			return decision{outcome: c.last}
		case now.Sub(c.overAt) > goneWait:
			return decision{outcome: &job.Outcome{Cause: job.Unknown, Message: c.over}}
		}
	}
	if c.suspended && !c.started { // its Pod is deleted for that
		c.goneAt = time.Time{}
	}
	if !c.goneAt.IsZero() && now.Sub(c.goneAt) > goneWait {
		return c.endedBy(c.last, "kubectl get events -n "+c.namespace)
	}
	if o := c.overdue(now); o != nil {
		return c.endedBy(o, "kubectl get pods,nodes -o wide -n "+c.namespace)
	}
	return decision{}
}

// endedBy ends the job with o. Before any command ran that is a failure, with a hint.
func (c *course) endedBy(o *job.Outcome, hint string) decision {
	if c.started {
		return decision{outcome: o}
	}
	return decision{failure: &job.Failure{Cause: o.Cause, Message: o.Message, Hint: hint}}
}

// overdue is the outcome of a job whose Pod was deleted and does not end, for example because its node
// is lost: only the node's kubelet could say how it ended. nil: there is no such Pod.
func (c *course) overdue(now time.Time) *job.Outcome {
	for name, a := range c.attempts {
		if a.ended || a.overdue.IsZero() || now.Before(a.overdue) {
			continue
		}
		return &job.Outcome{Cause: cmp.Or(a.disrupted, job.NodeLost), Attempt: name,
			Message: fmt.Sprintf("Pod %s was told to end and has not: its node is lost, or its kubelet does not run", name)}
	}
	return nil
}

// underWay decides what the time means to a job of which a command has run.
func (c *course) underWay(now time.Time) decision {
	var kept decision
	for _, name := range slices.Sorted(maps.Keys(c.attempts)) {
		d := c.kept(c.attempts[name], now)
		if d.ends() {
			return d
		}
		kept.say = cmp.Or(kept.say, d.say)
	}
	d := c.next(now)
	if kept.say != "" { // then next says nothing: it waits for the same containers
		d.say, d.phase = kept.say, job.Running
	}
	return d
}

// kept decides about an attempt that has ended while containers of others run on in its Pod: no other
// attempt can follow. That is said once, and after othersWait the job is over.
func (c *course) kept(a *attempt, now time.Time) decision {
	switch {
	case len(a.others) == 0:
		return decision{}
	case a.keptSince.IsZero():
		a.keptSince = now
		return decision{phase: job.Running, say: fmt.Sprintf(
			"%s, which the cluster added, still runs: no other attempt can follow; waiting %s for it",
			containerNames(a.others), othersWait)}
	case now.Sub(a.keptSince) >= othersWait:
		return decision{outcome: c.last}
	}
	return decision{}
}

// nodeToLookAt is the node to ask why it has not taken up the Pod; "": none, since it still has time,
// or was asked lately.
func (c *course) nodeToLookAt(now time.Time) string {
	node := c.trouble.Node
	if node == "" || now.Sub(c.since) < explain.UntakenSay || now.Sub(c.nodeSeen) < nodeLook {
		return ""
	}
	c.nodeSeen = now
	return node
}

// starting decides what the time means to a job of which no command has run.
func (c *course) starting(now time.Time) decision {
	t, age := c.trouble, now.Sub(c.since)
	if t.Failure != nil && (t.Grace == 0 || age >= t.Grace) {
		f := *t.Failure
		if t.Grace > 0 {
			f.Message += fmt.Sprintf(" (waited %s)", t.Grace)
		}
		return decision{failure: &f}
	}
	if t.Waiting != "" && t.Waiting != c.said && age >= max(sayAfter, t.After) {
		c.said = t.Waiting
		return decision{say: t.Waiting, phase: c.reached + 1}
	}
	return decision{}
}
