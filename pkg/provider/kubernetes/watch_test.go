package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/forward"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/tasks"
	"github.com/hodei-jobs/hodei/pkg/provider/tunnel"
)

// termination is the agent's termination message for a record.
func termination(t testing.TB, r *hodeipb.ExitRecord) string {
	t.Helper()
	b, err := protojson.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func disrupted(reason string) []corev1.PodCondition {
	return []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason}}
}

func TestPodOutcome(t *testing.T) {
	record := func(r *hodeipb.ExitRecord) corev1.ContainerStatus {
		return container("agent", "w", terminated(0, "Completed", termination(t, r)))
	}
	said := func(code int32, reason, message string) corev1.ContainerStatus {
		return container("agent", "w", terminated(code, reason, message))
	}
	command := func(code int32, reason string) corev1.ContainerStatus {
		return container("job", "i", terminated(code, reason, "the job's own message"))
	}
	evicted := corev1.PodStatus{Reason: "Evicted",
		Message:    "Pod ephemeral local storage usage exceeds the total limit of containers 10Gi. ",
		Conditions: disrupted("TerminationByKubelet")}
	for _, test := range []struct {
		name       string
		pod        corev1.PodStatus
		containers []corev1.ContainerStatus
		cause      job.Cause
		code       int
		signal     int
		message    string
	}{
		{name: "record", containers: []corev1.ContainerStatus{record(&hodeipb.ExitRecord{Cause: "Completed"}), command(0, "Completed")},
			cause: job.Completed},
		{name: "record of a failure",
			containers: []corev1.ContainerStatus{record(&hodeipb.ExitRecord{Cause: "Error", Code: 7}), command(7, "Error")},
			cause:      job.Error, code: 7},
		{name: "record of a signal",
			containers: []corev1.ContainerStatus{record(&hodeipb.ExitRecord{Cause: "Signaled", Code: 143, Signal: 15}),
				command(143, "Error")}, cause: job.Signaled, code: 143, signal: 15},
		{name: "record against the status",
			containers: []corev1.ContainerStatus{record(&hodeipb.ExitRecord{Cause: "Completed"}), command(137, "OOMKilled")},
			cause:      job.Completed},
		{name: "record of a disrupted Pod", pod: evicted,
			containers: []corev1.ContainerStatus{record(&hodeipb.ExitRecord{Cause: "Completed"}), command(0, "Completed")},
			cause:      job.Completed},
		{name: "newer agent's record",
			containers: []corev1.ContainerStatus{said(0, "Completed", `{"cause":"Error","code":3,"invented":{"later":[1]}}`)},
			cause:      job.Error, code: 3},
		{name: "record that shouts",
			containers: []corev1.ContainerStatus{record(&hodeipb.ExitRecord{Cause: "Error", Code: 127,
				Message: "exec \x1b[2J\nnope\u202e: not found"})},
			cause: job.Error, code: 127, message: "exec [2J nope : not found"},

		{name: "no cause, killed for its memory",
			containers: []corev1.ContainerStatus{record(&hodeipb.ExitRecord{}), command(137, "OOMKilled")},
			cause:      job.OOMKilled, code: 137, message: "memory reached its limit and the kernel killed the job's first process"},
		{name: "no cause, killed", containers: []corev1.ContainerStatus{record(&hodeipb.ExitRecord{}), command(137, "Error")},
			cause: job.Signaled, code: 137, signal: 9},
		{name: "no cause, a signal that isn't one",
			containers: []corev1.ContainerStatus{record(&hodeipb.ExitRecord{}), command(255, "Error")}, cause: job.Unknown, code: 255},
		{name: "no cause, exit 0", containers: []corev1.ContainerStatus{record(&hodeipb.ExitRecord{}), command(0, "Completed")},
			cause: job.Unknown},
		{name: "no cause, no status", containers: []corev1.ContainerStatus{record(&hodeipb.ExitRecord{})}, cause: job.Unknown},
		{name: "no cause, evicted", pod: evicted,
			containers: []corev1.ContainerStatus{record(&hodeipb.ExitRecord{}), command(137, "Error")}, cause: job.Evicted, code: 137,
			message: "Pod ephemeral local storage usage exceeds the total limit of containers 10Gi."},
		{name: "no cause, told to end", pod: evicted,
			containers: []corev1.ContainerStatus{record(&hodeipb.ExitRecord{Code: 143, Signal: 15, Message: "the Pod was told to end"}),
				command(143, "Error")},
			cause: job.Evicted, code: 143, signal: 15,
			message: "Pod ephemeral local storage usage exceeds the total limit of containers 10Gi."},
		{name: "evicted, and exited by itself", pod: evicted,
			containers: []corev1.ContainerStatus{record(&hodeipb.ExitRecord{Cause: "Error", Code: 1, PodEnded: true,
				Message: "the Pod was told to end"}), command(1, "Error")},
			cause: job.Evicted, code: 1, message: "Pod ephemeral local storage usage exceeds the total limit of containers 10Gi."},
		{name: "drained, and exited by itself", pod: corev1.PodStatus{Conditions: disrupted("EvictionByEvictionAPI")},
			containers: []corev1.ContainerStatus{record(&hodeipb.ExitRecord{Cause: "Error", Code: 1, PodEnded: true,
				Message: "the Pod was told to end"}), command(1, "Error")},
			cause: job.Evicted, code: 1, message: "the Pod was told to end"},
		{name: "deleted, and exited by itself",
			containers: []corev1.ContainerStatus{record(&hodeipb.ExitRecord{Cause: "Error", Code: 1, PodEnded: true,
				Message: "the Pod was told to end"}), command(1, "Error")},
			cause: job.Error, code: 1, message: "the Pod was told to end"},
		{name: "no cause, deleted",
			containers: []corev1.ContainerStatus{record(&hodeipb.ExitRecord{Code: 143, Signal: 15, Message: "the Pod was told to end"}),
				command(143, "Error")},
			cause: job.Signaled, code: 143, signal: 15, message: "the Pod was told to end"},
		{name: "a cause that is not an agent's to say", containers: []corev1.ContainerStatus{record(&hodeipb.ExitRecord{Cause: "Evicted"})},
			cause:   job.Unknown,
			message: `the agent named a cause that this version of hodei does not take from it: "Evicted"`},
		{name: "senseless record", containers: []corev1.ContainerStatus{record(&hodeipb.ExitRecord{Cause: "Error", Code: -4})},
			cause: job.Unknown, code: job.ExitFailed, message: "the exit record makes no sense"},

		{name: "agent exit 0 without a word", containers: []corev1.ContainerStatus{said(0, "Completed", "")}, cause: job.AgentLost,
			message: "the agent ended with exit code 0 (Completed)"},
		{name: "agent exit 0 with garbage", containers: []corev1.ContainerStatus{said(0, "Completed", "\xff{\"code\":\x00")},
			cause: job.AgentLost, message: "the agent ended with exit code 0 (Completed): \ufffd{\"code\":"},
		{name: "agent 90",
			containers: []corev1.ContainerStatus{said(90, "Error", "no launcher came\nwithin 10m0s"), command(128, "StartError")},
			cause:      job.AgentLost, code: job.ExitFailed, message: "the command never started: no launcher came within 10m0s"},
		{name: "agent 90, no launcher", containers: []corev1.ContainerStatus{said(90, "Error", "told to end")}, cause: job.StartTimeout,
			code: job.ExitFailed, message: "the command never started: told to end"},
		{name: "agent 90, launcher out of memory",
			containers: []corev1.ContainerStatus{said(90, "Error", "EOF"), command(137, "OOMKilled")}, cause: job.OOMKilled,
			code:    job.ExitFailed,
			message: "memory reached its limit before the command started, and the kernel killed the launcher"},
		{name: "agent 92", containers: []corev1.ContainerStatus{said(92, "Error", "no launcher came within 20s"), command(125, "Error")},
			cause: job.StartTimeout, code: job.ExitFailed, message: "the command never started: no launcher came within 20s"},
		{name: "evicted by its own agent",
			pod: corev1.PodStatus{Reason: "Evicted",
				Message: `Usage of EmptyDir volume "hodei-start-timeout" exceeds the limit "1Mi". `},
			containers: []corev1.ContainerStatus{said(137, "ContainerStatusUnknown",
				"The container could not be located when the pod was terminated"), command(137, "ContainerStatusUnknown")},
			cause: job.StartTimeout, code: job.ExitFailed,
			message: "the command never started: its start timeout was over, and the agent had its Pod evicted"},
		{name: "evicted by its own agent, which has left a word",
			pod: corev1.PodStatus{Reason: "Evicted",
				Message: `Usage of EmptyDir volume "hodei-start-timeout" exceeds the limit "1Mi". `},
			containers: []corev1.ContainerStatus{said(92, "Error", "no launcher came within 20s"), command(137, "ContainerStatusUnknown")},
			cause:      job.StartTimeout, code: job.ExitFailed, message: "the command never started: no launcher came within 20s"},
		{name: "evicted for another volume",
			pod:     corev1.PodStatus{Reason: "Evicted", Message: `Usage of EmptyDir volume "hodei-spool" exceeds the limit "1Gi". `},
			cause:   job.Evicted,
			message: `Usage of EmptyDir volume "hodei-spool" exceeds the limit "1Gi".`},
		{name: "agent 137", containers: []corev1.ContainerStatus{said(137, "OOMKilled", ""), command(125, "Error")}, cause: job.AgentLost,
			message: "the agent ended with exit code 137 (OOMKilled)"},
		{name: "agent 1 with a record",
			containers: []corev1.ContainerStatus{said(1, "Error", `{"cause":"Completed"}`), command(0, "Completed")}, cause: job.AgentLost,
			message: `the agent ended with exit code 1 (Error): {"cause":"Completed"}`},
		{name: "no agent", cause: job.Unknown, message: "Pod x-abcde ended without a word from its agent"},
		{name: "never admitted",
			pod: corev1.PodStatus{Reason: "OutOfcpu",
				Message: "Pod was rejected: Node didn't have enough resource: cpu, requested: 500, used: 3900, capacity: 4000"},
			cause:   job.Unknown,
			message: "Pod was rejected: Node didn't have enough resource: cpu, requested: 500, used: 3900, capacity: 4000"},

		{name: "evicted", pod: evicted, cause: job.Evicted,
			message: "Pod ephemeral local storage usage exceeds the total limit of containers 10Gi."},
		{name: "evicted, agent killed", pod: evicted, containers: []corev1.ContainerStatus{said(137, "Error", "")}, cause: job.Evicted,
			message: "Pod ephemeral local storage usage exceeds the total limit of containers 10Gi."},
		{name: "evicted before conditions", pod: corev1.PodStatus{Reason: "Evicted", Message: "The node was low on resource: memory."},
			cause: job.Evicted, message: "The node was low on resource: memory."},
		{name: "drained", pod: corev1.PodStatus{Conditions: disrupted("EvictionByEvictionAPI")}, cause: job.Evicted},
		{name: "preempted", pod: corev1.PodStatus{Conditions: disrupted("PreemptionByScheduler")}, cause: job.Preempted},
		{name: "preempted by the kubelet", pod: corev1.PodStatus{Reason: "Preempting", Message: "Preempted in order to admit critical pod"},
			cause: job.Preempted, message: "Preempted in order to admit critical pod"},
		{name: "node lost", pod: corev1.PodStatus{Conditions: disrupted("DeletionByTaintManager")}, cause: job.NodeLost},
		{name: "node gone", pod: corev1.PodStatus{Conditions: disrupted("DeletionByPodGC")}, cause: job.NodeLost},
		{name: "preempted by the kubelet, with its condition",
			pod: corev1.PodStatus{Reason: "Preempting", Conditions: disrupted("TerminationByKubelet")}, cause: job.Preempted},
		{name: "node shut down, with its condition",
			pod: corev1.PodStatus{Reason: "Terminated", Message: "m", Conditions: disrupted("TerminationByKubelet")}, cause: job.NodeLost,
			message: "m"},
		{name: "node shut down",
			pod:   corev1.PodStatus{Reason: "Terminated", Message: "Pod was terminated in response to imminent node shutdown."},
			cause: job.NodeLost, message: "Pod was terminated in response to imminent node shutdown."},
		{name: "spared",
			pod: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionFalse,
				Reason: "PreemptionByScheduler"}}},
			cause: job.Unknown, message: "Pod x-abcde ended without a word from its agent"},
	} {
		t.Run(test.name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "x-abcde"}, Status: test.pod}
			pod.Status.ContainerStatuses = test.containers
			o := podOutcome(pod)
			if o.Cause != test.cause || o.Code != test.code || int(o.Signal) != test.signal || o.Message != test.message {
				t.Errorf("got  %s %d (signal %d) %q\nwant %s %d (signal %d) %q", o.Cause, o.Code, o.Signal, o.Message, test.cause,
					test.code, test.signal, test.message)
			}
			if o.Cause != job.Completed && o.ExitCode() == 0 {
				t.Errorf("%s has exit code 0", o.Cause)
			}
		})
	}
}

