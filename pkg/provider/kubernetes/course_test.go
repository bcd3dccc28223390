package kubernetes

import (
	"reflect"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

// courseAt is the time of these tests.
var courseAt = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// newCourse returns the course of a job that was submitted without retries and is followed through
// its tunnel, changed by change.
func newCourse(change func(*course)) *course {
	c := &course{reached: job.Submitted, attempts: map[string]*attempt{}, terms: terms{
		namespace: "ns", startTimeout: 10 * time.Minute, tunnelled: true, onSuspension: suspendedByHand,
	}}
	if change != nil {
		change(c)
	}
	return c
}

// neverStarted is a Pod whose agent says that the command never started.
func neverStarted(pod *corev1.Pod) {
	onNode(pod)
	with(terminated(contract.ExitNeverStarted, "Error", "no launcher"), waiting("ContainerCreating", ""))(pod)
	ended(corev1.PodFailed)(pod)
}

// killed is a Pod both of whose containers were.
func killed(pod *corev1.Pod) {
	onNode(pod)
	with(terminated(137, "Error", ""), terminated(137, "Error", ""))(pod)
	ended(corev1.PodFailed)(pod)
}

func TestCourseSee(t *testing.T) {
	scheduled := job.Event{Phase: job.Scheduled, Time: courseAt, Detail: "node1"}
	for _, test := range []struct {
		name    string
		change  func(*course)
		before  attempt
		pod     *corev1.Pod
		gone    bool
		want    step
		started bool
	}{
		{name: "a new Pod", pod: podOf(thisJob, "x-1"), want: step{explain: true}},
		{name: "bound to a node", pod: podOf(thisJob, "x-1", onNode),
			want: step{report: []job.Event{scheduled}, dial: true, explain: true}},
		{name: "bound, and seen so before", before: attempt{bound: true}, pod: podOf(thisJob, "x-1", onNode), want: step{explain: true}},
		{name: "bound, of a job that ran before", change: func(c *course) { c.started = true },
			pod: podOf(thisJob, "x-1", onNode), want: step{dial: true}, started: true},
		{name: "runs", before: attempt{bound: true}, pod: podOf(thisJob, "x-1", runs), started: true},
		{name: "bound and runs at once", pod: podOf(thisJob, "x-1", runs),
			want: step{report: []job.Event{scheduled}, dial: true}, started: true},
		{name: "runs, without a tunnel", change: func(c *course) { c.tunnelled = false }, pod: podOf(thisJob, "x-1", runs),
			want: step{report: []job.Event{scheduled, {Phase: job.Running, Time: courseAt, Detail: "x-1"}}}, started: true},
		{name: "the job's container has ended, the agent runs", before: attempt{bound: true, ran: true},
			pod:  podOf(thisJob, "x-1", onNode, with(running, terminated(3, "Error", ""))),
			want: step{jobEnded: "exit code 3 (Error)", explain: true}},
		{name: "the same, of which the agent was told", before: attempt{bound: true, ran: true, told: true},
			pod: podOf(thisJob, "x-1", onNode, with(running, terminated(3, "Error", ""))), want: step{explain: true}},
		{name: "ended", before: attempt{bound: true, ran: true}, change: func(c *course) { c.started = true },
			pod: podOf(thisJob, "x-1", killed), want: step{ended: true}, started: true},
		{name: "ended, and seen so before", before: attempt{bound: true, ran: true, ended: true},
			change: func(c *course) { c.started = true },
			pod:    podOf(thisJob, "x-1", killed), started: true},
		{name: "ended, and what ran was the launcher", before: attempt{bound: true, ran: true},
			change: func(c *course) { c.started = true },
			pod:    podOf(thisJob, "x-1", neverStarted), want: step{ended: true, neverStarted: true}},
		{name: "the same, and another attempt ran", before: attempt{bound: true, ran: true},
			change: func(c *course) { c.started, c.attempts["x-0"] = true, &attempt{ran: true, ended: true} },
			pod:    podOf(thisJob, "x-1", neverStarted), want: step{ended: true, neverStarted: true}, started: true},
		{name: "ended, and deleted", before: attempt{bound: true, ran: true}, change: func(c *course) { c.started = true },
			pod: podOf(thisJob, "x-1", killed, isDeleted), want: step{ended: true, unsure: true}, started: true},
		{name: "the same, of a Job known to be suspended", before: attempt{bound: true, ran: true, suspended: true},
			change: func(c *course) { c.started = true },
			pod:    podOf(thisJob, "x-1", killed, isDeleted), want: step{ended: true}, started: true},
		{name: "gone before its end was seen", before: attempt{bound: true, ran: true}, change: func(c *course) { c.started = true },
			pod: podOf(thisJob, "x-1", runs), gone: true, want: step{vanished: true}, started: true},
		{name: "gone after its end", before: attempt{bound: true, ran: true, ended: true}, change: func(c *course) { c.started = true },
			pod: podOf(thisJob, "x-1", killed), gone: true, started: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, a := newCourse(test.change), &test.before
			c.attempts["x-1"] = a
			if got := c.see(a, test.pod, test.gone, courseAt); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
			if c.started != test.started {
				t.Errorf("started %t, want %t", c.started, test.started)
			}
			if over := test.want.ended || test.want.vanished; over && !a.ended {
				t.Error("the attempt has not ended")
			}
		})
	}
}

