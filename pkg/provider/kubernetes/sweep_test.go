package kubernetes

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

// TestStuck: only a job that will never start, and that nothing else ends, is removed.
func TestStuck(t *testing.T) {
	began := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	unschedulable := func(pod *corev1.Pod) {
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable",
			Message: "0/1 nodes are available: 1 Insufficient cpu."}}
	}
	noImage := with(waiting("ImagePullBackOff", `Back-off pulling image "w": ErrImagePull: w: not found`), waiting("ContainerCreating", ""))
	agentWaits := with(running, waiting("ImagePullBackOff", `Back-off pulling image "i": ErrImagePull: i: not found`))
	const over = "which had not started within its start timeout of 10m0s"
	for _, test := range []struct {
		name  string
		after time.Duration // since its start timeout began
		job   func(*batchv1.Job)
		pods  []*corev1.Pod
		why   string // "": it is left alone
	}{
		{name: "no node", after: 12 * time.Minute, pods: []*corev1.Pod{podOf(thisJob, "x-1", unschedulable)},
			why: over + ": no node takes the job: 0/1 nodes are available: 1 Insufficient cpu."},
		{name: "no Pod", after: 12 * time.Minute, why: over + ": no Pod could be made for it"},
		{name: "no worker's image", after: 12 * time.Minute, pods: []*corev1.Pod{podOf(thisJob, "x-1", onNode, noImage)},
			why: over + `: the worker's image "w" can't be pulled: w: not found`},
		{name: "nothing known", after: 12 * time.Minute, pods: []*corev1.Pod{podOf(thisJob, "x-1", onNode)}, why: over},
		{name: "in time", after: 9 * time.Minute, pods: []*corev1.Pod{podOf(thisJob, "x-1", unschedulable)}},
		{name: "its follower has yet to give up", after: 10*time.Minute + time.Second,
			pods: []*corev1.Pod{podOf(thisJob, "x-1", unschedulable)}},
		{name: "an agent that has it evicted", after: 12 * time.Minute, pods: []*corev1.Pod{podOf(thisJob, "x-1", onNode, agentWaits)}},
		{name: "an agent that nobody evicts", after: 17 * time.Minute, pods: []*corev1.Pod{podOf(thisJob, "x-1", onNode, agentWaits)},
			why: over + `: image "i" can't be pulled: i: not found`},
		{name: "an agent that has left a Pod that waits", after: 12 * time.Minute,
			pods: []*corev1.Pod{podOf(thisJob, "x-1", onNode,
				with(terminated(contract.ExitStartTimeout, "Error", "no launcher came"), waiting("ImagePullBackOff", "i: not found")))},
			why: over + `: image "i" can't be pulled: i: not found`},
		{name: "runs", after: time.Hour, pods: []*corev1.Pod{podOf(thisJob, "x-1", runs)}},
		{name: "runs, says the Job", after: time.Hour, job: func(j *batchv1.Job) { j.Status.Ready = new(int32(1)) }},
		{name: "has run, and is retried", after: time.Hour,
			pods: []*corev1.Pod{podOf(thisJob, "x-1", onNode, with(terminated(0, "Completed", ""), terminated(1, "Error", "")),
				ended(corev1.PodFailed)), podOf(thisJob, "x-2", unschedulable)}},
		{name: "may have run, and its Pod is gone", after: time.Hour, job: func(j *batchv1.Job) { j.Status.Failed = 1 }},
		{name: "queued", after: time.Hour, job: func(j *batchv1.Job) { j.Spec.Suspend = new(true) }},
		{name: "resumed", after: time.Hour, job: func(j *batchv1.Job) {
			j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobSuspended, Status: corev1.ConditionFalse}}
		}, pods: []*corev1.Pod{podOf(thisJob, "x-1", unschedulable)}},
		{name: "being deleted", after: time.Hour, job: func(j *batchv1.Job) { j.DeletionTimestamp = new(metav1.Now()) }},
		{name: "over", after: time.Hour, job: func(j *batchv1.Job) {
			j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue}}
		}},
		{name: "not hodei's", after: time.Hour, job: func(j *batchv1.Job) { j.Annotations = nil }},
		{name: "nobody has looked at it", after: time.Hour, job: func(j *batchv1.Job) { j.Status.StartTime = nil }},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := thisJob.DeepCopy()
			j.Annotations = map[string]string{manifest.AnnotationSpec: `{"name":"x","command":["true"]}`}
			j.Status.StartTime = new(metav1.NewTime(began))
			if test.job != nil {
				test.job(j)
			}
			spec, err := manifest.SpecOf(j)
			if err != nil {
				spec = minimal()
			}
			var pods []corev1.Pod
			for _, pod := range test.pods {
				pods = append(pods, *pod)
			}
			why, stuck := newFound(j, spec, pods).stuck(began.Add(test.after))
			if why != test.why || stuck != (test.why != "") {
				t.Errorf("got %q, %t, want %q", why, stuck, test.why)
			}
		})
	}
}

// TestSweep holds what is asked, and what is deleted.
func TestSweep(t *testing.T) {
	long := metav1.NewTime(time.Now().Add(-time.Hour))
	jobOf := func(name string) batchv1.Job {
		return batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: "u-1", ResourceVersion: "7",
			Annotations: map[string]string{manifest.AnnotationSpec: `{"name":"` + name + `","command":["true"]}`}},
			Status: batchv1.JobStatus{StartTime: &long}}
	}
	for _, test := range []struct {
		name   string
		jobs   []batchv1.Job
		keep   string
		refuse bool
		want   []string // removed
		asked  []string
	}{
		{name: "nothing to do", asked: []string{"GET jobs"}},
		{name: "one", jobs: []batchv1.Job{jobOf("x")}, want: []string{"x"}, asked: []string{"GET jobs", "GET pods", "DELETE jobs/x"}},
		{name: "one that is kept", jobs: []batchv1.Job{jobOf("x")}, keep: "x", asked: []string{"GET jobs"}},
		{name: "no right to it", jobs: []batchv1.Job{jobOf("x")}, refuse: true, asked: []string{"GET jobs", "GET pods", "DELETE jobs/x"},
			want: []string{`x: forbidden: user "dev" may not delete jobs.batch in namespace "ns"`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var asked []string
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, path, _ := strings.Cut(r.URL.Path, "/namespaces/ns/")
				asked = append(asked, r.Method+" "+path)
				switch {
				case r.Method == http.MethodDelete && test.refuse:
					refuse(w, 403, metav1.StatusReasonForbidden,
						`jobs.batch "x" is forbidden: User "dev" cannot delete resource "jobs" in API group "batch" in the namespace "ns"`)
				case path == "pods":
					respond(w, http.StatusOK, corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}})
				case path == "jobs":
					respond(w, http.StatusOK,
						batchv1.JobList{TypeMeta: metav1.TypeMeta{Kind: "JobList", APIVersion: "batch/v1"}, Items: test.jobs})
				default:
					respond(w, http.StatusOK,
						metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess})
				}
			}))
			defer server.Close()
			p, err := New(Options{Config: configOf(server), Name: "k8s", Provider: provider.Config{Namespace: "ns"}})
			if err != nil {
				t.Fatal(err)
			}
			swept, err := p.sweep(t.Context(), test.keep)
			var got []string
			for _, s := range swept {
				name := s.Name
				if s.Err != nil {
					name += ": " + s.Err.Message
				}
				got = append(got, name)
			}
			if !slices.Equal(got, test.want) || !slices.Equal(asked, test.asked) {
				t.Errorf("removed %v after %v, want %v after %v", got, asked, test.want, test.asked)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}