func FuzzPodOutcome(f *testing.F) {
	f.Add(int32(0), "", int32(0), "Completed")
	f.Add(int32(0), `{"cause":"Completed"}`, int32(0), "Completed")
	f.Add(int32(0), `{"cause":"Completed","code":3}`, int32(0), "Completed")
	f.Add(int32(0), `{"cause":"Signaled","code":0,"signal":"9"}`, int32(137), "OOMKilled")
	f.Add(int32(0), `{"code":99999999999,"started":"0000-01-01T00:00:00Z"}`, int32(-1), "\x1b")
	f.Add(int32(90), "x\x00y", int32(128), "StartError")
	f.Fuzz(func(t *testing.T, agent int32, message string, command int32, reason string) {
		o := podOutcome(&corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
			container("agent", "w", terminated(agent, reason, message)),
			container("job", "i", terminated(command, reason, message)),
		}}})
		if !harmless(o.Message) {
			t.Errorf("message %q", o.Message)
		}
		if code := o.ExitCode(); o.Cause != job.Completed && code == 0 && o.Cause != job.OOMKilled && !o.PodEnded {
			t.Errorf("%+v has exit code 0", o)
		}
		if o.Cause == job.Completed && agent != 0 {
			t.Errorf("an agent that exited with %d makes a success", agent)
		}
	})
}