func TestCourseConclude(t *testing.T) {
	preempted := func(pod *corev1.Pod) { pod.Status.Conditions = disrupted("PreemptionByScheduler") }
	noLauncher := &job.Outcome{Cause: job.StartTimeout, NeverStarted: true}
	failed := &job.Outcome{Cause: job.Error, Code: 3}
	for _, test := range []struct {
		name    string
		change  func(*course)
		attempt attempt
		pod     *corev1.Pod
		outcome *job.Outcome
		want    conclusion
	}{
		{"success", func(c *course) { c.started, c.retries = true, 3 }, attempt{}, podOf(thisJob, "x-1", killed),
			&job.Outcome{Cause: job.Completed}, isOver},
		{"the command failed", func(c *course) { c.started = true }, attempt{}, podOf(thisJob, "x-1", killed), failed, isOver},
		{"the command failed, and has retries", func(c *course) { c.started, c.retries = true, 1 }, attempt{},
			podOf(thisJob, "x-1", killed), failed, goesOn},
		{"never started", nil, attempt{}, podOf(thisJob, "x-1", neverStarted), noLauncher, startFailed},
		{"never started, and has retries", func(c *course) { c.retries = 1 }, attempt{}, podOf(thisJob, "x-1", neverStarted),
			noLauncher, goesOn},
		{"never started, attached", func(c *course) { c.attached = true }, attempt{}, podOf(thisJob, "x-1", neverStarted),
			noLauncher, goesOn},
		{"start timeout, attached: the Job has failed", func(c *course) { c.attached = true }, attempt{},
			podOf(thisJob, "x-1", onNode, with(terminated(contract.ExitStartTimeout, "Error", ""), waiting("", "")),
				ended(corev1.PodFailed)),
			noLauncher, isOver},
		{"preempted before its start", nil, attempt{}, podOf(thisJob, "x-1", onNode, preempted, ended(corev1.PodFailed)),
			&job.Outcome{Cause: job.Preempted}, startFailed},
		{"preempted before its start, and has retries", func(c *course) { c.retries = 1 }, attempt{},
			podOf(thisJob, "x-1", onNode, preempted, ended(corev1.PodFailed)), &job.Outcome{Cause: job.Preempted}, goesOn},
		{"suspended before its start", nil, attempt{suspended: true}, podOf(thisJob, "x-1", onNode, ended(corev1.PodFailed)),
			&job.Outcome{Cause: job.Preempted}, goesOn},
		{"suspended under way", func(c *course) { c.started = true }, attempt{suspended: true}, podOf(thisJob, "x-1", killed),
			&job.Outcome{Cause: job.Preempted}, isOver},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCourse(test.change)
			if got := c.conclude(&test.attempt, test.pod, test.outcome); got != test.want || c.last != test.outcome {
				t.Errorf("got %d, want %d; last %+v", got, test.want, c.last)
			}
		})
	}
}