// The Job of these tests, and one that had its name before.
var (
	thisJob  = &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "x", Namespace: "ns", UID: "this"}}
	otherJob = &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "x", Namespace: "ns", UID: "other"}}
)

// podOf returns a Pod of a Job, changed by all of change.
func podOf(owner *batchv1.Job, name string, change ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns",
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner, batchv1.SchemeGroupVersion.WithKind("Job"))}},
		Status: corev1.PodStatus{Phase: corev1.PodPending}}
	for _, c := range change {
		c(pod)
	}
	return pod
}

// onNode is a Pod that the node's kubelet has taken up, and bound one that it has not.
func onNode(pod *corev1.Pod) {
	bound(pod)
	pod.Status.StartTime = new(metav1.Now())
}

func bound(pod *corev1.Pod) { pod.Spec.NodeName = "node1" }

func with(agent, command corev1.ContainerState) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{container("agent", "w", agent), container("job", "i", command)}
	}
}

func ended(phase corev1.PodPhase) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Status.Phase = phase }
}

func runs(pod *corev1.Pod) {
	onNode(pod)
	with(running, running)(pod)
	pod.Status.Phase = corev1.PodRunning
}

func toldToEndIn(seconds int64) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		isDeleted(pod)
		pod.DeletionGracePeriodSeconds = &seconds
	}
}

// withProxy adds a container of others that runs, whatever ours do.
func withProxy(pod *corev1.Pod) {
	pod.Spec.Containers = []corev1.Container{{Name: "agent"}, {Name: "job"}, {Name: "proxy"}}
	pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, container("proxy", "p", running))
	pod.Status.Phase = corev1.PodRunning
}

func isDeleted(pod *corev1.Pod) { pod.DeletionTimestamp = new(metav1.Now()) }

func jobWith(conditions ...batchv1.JobCondition) *batchv1.Job {
	j := thisJob.DeepCopy()
	j.Status.Conditions = conditions
	return j
}

// suspended is thisJob as a queue holds it; "" is none.
func suspended(queue string) *batchv1.Job {
	j := jobWith()
	j.Spec.Suspend, j.Labels = new(true), map[string]string{manifest.LabelQueue: queue}
	return j
}

func failedJob(reason, message string) *batchv1.Job {
	return jobWith(batchv1.JobCondition{Type: batchv1.JobFailed, Status: corev1.ConditionTrue, Reason: reason, Message: message})
}

func eventOf(owner *batchv1.Job, reason, message string) *corev1.Event {
	return &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}, Reason: reason, Message: message,
		InvolvedObject: corev1.ObjectReference{Kind: "Job", Name: owner.Name, UID: owner.UID}}
}

func podEvent(field, reason, message string) *corev1.Event {
	return &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}, Reason: reason, Message: message,
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "x-1", FieldPath: field}}
}

var nodeRefuses = unreached{"x-1",
	&forward.Refusal{Said: `error forwarding port 25051 to pod 0123: failed to connect to ` +
		`localhost:25051 inside namespace "0123": dial tcp4 ` +
		`127.0.0.1:25051: connect: cannot assign requested address`}}

// wait is a time that passes between two updates.
type wait time.Duration

func TestWatcher(t *testing.T) {
	exit := func(code int32) func(*corev1.Pod) {
		cause, phase := "Completed", corev1.PodSucceeded
		if code != 0 {
			cause, phase = "Error", corev1.PodFailed
		}
		return func(pod *corev1.Pod) {
			onNode(pod)
			with(terminated(0, "Completed", termination(t, &hodeipb.ExitRecord{Cause: cause, Code: code})),
				terminated(code, "Error", ""))(pod)
			pod.Status.Phase = phase
		}
	}
	toldToEnd := func(pod *corev1.Pod) {
		onNode(pod)
		with(terminated(0, "Completed", termination(t, &hodeipb.ExitRecord{Code: 143, Signal: 15, Message: "the Pod was told to end"})),
			terminated(143, "Error", ""))(pod)
		pod.Status.Phase = corev1.PodFailed
	}
	notPulled := with(running, waiting("ErrImagePull", `failed to resolve reference "i": i: not found`))
	backOff := with(running, waiting("ImagePullBackOff", `Back-off pulling image "i": ErrImagePull: i: not found`))
	quota := eventOf(thisJob, "FailedCreate", `Error creating: pods "x-1" is forbidden: exceeded quota: mem`)
	quotaAgain := eventOf(thisJob, "FailedCreate", `Error creating: pods "x-2" is forbidden: exceeded quota: mem`)
	unschedulable := func(pod *corev1.Pod) {
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable",
			Message: "0/1 nodes are available: 1 Insufficient cpu."}}
	}
	startError := terminated(128, "StartError",
		runc+`exec: "/run/hodei/hodei-worker": stat /run/hodei/hodei-worker: no such file or directory: unknown`)
	preempted := func(pod *corev1.Pod) { pod.Status.Conditions = disrupted("PreemptionByScheduler") }

	const another = "running… waiting for another attempt: the cluster makes it after a back-off of 10s and more"

	for _, test := range []struct {
		name    string
		retries int32
		updates []any
		phases  []string
		want    string // the outcome or the failure that the last update brings about; empty: none
	}{
		{name: "from start to end",
			updates: []any{jobUpdate{job: thisJob}, podUpdate{pod: podOf(thisJob, "x-1")}, podUpdate{pod: podOf(thisJob, "x-1", onNode)},
				podEvent("spec.containers{agent}", "Pulled", `Container image "w" already present on machine`),
				podEvent("spec.containers{job}", "Pulling", `Pulling image "registry.example/i:1"`),
				podEvent("spec.containers{job}", "Pulled", `Successfully pulled image "registry.example/i:1" in 1.2s`),
				podUpdate{pod: podOf(thisJob, "x-1", onNode, with(running, waiting("ContainerCreating", "")))},
				podUpdate{pod: podOf(thisJob, "x-1", runs)}, podEvent("spec.containers{job}", "Pulling", `Pulling image "late"`),
				podUpdate{pod: podOf(thisJob, "x-1", exit(0))}},
			phases: []string{"submitted k8s (ns)", "scheduled node1", "pulling registry.example/i:1", "image pulled"},
			want:   "outcome Completed 0: "},
		{name: "images that are there",
			updates: []any{jobUpdate{job: thisJob}, podUpdate{pod: podOf(thisJob, "x-1", onNode)},
				podEvent("spec.containers{job}", "Pulled", `Container image "i" already present on machine and can be accessed by the pod`),
				podUpdate{pod: podOf(thisJob, "x-1", exit(7))}},
			phases: []string{"submitted k8s (ns)", "scheduled node1", "image present"}, want: "outcome Error 7: "},
		{name: "all at once", updates: []any{podUpdate{pod: podOf(thisJob, "x-1", exit(0))}}, phases: []string{"scheduled node1"},
			want: "outcome Completed 0: "},

		{name: "an earlier job's end",
			updates: []any{jobUpdate{job: otherJob, gone: true}, podUpdate{pod: podOf(otherJob, "x-0", exit(3))},
				podUpdate{pod: podOf(otherJob, "x-0"), gone: true},
				eventOf(otherJob, "FailedCreate", `Error creating: pods "x-0" is forbidden: violates PodSecurity "restricted:latest"`),
				wait(time.Minute)}},
		{name: "a Pod that nobody owns",
			updates: []any{podUpdate{pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "x-0"},
				Status: corev1.PodStatus{Phase: corev1.PodFailed}}}}},

		{name: "no image, for a while",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", onNode, notPulled)}, wait(time.Second), wait(2 * time.Second),
				podUpdate{pod: podOf(thisJob, "x-1", onNode, backOff)}, wait(20 * time.Second),
				podUpdate{pod: podOf(thisJob, "x-1", runs)}, wait(time.Minute)},
			phases: []string{"scheduled node1", `pulling… image "i" can't be pulled: i: not found`}},
		{name: "no image",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", onNode, notPulled)}, wait(15 * time.Second),
				podUpdate{pod: podOf(thisJob, "x-1", onNode, backOff)}, wait(16 * time.Second)},
			phases: []string{"scheduled node1", `pulling… image "i" can't be pulled: i: not found`},
			want:   `failure ImagePull: image "i" can't be pulled: i: not found (waited 30s)`},
		{name: "no such name",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", onNode, with(running, waiting("InvalidImageName", "")))}},
			phases:  []string{"scheduled node1"}, want: `failure InvalidImage: image "i" is not a valid image name`},
		{name: "no Secret",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", onNode,
				with(running, waiting("CreateContainerConfigError", `secret "k" not found`)))}},
			phases: []string{"scheduled node1"}, want: `failure ConfigError: secret "k" not found`},
		{name: "no node, then one",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", unschedulable)}, wait(3 * time.Second), wait(9 * time.Minute),
				podUpdate{pod: podOf(thisJob, "x-1", onNode)}, wait(time.Hour)},
			phases: []string{"scheduled… no node takes it: 0/1 nodes are available: 1 Insufficient cpu.", "scheduled node1"}},
		{name: "a node that does not take it up, and then does",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", bound)}, wait(4 * time.Second), wait(2 * time.Second), wait(time.Minute),
				podUpdate{pod: podOf(thisJob, "x-1", onNode)}, wait(time.Hour)},
			phases: []string{"scheduled node1",
				"pulling… node node1 has not taken the job's Pod up: its kubelet does not run, or can't reach the cluster"}},
		{name: "a node that is lost under way",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", runs)}, podEvent("", "NodeNotReady", "Node is not ready"), wait(time.Hour),
				podUpdate{pod: podOf(thisJob, "x-1", runs, toldToEndIn(20),
					func(p *corev1.Pod) { p.Status.Conditions = disrupted("DeletionByTaintManager") })}, wait(49 * time.Second),
				wait(time.Second)},
			phases: []string{"scheduled node1", "running… the node of x-1 is not ready: waiting for it"},
			want:   "outcome NodeLost 0: Pod x-1 was told to end and has not: its node is lost, or its kubelet does not run"},
		{name: "a node that is lost before the start",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", onNode, toldToEndIn(0))}, wait(overdueWait)},
			phases:  []string{"scheduled node1"},
			want:    "failure NodeLost: Pod x-1 was told to end and has not: its node is lost, or its kubelet does not run"},
		{name: "told to end, and it does",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", runs, toldToEndIn(20))}, wait(49 * time.Second),
				podUpdate{pod: podOf(thisJob, "x-1", toldToEnd, toldToEndIn(20))}},
			phases: []string{"scheduled node1"}, want: "outcome Signaled 143: the Pod was told to end"},
		{name: "no service account",
			updates: []any{jobUpdate{job: thisJob},
				eventOf(thisJob, "FailedCreate",
					`Error creating: pods "x-" is forbidden: error looking up service account ns/a: serviceaccount "a" not found`)},
			phases: []string{"submitted k8s (ns)"}, want: `failure ConfigError: serviceaccount "a" not found in namespace "ns"`},
		{name: "quota, then room",
			updates: []any{jobUpdate{job: thisJob}, quota, wait(3 * time.Second), quotaAgain, wait(3 * time.Second),
				podUpdate{pod: podOf(thisJob, "x-1")}, wait(time.Hour)},
			phases: []string{"submitted k8s (ns)", `scheduled… the Pod is forbidden: exceeded quota: mem`}},
		{name: "a hitch that nobody needs to know of",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", onNode)}, podEvent("", "FailedMount", "not yet"), wait(time.Second),
				podUpdate{pod: podOf(thisJob, "x-1", runs)}, wait(time.Hour)},
			phases: []string{"scheduled node1"}},
		{name: "a hitch that lasts",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", onNode)}, podEvent("", "FailedMount", "not yet"), wait(3 * time.Second),
				wait(time.Hour)},
			phases: []string{"scheduled node1", "pulling… not yet"}},
		{name: "no launcher, and the agent has not said why",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", onNode, with(running, startError))}, wait(6 * time.Second)},
			phases:  []string{"scheduled node1"},
			want: `failure AgentLost: the job's container could not be started: exec: "/run/hodei/hodei-worker": stat ` +
				`/run/hodei/hodei-worker: no such file or directory (waited 5s)`},
		{name: "no launcher, and the agent says why",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", onNode, with(running, startError))}, wait(time.Second),
				podUpdate{pod: podOf(thisJob, "x-1", onNode, with(terminated(1, "Error", "copy: no space left on device"), startError))}},
			phases: []string{"scheduled node1"},
			want:   `failure AgentLost: the launcher was not put in place: copy: no space left on device`},
		{name: "no launcher came",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", onNode,
				with(terminated(contract.ExitNeverStarted, "Error", "no launcher"), waiting("ContainerCreating", "")),
				ended(corev1.PodFailed))}},
			phases: []string{"scheduled node1"}, want: `failure StartTimeout: the command never started: no launcher`},
		{name: "the launcher was killed before its hello",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", runs)},
				podUpdate{pod: podOf(thisJob, "x-1", onNode, with(running, terminated(137, "Error", "")))},
				podUpdate{pod: podOf(thisJob, "x-1", onNode,
					with(terminated(contract.ExitNeverStarted, "Error",
						"the launcher ended before the command started: exit code 137 (Error)"), terminated(137, "Error", "")),
					ended(corev1.PodFailed))}},
			phases: []string{"scheduled node1"},
			want:   `failure AgentLost: the command never started: the launcher ended before the command started: exit code 137 (Error)`},
		{name: "the launcher was killed before its hello, and is tried again", retries: 1,
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", runs)},
				podUpdate{pod: podOf(thisJob, "x-1", onNode,
					with(terminated(contract.ExitNeverStarted, "Error", "EOF"), terminated(137, "Error", "")), ended(corev1.PodFailed))},
				wait(20 * time.Second),
				podUpdate{pod: podOf(thisJob, "x-2", runs)}, podUpdate{pod: podOf(thisJob, "x-2", exit(0))}},
			phases: []string{"scheduled node1", "scheduled node1"}, want: "outcome Completed 0: "},
		{name: "never started, to the last attempt", retries: 1,
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", onNode,
				with(terminated(contract.ExitNeverStarted, "Error", "EOF"), terminated(137, "Error", "")), ended(corev1.PodFailed))},
				wait(20 * time.Second),
				podUpdate{pod: podOf(thisJob, "x-2", onNode,
					with(terminated(contract.ExitNeverStarted, "Error", "EOF"), terminated(137, "Error", "")), ended(corev1.PodFailed))},
				jobUpdate{job: failedJob("BackoffLimitExceeded", "")}},
			phases: []string{"scheduled node1", "scheduled node1"}, want: "outcome AgentLost 125: the command never started: EOF"},
		{name: "the agent had its Pod evicted",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", onNode, func(p *corev1.Pod) {
				p.Status.Reason, p.Status.Message = "Evicted", `Usage of EmptyDir volume "hodei-start-timeout" exceeds the limit "1Mi".`
			}, ended(corev1.PodFailed))}},
			phases: []string{"scheduled node1"},
			want:   "failure StartTimeout: the command never started: its start timeout was over, and the agent had its Pod evicted"},
		{name: "a Job that was never completed",
			updates: []any{jobUpdate{job: func() *batchv1.Job {
				j := failedJob("DeadlineExceeded", "Job was active longer than specified deadline")
				j.Spec.ActiveDeadlineSeconds = new(int64(makingSeconds))
				return j
			}()}},
			phases: []string{"submitted k8s (ns)"},
			want: "outcome Unknown 125: the hodei that made the job was ended before it was complete, and the cluster ended the job " +
				"after 2m0s"},
		{name: "a right that is missing",
			updates: []any{refusal{denied(
				`pods is forbidden: User "dev" cannot watch resource "pods" in API group "" in the namespace "ns"`)}},
			want: `failure Forbidden: forbidden: user "dev" may not watch pods in namespace "ns"`},

		{name: "evicted before its start",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", onNode, preempted, ended(corev1.PodFailed))}},
			phases:  []string{"scheduled node1"}, want: "failure Preempted: "},
		{name: "evicted before its start, and tried again", retries: 1,
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", onNode, preempted, ended(corev1.PodFailed))}, wait(10 * time.Second),
				podUpdate{pod: podOf(thisJob, "x-2", onNode)}, podUpdate{pod: podOf(thisJob, "x-2", runs)},
				podUpdate{pod: podOf(thisJob, "x-2", exit(0))}},
			phases: []string{"scheduled node1", "scheduled node1"}, want: "outcome Completed 0: "},
		{name: "evicted under way",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", runs)},
				podUpdate{pod: podOf(thisJob, "x-1", onNode, preempted, ended(corev1.PodFailed))}},
			phases: []string{"scheduled node1"}, want: "outcome Preempted 0: "},
		{name: "deleted under way",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", runs)}, podUpdate{pod: podOf(thisJob, "x-1", runs), gone: true},
				wait(4 * time.Second), wait(2 * time.Second)},
			phases: []string{"scheduled node1"}, want: "outcome Unknown 0: Pod x-1 was deleted under way"},
		{name: "deleted before its start",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1")}, podUpdate{pod: podOf(thisJob, "x-1"), gone: true}, wait(6 * time.Second)},
			want:    "failure Unknown: Pod x-1 was deleted under way"},
		{name: "deleted under way, and the Job says it failed",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", runs)}, podUpdate{pod: podOf(thisJob, "x-1", runs), gone: true},
				jobUpdate{job: failedJob("BackoffLimitExceeded", "Job has reached the specified backoff limit")}},
			phases: []string{"scheduled node1"}, want: "outcome Unknown 0: Pod x-1 was deleted under way"},
		{name: "deleted under way, and tried again", retries: 1,
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", runs)}, podUpdate{pod: podOf(thisJob, "x-1", runs), gone: true},
				wait(20 * time.Second),
				podUpdate{pod: podOf(thisJob, "x-2", runs)}, wait(time.Hour), podUpdate{pod: podOf(thisJob, "x-2", exit(4))},
				jobUpdate{job: failedJob("BackoffLimitExceeded", "")}},
			phases: []string{"scheduled node1", another}, want: "outcome Error 4: "},

		{name: "retried to success", retries: 2,
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", exit(1))}, podUpdate{pod: podOf(thisJob, "x-2", exit(1))},
				podUpdate{pod: podOf(thisJob, "x-3", exit(0))}},
			phases: []string{"scheduled node1"}, want: "outcome Completed 0: "},
		{name: "retried to the end", retries: 1,
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", exit(1))}, wait(time.Second), wait(11 * time.Minute),
				podUpdate{pod: podOf(thisJob, "x-2", exit(2))}, wait(11 * time.Minute),
				jobUpdate{job: failedJob("BackoffLimitExceeded", "")}},
			phases: []string{"scheduled node1", another}, want: "outcome Error 2: "},
		{name: "another attempt is not made", retries: 1,
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", exit(1))}, wait(time.Minute), quota, wait(11*time.Minute - 1), wait(1)},
			phases:  []string{"scheduled node1", another, "running… the Pod is forbidden: exceeded quota: mem"},
			want:    "failure StartTimeout: the next attempt did not start within 12m0s: the Pod is forbidden: exceeded quota: mem"},
		{name: "another attempt does not start", retries: 1,
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", exit(1))}, wait(time.Second),
				podUpdate{pod: podOf(thisJob, "x-2", unschedulable)}, wait(3 * time.Second), wait(11*time.Minute - 4*time.Second),
				wait(time.Second)},
			phases: []string{"scheduled node1", "running… no node takes it: 0/1 nodes are available: 1 Insufficient cpu."},
			want: "failure StartTimeout: the next attempt did not start within 11m0s: no node takes it: 0/1 nodes are available: 1 " +
				"Insufficient cpu."},
		{name: "the Job's end comes before its last Pod's", retries: 1,
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", exit(1))}, podUpdate{pod: podOf(thisJob, "x-2", runs)},
				jobUpdate{job: jobWith(batchv1.JobCondition{Type: batchv1.JobComplete, Status: corev1.ConditionTrue})},
				podUpdate{pod: podOf(thisJob, "x-2", exit(0))}},
			phases: []string{"scheduled node1"}, want: "outcome Completed 0: "},

		{name: "a container of others runs on",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", runs)}, podUpdate{pod: podOf(thisJob, "x-1", exit(7), withProxy)}},
			phases:  []string{"scheduled node1"}, want: "outcome Error 7: "},
		{name: "a container of others runs on, and the command before it was to be tried again", retries: 1,
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", runs, withProxy)},
				podUpdate{pod: podOf(thisJob, "x-1", exit(7), withProxy)}, wait(29 * time.Second), wait(time.Second)},
			phases: []string{"scheduled node1",
				"running… container proxy, which the cluster added, still runs: no other attempt can follow; waiting 30s for it"},
			want: "outcome Error 7: "},
		{name: "a container of others ends late, and another attempt follows", retries: 1,
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", runs, withProxy)},
				podUpdate{pod: podOf(thisJob, "x-1", exit(7), withProxy)}, wait(29 * time.Second),
				podUpdate{pod: podOf(thisJob, "x-1", exit(7))}, wait(time.Minute), podUpdate{pod: podOf(thisJob, "x-2", runs, withProxy)},
				podUpdate{pod: podOf(thisJob, "x-2", exit(0), withProxy)}},
			phases: []string{"scheduled node1",
				"running… container proxy, which the cluster added, still runs: no other attempt can follow; waiting 30s for it", another},
			want: "outcome Completed 0: "},

		{name: "Job deleted", updates: []any{jobUpdate{job: thisJob}, jobUpdate{job: thisJob, gone: true}, wait(6 * time.Second)},
			phases: []string{"submitted k8s (ns)"}, want: "outcome Unknown 0: job x was deleted"},
		{name: "Job deleted under way, and the agent finishes",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", runs)}, jobUpdate{job: thisJob, gone: true}, wait(30 * time.Second),
				podUpdate{pod: podOf(thisJob, "x-1", exit(0))}},
			phases: []string{"scheduled node1"}, want: "outcome Completed 0: "},
		{name: "Job deleted under way, and the Pod with it",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", runs)}, jobUpdate{job: thisJob, gone: true}, wait(30 * time.Second),
				podUpdate{pod: podOf(thisJob, "x-1", runs), gone: true}},
			phases: []string{"scheduled node1"}, want: "outcome Unknown 0: job x was deleted"},
		{name: "Job deleted, its Pod orphaned",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", runs)}, jobUpdate{job: thisJob, gone: true},
				podUpdate{pod: podOf(thisJob, "x-1", exit(0), func(p *corev1.Pod) { p.OwnerReferences = nil })}},
			phases: []string{"scheduled node1"}, want: "outcome Completed 0: "},
		{name: "beyond the backstop",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", runs)},
				jobUpdate{job: failedJob("DeadlineExceeded", "Job was active longer\nthan specified deadline")}},
			phases: []string{"scheduled node1"}, want: "outcome DeadlineExceeded 0: Job was active longer than specified deadline"},
		{name: "failed without a Pod", updates: []any{jobUpdate{job: failedJob("FailedIndexes", "for a reason")}, wait(6 * time.Second)},
			phases: []string{"submitted k8s (ns)"}, want: "outcome Unknown 0: the job ended without an exit record: for a reason"},
		{name: "an agent that can't be reached", retries: 0,
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", onNode)}, nodeRefuses, wait(9 * time.Second), nodeRefuses,
				podUpdate{pod: podOf(thisJob, "x-1", runs)}, nodeRefuses,
				wait(unreachedWait - 1), nodeRefuses, wait(1), nodeRefuses, nodeRefuses, podUpdate{pod: podOf(thisJob, "x-1", exit(0))}},
			phases: []string{"scheduled node1",
				"running… the agent can't be reached: dial tcp4 127.0.0.1:25051: connect: cannot assign requested address; to end the " +
					"job: kubectl delete job -n ns x"},
			want: "outcome Completed 0: "},
		{name: "queued, and let go after more than the start timeout",
			updates: []any{jobUpdate{job: suspended("team-a")}, wait(time.Second), wait(24 * time.Hour), jobUpdate{job: thisJob},
				podUpdate{pod: podOf(thisJob, "x-1", runs)}, podUpdate{pod: podOf(thisJob, "x-1", exit(0))}},
			phases: []string{"submitted k8s (ns)", "scheduled… queue team-a has not admitted the job yet", "scheduled node1"},
			want:   "outcome Completed 0: "},
		{name: "suspended before its Pod could start",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", func(p *corev1.Pod) {
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
					Reason: "Unschedulable", Message: "0/1 nodes"}}
			})}, jobUpdate{job: suspended("")}, podUpdate{pod: podOf(thisJob, "x-1"), gone: true}, wait(time.Minute),
				jobUpdate{job: thisJob}, wait(time.Minute),
				podUpdate{pod: podOf(thisJob, "x-2", runs)}, podUpdate{pod: podOf(thisJob, "x-2", exit(0))}},
			phases: []string{"scheduled… the job is suspended", "scheduled node1"}, want: "outcome Completed 0: "},
		{name: "suspended as its Pod started",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", onNode)}, jobUpdate{job: suspended("")},
				podUpdate{pod: podOf(thisJob, "x-1", onNode, ended(corev1.PodFailed))}, wait(time.Minute)},
			phases: []string{"scheduled node1", "pulling… the job is suspended"}},
		{name: "suspended under way",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", runs)}, jobUpdate{job: suspended("team-a")}, wait(time.Minute),
				podUpdate{pod: podOf(thisJob, "x-1", toldToEnd)}},
			phases: []string{"scheduled node1"}, want: "outcome Preempted 143: " + suspendedByHand},
		{name: "suspended under way, and resumed before its Pod's end",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", runs)}, jobUpdate{job: suspended("")}, jobUpdate{job: thisJob},
				podUpdate{pod: podOf(thisJob, "x-1", toldToEnd)}},
			phases: []string{"scheduled node1"}, want: "outcome Preempted 143: " + suspendedByHand},
		{name: "suspended under way, and its Pod gone",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", runs)}, jobUpdate{job: suspended("")},
				podUpdate{pod: podOf(thisJob, "x-1", runs), gone: true}},
			phases: []string{"scheduled node1"}, want: "outcome Preempted 0: " + suspendedByHand},
		{name: "suspended under way, and its agent killed",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", runs)}, jobUpdate{job: suspended("")},
				podUpdate{pod: podOf(thisJob, "x-1", onNode, with(terminated(137, "Error", ""), terminated(137, "Error", "")),
					ended(corev1.PodFailed))}},
			phases: []string{"scheduled node1"}, want: "outcome Preempted 0: " + suspendedByHand},
		{name: "suspended under way, and the command ends by itself",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", runs)}, jobUpdate{job: suspended("")},
				podUpdate{pod: podOf(thisJob, "x-1", exit(3))}},
			phases: []string{"scheduled node1"}, want: "outcome Error 3: "},
		{name: "suspended under way, and tried again", retries: 1,
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", runs)}, jobUpdate{job: suspended("")},
				podUpdate{pod: podOf(thisJob, "x-1", toldToEnd)}, wait(time.Hour), jobUpdate{job: thisJob},
				podUpdate{pod: podOf(thisJob, "x-2", runs)}, podUpdate{pod: podOf(thisJob, "x-2", exit(0))}},
			phases: []string{"scheduled node1"}, want: "outcome Completed 0: "},
		{name: "deleted under way, and its Job is not suspended",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", runs)}, podUpdate{pod: podOf(thisJob, "x-1", toldToEnd, isDeleted)}},
			phases:  []string{"scheduled node1"}, want: "outcome Signaled 143: the Pod was told to end"},
		{name: "a condition that is not so",
			updates: []any{jobUpdate{job: jobWith(batchv1.JobCondition{Type: batchv1.JobFailed, Status: corev1.ConditionFalse},
				batchv1.JobCondition{Type: batchv1.JobSuspended, Status: corev1.ConditionTrue})}, wait(time.Minute)},
			phases: []string{"submitted k8s (ns)"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, phases := testWatcher(t, test.retries)
				for i, u := range test.updates {
					var o *job.Outcome
					var err error
					if d, ok := u.(wait); ok {
						time.Sleep(time.Duration(d))
						o, err = w.passed(t.Context())
					} else {
						o, err = w.take(t.Context(), u)
					}
					got := endText(o, err)
					want := ""
					if i == len(test.updates)-1 {
						want = test.want
					}
					if got != want {
						t.Fatalf("after update %d (%T): got %q, want %q", i, u, got, want)
					}
				}
				if !slices.Equal(*phases, test.phases) {
					t.Errorf("phases\n got %q\nwant %q", *phases, test.phases)
				}
				for p := range w.run.pods {
					if p == "x-0" {
						t.Error("a deletion would delete another job's Pod")
					}
				}
			})
		})
	}
}