func TestCourseVanish(t *testing.T) {
	for _, test := range []struct {
		name    string
		change  func(*course)
		attempt attempt
		pod     *corev1.Pod
		want    conclusion
		last    string
		waits   bool // for another Pod
	}{
		{"deleted", nil, attempt{}, podOf(thisJob, "x-1"), goesOn, "outcome Unknown 0: Pod x-1 was deleted under way", true},
		{"deleted, and has retries", func(c *course) { c.retries = 1 }, attempt{}, podOf(thisJob, "x-1"), goesOn,
			"outcome Unknown 0: Pod x-1 was deleted under way", false},
		{"with its Job", func(c *course) { c.over = "job x was deleted" }, attempt{}, podOf(thisJob, "x-1"), goesOn,
			"outcome Unknown 0: job x was deleted", true},
		{"with its node", nil, attempt{}, podOf(thisJob, "x-1", func(p *corev1.Pod) { p.Status.Conditions = disrupted("DeletionByPodGC") }),
			goesOn, "outcome NodeLost 0: Pod x-1 was deleted under way", true},
		{"suspended before its start", nil, attempt{suspended: true}, podOf(thisJob, "x-1"), goesOn,
			"outcome Preempted 0: " + suspendedByHand, true},
		{"suspended under way", func(c *course) { c.started = true }, attempt{suspended: true}, podOf(thisJob, "x-1"), isOver,
			"outcome Preempted 0: " + suspendedByHand, true},
		{"suspended under way, and has retries", func(c *course) { c.started, c.retries = true, 1 }, attempt{suspended: true},
			podOf(thisJob, "x-1"), goesOn, "outcome Preempted 0: " + suspendedByHand, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCourse(test.change)
			got := c.vanish(&test.attempt, test.pod, courseAt)
			if last := endText(c.last, nil); got != test.want || last != test.last || c.goneAt.IsZero() == test.waits {
				t.Errorf("got %d, %q, gone at %s", got, last, c.goneAt)
			}
		})
	}
}

// ago is a time before that of these tests.
func ago(d time.Duration) time.Time { return courseAt.Add(-d) }