// TestResume attaches to a job under way, or to one that has ended.
func TestResume(t *testing.T) {
	exit := func(code int32) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			cause, phase := "Completed", corev1.PodSucceeded
			if code != 0 {
				cause, phase = "Error", corev1.PodFailed
			}
			onNode(pod)
			with(terminated(0, "Completed", termination(t, &hodeipb.ExitRecord{Cause: cause, Code: code})),
				terminated(code, "Error", ""))(pod)
			pod.Status.Phase = phase
		}
	}
	neverCame := func(pod *corev1.Pod) {
		onNode(pod)
		with(terminated(contract.ExitNeverStarted, "Error", "no launcher"), waiting("ContainerCreating", ""))(pod)
		pod.Status.Phase = corev1.PodFailed
	}
	made := func(second int, pod *corev1.Pod) corev1.Pod {
		pod.CreationTimestamp = metav1.Unix(int64(second), 0)
		return *pod
	}
	forbidden := refusal{denied(`pods "x-1" is forbidden: User "dev" cannot create resource "pods/portforward" in API group "" in the ` +
		`namespace "ns"`)}
	for _, test := range []struct {
		name     string
		retries  int32
		noTunnel bool
		met      bool
		found    []corev1.Pod
		updates  []any
		phases   []string
		want     string
	}{
		{name: "under way", found: []corev1.Pod{made(1, podOf(thisJob, "x-1", runs))},
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", runs)}, wait(time.Hour), podUpdate{pod: podOf(thisJob, "x-1", exit(3))}},
			phases:  []string{"submitted k8s (ns)"}, want: "outcome Error 3: "},
		{name: "not started", found: []corev1.Pod{made(1, podOf(thisJob, "x-1"))},
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", onNode)}, podUpdate{pod: podOf(thisJob, "x-1", exit(0))}},
			phases:  []string{"submitted k8s (ns)", "scheduled node1"}, want: "outcome Completed 0: "},
		{name: "ended since", found: []corev1.Pod{made(1, podOf(thisJob, "x-1", runs))},
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", exit(4))}}, phases: []string{"submitted k8s (ns)"},
			want: "outcome Error 4: "},
		{name: "its Pod has ended, and the Job says so next", found: []corev1.Pod{made(1, podOf(thisJob, "x-1", exit(5)))},
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", exit(5))}, jobUpdate{job: failedJob("BackoffLimitExceeded", "")}},
			phases:  []string{"submitted k8s (ns)"}, want: "outcome Error 5: "},
		{name: "the second attempt, whatever their names' order", retries: 2,
			found: []corev1.Pod{made(2, podOf(thisJob, "x-1", exit(6))), made(1, podOf(thisJob, "x-2", exit(5)))},
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", exit(6))}, podUpdate{pod: podOf(thisJob, "x-2", exit(5))},
				jobUpdate{job: failedJob("BackoffLimitExceeded", "")}},
			phases: []string{"submitted k8s (ns)"}, want: "outcome Error 6: "},
		{name: "an attempt after one that never started",
			found: []corev1.Pod{made(1, podOf(thisJob, "x-1", neverCame)), made(2, podOf(thisJob, "x-2"))},
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", neverCame)}, podUpdate{pod: podOf(thisJob, "x-2", runs)},
				podUpdate{pod: podOf(thisJob, "x-2", exit(0))}},
			phases: []string{"submitted k8s (ns)", "scheduled node1"}, want: "outcome Completed 0: "},
		{name: "deleted before it was seen", found: []corev1.Pod{made(1, podOf(thisJob, "x-1", runs))},
			updates: []any{jobUpdate{job: thisJob, gone: true}, wait(6 * time.Second)}, phases: []string{"submitted k8s (ns)"},
			want: "outcome Unknown 0: job x was deleted"},
		{name: "the tunnel is forbidden", found: []corev1.Pod{made(1, podOf(thisJob, "x-1", runs))},
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", runs)}, forbidden}, phases: []string{"submitted k8s (ns)"},
			want: `failure Forbidden: forbidden: user "dev" may not create pods/portforward in namespace "ns"`},
		{name: "the tunnel is forbidden later", met: true, found: []corev1.Pod{made(1, podOf(thisJob, "x-1", runs))},
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", runs)}, forbidden}, phases: []string{"submitted k8s (ns)"}},
		{name: "without a tunnel", noTunnel: true, retries: 1,
			found: []corev1.Pod{made(1, podOf(thisJob, "x-1", exit(5))), made(2, podOf(thisJob, "x-2", onNode))},
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", exit(5))}, podUpdate{pod: podOf(thisJob, "x-2", runs)},
				podUpdate{pod: podOf(thisJob, "x-2", runs)}, podUpdate{pod: podOf(thisJob, "x-2", exit(0))}},
			phases: []string{"submitted k8s (ns)", "running x-2"}, want: "outcome Completed 0: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, phases := testWatcher(t, test.retries)
				w.run.noTunnel = test.noTunnel
				w.run.found = newFound(thisJob, w.run.spec, test.found)
				w.run.met.Store(test.met)
				updates := make(chan any)
				w.run.updates = updates
				done := make(chan string, 1)
				go func() {
					o, err := w.run.Watch(t.Context(), w.tell)
					done <- endText(o, err)
				}()
				for i, u := range test.updates {
					synctest.Wait()
					select {
					case got := <-done:
						t.Fatalf("ended before update %d: %s", i, got)
					default:
					}
					if d, ok := u.(wait); ok {
						time.Sleep(time.Duration(d))
					} else {
						updates <- u
					}
				}
				synctest.Wait()
				select {
				case got := <-done:
					if got != test.want {
						t.Errorf("got %q, want %q", got, test.want)
					}
				default:
					if test.want != "" {
						t.Errorf("it goes on, want %q", test.want)
					}
				}
				if !slices.Equal(*phases, test.phases) {
					t.Errorf("phases\n got %q\nwant %q", *phases, test.phases)
				}
			})
		})
	}
	t.Run("finished", func(t *testing.T) {
		w, phases := testWatcher(t, 0)
		w.run.found = newFound(failedJob("BackoffLimitExceeded", ""), w.run.spec, []corev1.Pod{made(1, podOf(thisJob, "x-1", exit(7)))})
		o, err := w.run.Watch(t.Context(), w.tell)
		if got := endText(o, err); got != "outcome Error 7: " || o.Attempt != "x-1" ||
			!slices.Equal(*phases, []string{"submitted k8s (ns)"}) {
			t.Errorf("got %q of %+v, phases %q", got, o, *phases)
		}
	})
}

// Without a tunnel nobody but the Pod says that the command runs.
func TestNoTunnel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, phases := testWatcher(t, 1)
		w.tunnelled = false // as newWatcher has it of a Run with NoTunnel
		for _, u := range []any{
			podUpdate{pod: podOf(thisJob, "x-1", onNode)}, podUpdate{pod: podOf(thisJob, "x-1", runs)},
			podUpdate{pod: podOf(thisJob, "x-1", runs)},
			podUpdate{pod: podOf(thisJob, "x-1", runs, ended(corev1.PodFailed))}, podUpdate{pod: podOf(thisJob, "x-2", runs)},
		} {
			if o, err := w.take(t.Context(), u); o != nil || err != nil {
				t.Fatal(o, err)
			}
		}
		if want := []string{"scheduled node1", "running x-1", "running x-2"}; !slices.Equal(*phases, want) {
			t.Errorf("phases %q, want %q", *phases, want)
		}
	})
}

func endText(o *job.Outcome, err error) string {
	var f *job.Failure
	switch {
	case errors.As(err, &f):
		return fmt.Sprintf("failure %s: %s", f.Cause, f.Message)
	case err != nil:
		return err.Error()
	case o != nil:
		return fmt.Sprintf("outcome %s %d: %s", o.Cause, o.Code, o.Message)
	}
	return ""
}