func TestCourseIsGivenUp(t *testing.T) {
	last := &job.Outcome{Cause: job.Error, Code: 3}
	for _, test := range []struct {
		name   string
		change func(*course)
		want   string
	}{
		{"nothing is missing", func(*course) {}, ""},
		{"the Job is over, and its Pod has ended", func(c *course) { c.over, c.overAt, c.last = "job x was deleted", courseAt, last },
			"outcome Error 3: "},
		{"the Job is over, its Pod not", func(c *course) {
			c.over, c.overAt, c.last, c.attempts["x-2"] = "job x was deleted", ago(time.Hour), last, &attempt{}
		}, ""},
		{"the Job is over, and no Pod was seen", func(c *course) { c.over, c.overAt = "job x was deleted", ago(goneWait) }, ""},
		{"the same for long", func(c *course) { c.over, c.overAt = "job x was deleted", ago(goneWait+1) },
			"outcome Unknown 0: job x was deleted"},
		{"a Pod is gone", func(c *course) { c.last, c.goneAt = last, ago(goneWait) }, ""},
		{"a Pod is gone for long before any command ran", func(c *course) { c.last, c.goneAt = last, ago(goneWait+1) }, "failure Error: "},
		{"a Pod is gone for long", func(c *course) { c.started, c.last, c.goneAt = true, last, ago(goneWait+1) }, "outcome Error 3: "},
		{"the same of a suspended Job", func(c *course) { c.suspended, c.last, c.goneAt = true, last, ago(goneWait+1) }, ""},
		{"a Pod still has time to end", func(c *course) { c.attempts["x-1"] = &attempt{overdue: courseAt.Add(1)} }, ""},
		{"a Pod does not end", func(c *course) {
			c.started, c.attempts["x-1"] = true, &attempt{overdue: courseAt, disrupted: job.Evicted}
		},
			"outcome Evicted 0: Pod x-1 was told to end and has not: its node is lost, or its kubelet does not run"},
		{"a Pod does not end, before any command ran", func(c *course) { c.attempts["x-1"] = &attempt{overdue: courseAt} },
			"failure NodeLost: Pod x-1 was told to end and has not: its node is lost, or its kubelet does not run"},
		{"a Pod was told to end, and has", func(c *course) { c.attempts["x-1"] = &attempt{overdue: courseAt, ended: true} }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := decided(newCourse(test.change).isGivenUp(courseAt)); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestCourseStarting(t *testing.T) {
	failure := &job.Failure{Cause: job.ImagePull, Message: "no image"}
	for _, test := range []struct {
		name   string
		change func(*course)
		want   string
	}{
		{"nothing is wrong", func(*course) {}, ""},
		{"a hitch", func(c *course) { c.trouble, c.since = explain.Verdict{Waiting: "not yet"}, ago(sayAfter-1) }, ""},
		{"a hitch that lasts", func(c *course) { c.trouble, c.since = explain.Verdict{Waiting: "not yet"}, ago(sayAfter) },
			"scheduled: not yet"},
		{"the same, which was said",
			func(c *course) {
				c.trouble, c.since, c.said = explain.Verdict{Waiting: "not yet"}, ago(time.Hour), "not yet"
			}, ""},
		{"a hitch that needs longer to be one", func(c *course) {
			c.trouble, c.since = explain.Verdict{Waiting: "not yet", After: explain.UntakenSay}, ago(sayAfter)
		}, ""},
		{"a failure", func(c *course) { c.trouble, c.since = explain.Verdict{Failure: failure}, courseAt }, "failure ImagePull: no image"},
		{"a failure that may pass", func(c *course) {
			c.trouble, c.since = explain.Verdict{Waiting: "pulling", Failure: failure, Grace: 30 * time.Second}, ago(time.Second)
		}, ""},
		{"a failure that may pass, and is said", func(c *course) {
			c.trouble, c.since = explain.Verdict{Waiting: "pulling", Failure: failure, Grace: 30 * time.Second}, ago(30*time.Second-1)
		}, "scheduled: pulling"},
		{"a failure that has not passed", func(c *course) {
			c.trouble, c.since = explain.Verdict{Waiting: "pulling", Failure: failure, Grace: 30 * time.Second}, ago(30*time.Second)
		}, "failure ImagePull: no image (waited 30s)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := decided(newCourse(test.change).starting(courseAt)); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	if failure.Message != "no image" {
		t.Errorf("the verdict's failure was changed: %q", failure.Message)
	}
}

func TestCourseUnderWay(t *testing.T) {
	const another = "waiting for another attempt: the cluster makes it after a back-off of 10s and more"
	const proxy = "container proxy, which the cluster added, still runs: no other attempt can follow; waiting 30s for it"
	ended := func(c *course) { c.retries, c.attempts["x-1"] = 1, &attempt{ran: true, ended: true} }
	for _, test := range []struct {
		name   string
		change func(*course)
		want   string
	}{
		{"the command runs", func(c *course) { c.attempts["x-1"] = &attempt{ran: true} }, ""},
		{"between two attempts", ended, ""},
		{"between two attempts for a while", func(c *course) { ended(c); c.restless = ago(sayAfter) }, "running: " + another},
		{"the same, and the reason is known", func(c *course) {
			ended(c)
			c.restless, c.trouble.Waiting = ago(sayAfter), "no quota"
		}, "running: no quota"},
		{"no other attempt is made", func(c *course) { ended(c); c.restless, c.said = ago(nextWait), another },
			"failure StartTimeout: the next attempt did not start within 12m0s"},
		{"another attempt does not start", func(c *course) {
			ended(c)
			c.attempts["x-2"], c.trouble.Waiting = &attempt{seen: ago(11 * time.Minute)}, "no node"
			c.said = "no node"
		}, "failure StartTimeout: the next attempt did not start within 11m0s: no node"},
		{"the Job is suspended between two", func(c *course) { ended(c); c.suspended, c.restless = true, ago(nextWait) }, ""},
		{"a container of others runs on", func(c *course) { ended(c); c.attempts["x-1"].others = []string{"proxy"} }, "running: " + proxy},
		{"the same, which was said", func(c *course) {
			ended(c)
			c.attempts["x-1"].others, c.attempts["x-1"].keptSince = []string{"proxy"}, ago(othersWait-1)
		}, ""},
		{"the same for too long", func(c *course) {
			ended(c)
			c.attempts["x-1"].others, c.attempts["x-1"].keptSince = []string{"proxy"}, ago(othersWait)
			c.last = &job.Outcome{Cause: job.Error, Code: 3}
		}, "outcome Error 3: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCourse(func(c *course) { c.started = true; test.change(c) })
			if got := decided(c.underWay(courseAt)); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// decided is a decision in words; "": to wait on.
func decided(d decision) string {
	switch {
	case d.failure != nil:
		return endText(nil, d.failure)
	case d.say != "":
		return d.phase.String() + ": " + d.say
	}
	return endText(d.outcome, nil)
}

// A job that somebody cancelled by deleting it ends as a cancelled one, whichever is seen first.
func TestCourseCancelled(t *testing.T) {
	deleted := madeJob(t, "x", func(j *batchv1.Job) { j.Annotations[manifest.AnnotationCancelled] = "2026-03-01T12:00:00Z" })
	before, under := "it was cancelled before its command started", "it was cancelled by deleting it"
	for _, test := range []struct {
		name string
		see  func(c *course) *job.Outcome
		want string
		over bool // NeverStarted
	}{
		{"no Pod yet", func(c *course) *job.Outcome { return c.seeJob(deleted, true, courseAt) }, before, true},
		{"the Job first, then the end of its Pod", func(c *course) *job.Outcome {
			a := c.begin("x-1", courseAt)
			c.see(a, podOf(thisJob, "x-1", runs), false, courseAt)
			if o := c.seeJob(deleted, true, courseAt); o != nil {
				t.Errorf("ended with %v while its Pod runs", o)
			}
			pod := podOf(thisJob, "x-1", killed, isDeleted)
			c.see(a, pod, false, courseAt)
			o := c.end(a, pod)
			if then := c.conclude(a, pod, o); then != isOver {
				t.Errorf("concluded %v", then)
			}
			return c.last
		}, under, false},
		{"the Job first, then its Pod is gone", func(c *course) *job.Outcome {
			a := c.begin("x-1", courseAt)
			c.seeJob(deleted, true, courseAt)
			c.see(a, podOf(thisJob, "x-1"), true, courseAt)
			if then := c.vanish(a, podOf(thisJob, "x-1"), courseAt); then != isOver {
				t.Errorf("concluded %v", then)
			}
			return c.last
		}, before, true},
		{"its Pod first", func(c *course) *job.Outcome {
			a := c.begin("x-1", courseAt)
			c.see(a, podOf(thisJob, "x-1", runs), false, courseAt)
			c.see(a, podOf(thisJob, "x-1", runs), true, courseAt)
			c.vanish(a, podOf(thisJob, "x-1"), courseAt)
			return c.seeJob(deleted, true, courseAt)
		}, under, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := test.see(newCourse(nil))
			if o == nil || o.Cause != job.Cancelled || o.ExitCode() != job.ExitCancelled || o.Message != test.want ||
				o.NeverStarted != test.over {
				t.Errorf("got %+v, want %q", o, test.want)
			}
		})
	}
	c := newCourse(nil)
	if o := c.seeJob(madeJob(t, "x"), true, courseAt); o != nil || c.cancelled {
		t.Errorf("one that was merely deleted: %+v", o)
	}
}