// testWatcher returns a watcher of thisJob, whose informers and tunnels end as
// soon as they begin, and what it reports.
func testWatcher(t *testing.T, retries int32) (*watcher, *[]string) {
	t.Helper()
	p, err := New(Options{Config: &rest.Config{Host: "http://127.0.0.1:1"}, Name: "k8s", Provider: provider.Config{Namespace: "ns"}})
	if err != nil {
		t.Fatal(err)
	}
	work := &tasks.Group{}
	work.Close()
	spec := minimal()
	spec.Name, spec.Retries = "x", retries
	r := &Run{provider: p, spec: spec, job: thisJob, tunnel: tunnel.New(), updates: make(chan any),
		work: work, pods: map[string]bool{}}
	t.Cleanup(r.Close)
	phases := &[]string{}
	w := newWatcher(r, job.Observer{Report: func(e job.Event) {
		mark := " "
		if e.Waiting {
			mark = "… "
		}
		*phases = append(*phases, e.Phase.String()+mark+e.Detail)
	}})
	return w, phases
}

func TestStartTimeout(t *testing.T) {
	denied := apierrors.NewForbidden(corev1.Resource("events"), "",
		errors.New(`User "dev" cannot list resource "events" in API group "" in the namespace "ns"`))
	for _, test := range []struct {
		name    string
		updates []any
		met     bool
		cause   job.Cause
		message string
		hint    string // or whatever
	}{
		{name: "nothing known", cause: job.StartTimeout, message: "the command did not start within 10m0s"},
		{name: "no node", updates: []any{podUpdate{pod: podOf(thisJob, "x-1", func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable",
				Message: "0/1 nodes"}}
		})}}, cause: job.Unschedulable, message: "no node takes the job: 0/1 nodes (waited 10m0s)"},
		{name: "a mount", updates: []any{podEvent("", "FailedMount", "no such volume")}, cause: job.StartTimeout,
			message: "the command did not start within 10m0s: no such volume"},
		{name: "a large image",
			updates: []any{podUpdate{pod: podOf(thisJob, "x-1", onNode)},
				podEvent("spec.containers{job}", "Pulling", `Pulling image "big:1"`)},
			cause: job.StartTimeout, message: "the command did not start within 10m0s: still pulling big:1"},
		{name: "no right to events", updates: []any{blindness{denied}}, cause: job.StartTimeout,
			message: "the command did not start within 10m0s: why is not known, " +
				`forbidden: user "dev" may not list events in namespace "ns"`,
			hint: "--clusterrole=hodei-user --user=dev"},
		{name: "no right to events, and the Pod says why",
			updates: []any{blindness{denied}, podUpdate{pod: podOf(thisJob, "x-1", func(p *corev1.Pod) {
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
					Reason: "Unschedulable", Message: "0/1 nodes"}}
			})}, blindness{denied}}, cause: job.Unschedulable, message: "no node takes the job: 0/1 nodes (waited 10m0s)"},
		{name: "a hook", updates: []any{podUpdate{pod: podOf(thisJob, "x-1", onNode)}}, met: true, cause: job.StartTimeout,
			message: "the command did not start within 10m0s: the agent runs, but its postStart hook, which copies the launcher, has not " +
				"returned"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, _ := testWatcher(t, 0)
			for _, u := range test.updates {
				if o, err := w.take(t.Context(), u); o != nil || err != nil {
					t.Fatal(o, err)
				}
			}
			w.run.met.Store(test.met)
			var f *job.Failure
			if err := w.startTimedOut(); !errors.As(err, &f) || f.Cause != test.cause || f.Message != test.message || f.Hint == "" ||
				!strings.Contains(f.Hint, test.hint) {
				t.Errorf("got %+v", f)
			}
		})
	}
}

// TestWatch runs the loop around a watcher: the start timeout, and ctx's end.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := testWatcher(t, 0)
		began := time.Now()
		_, err := w.run.Watch(t.Context(), job.Observer{Report: func(job.Event) {}})
		if f := (*job.Failure)(nil); !errors.As(err, &f) || f.Cause != job.StartTimeout || time.Since(began) != job.DefaultStartTimeout {
			t.Errorf("got %v after %s", err, time.Since(began))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w, _ := testWatcher(t, 0)
		go func() {
			w.run.updates <- podUpdate{pod: podOf(thisJob, "x-1", runs)}
			time.Sleep(time.Hour) // more than the start timeout
			w.run.updates <- podUpdate{pod: podOf(thisJob, "x-1", ended(corev1.PodFailed), func(p *corev1.Pod) {
				p.Status.ContainerStatuses = []corev1.ContainerStatus{container("agent", "w", terminated(137, "OOMKilled", ""))}
			})}
		}()
		o, err := w.run.Watch(t.Context(), job.Observer{Report: func(job.Event) {}})
		if err != nil || o.Cause != job.AgentLost || !strings.Contains(o.Message, "137") {
			t.Errorf("got %v, %v", o, err)
		}
	})
	// Suspended, the start timeout stands still, and begins anew with its end.
	synctest.Test(t, func(t *testing.T) {
		w, _ := testWatcher(t, 0)
		began := time.Now()
		go func() {
			w.run.updates <- jobUpdate{job: suspended("team-a")}
			time.Sleep(24 * time.Hour)
			w.run.updates <- jobUpdate{job: thisJob}
		}()
		_, err := w.run.Watch(t.Context(), job.Observer{Report: func(job.Event) {}})
		f := (*job.Failure)(nil)
		if took := time.Since(began); !errors.As(err, &f) || f.Message != "the command did not start within 10m0s" ||
			took != 24*time.Hour+job.DefaultStartTimeout {
			t.Errorf("got %v after %s", err, took)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w, _ := testWatcher(t, 0)
	if _, err := w.run.Watch(ctx, job.Observer{Report: func(job.Event) {}}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
