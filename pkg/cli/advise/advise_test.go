package advise

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/yaml"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/history/historytest"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/kubernetestest"
)

// pastJobs is an API server with jobs that are over.
type pastJobs struct {
	jobs      []batchv1.Job
	pods      []corev1.Pod
	forbidden bool // to list the Jobs
}

// add makes a job of one Pod, which has used so much memory; 0: nothing is known.
func (p *pastJobs) add(t *testing.T, name string, label string, peak uint64, command ...string) {
	t.Helper()
	spec, err := json.Marshal(job.Spec{Name: name, Command: command})
	if err != nil {
		t.Fatal(err)
	}
	n := len(p.jobs)
	made := metav1.NewTime(historytest.Start.Add(time.Duration(n) * time.Hour))
	p.jobs = append(p.jobs, batchv1.Job{
		TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID("job-" + name), CreationTimestamp: made,
			Labels: map[string]string{"build": label}, Annotations: map[string]string{kubernetes.AnnotationSpec: string(spec)}},
		Status: batchv1.JobStatus{Conditions: []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}},
	})
	record := &hodeipb.ExitRecord{Cause: "Completed", Started: timestamppb.New(made.Time),
		Finished: timestamppb.New(made.Add(10 * time.Second))}
	if peak > 0 {
		record.Usage = &hodeipb.Usage{CpuNs: new(uint64(5e9)), MemoryPeakBytes: &peak}
	}
	message, err := protojson.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	controller := true
	p.pods = append(p.pods, corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: name + "-1", Namespace: "ns", UID: types.UID("pod-" + name), CreationTimestamp: made,
			Labels:          map[string]string{kubernetes.LabelJob: name},
			OwnerReferences: []metav1.OwnerReference{{UID: types.UID("job-" + name), Controller: &controller}}},
		Status: corev1.PodStatus{Phase: corev1.PodSucceeded, ContainerStatuses: []corev1.ContainerStatus{
			{Name: "agent", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: string(message)}}},
			{Name: "job", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}},
		}},
	})
}

func (p *pastJobs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	base, selector := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:], r.URL.Query().Get("labelSelector")
	fail := func(code int, reason metav1.StatusReason) {
		w.WriteHeader(code)
		json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure",
			Reason: reason, Code: int32(code), Message: string(reason)})
	}
	switch {
	case base == "jobs" && p.forbidden:
		fail(http.StatusForbidden, metav1.StatusReasonForbidden)
	case base == "jobs":
		list := batchv1.JobList{TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "JobList"}}
		for _, j := range p.jobs {
			if label := j.Labels["build"]; !strings.Contains(selector, "build=") || strings.Contains(selector, "build="+label) {
				list.Items = append(list.Items, j)
			}
		}
		json.NewEncoder(w).Encode(list)
	case base == "pods":
		list := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}}
		for _, pod := range p.pods {
			name := pod.Labels[kubernetes.LabelJob]
			if !strings.Contains(selector, kubernetes.LabelJob+"=") || strings.HasSuffix(selector, "="+name) {
				list.Items = append(list.Items, pod)
			}
		}
		json.NewEncoder(w).Encode(list)
	default:
		i := slices.IndexFunc(p.jobs, func(j batchv1.Job) bool { return j.Name == base })
		if i < 0 {
			fail(http.StatusNotFound, metav1.StatusReasonNotFound)
			return
		}
		json.NewEncoder(w).Encode(p.jobs[i])
	}
}

// testAdvise advises on a job, or by a selector, in a cluster and a store.
func testAdvise(t *testing.T, server *pastJobs, s *logstore.Store, name, selector string) (o *Options, out, errOut *bytes.Buffer) {
	t.Helper()
	out, errOut = &bytes.Buffer{}, &bytes.Buffer{}
	a := &command.Env{IOStreams: genericiooptions.IOStreams{Out: out, ErrOut: errOut}, Name: "hodei",
		Getenv: func(string) string { return "" }}
	o = &Options{
		out: out, printData: a.PrintData, program: "hodei", name: name, selector: selector,
		finder: &history.Finder{Store: s, Namespace: "ns", Note: command.NewScreen(a, false).Note},
	}
	if server != nil {
		o.finder.Cluster = kubernetestest.Cluster(t, server.ServeHTTP)
	}
	return o, out, errOut
}

// storeRun keeps a run of a command in the store.
func storeRun(t *testing.T, s *logstore.Store, name string, peak uint64, command ...string) {
	t.Helper()
	key := logstore.Key{Namespace: "ns", Job: name, JobUID: "job-" + name, Attempt: name + "-1", AttemptUID: "pod-" + name}
	record := &hodeipb.ExitRecord{Cause: "Completed", Started: timestamppb.New(historytest.Start),
		Finished: timestamppb.New(historytest.Start.Add(10 * time.Second)),
		Usage:    &hodeipb.Usage{CpuNs: new(uint64(5e9)), MemoryPeakBytes: &peak}}
	historytest.Keep(t, s, key, &job.Run{Spec: &job.Spec{Name: name, Command: command, Memory: new(resource.MustParse("4Gi"))}}, record, 0)
}

// TestAdvise stands on the runs of the command, wherever they are known, each once.
func TestAdvise(t *testing.T) {
	const mi = 1 << 20
	server, s := &pastJobs{}, historytest.Store(t)
	server.add(t, "a", "1", 400*mi, "make", "test")
	server.add(t, "b", "1", 100*mi, "make", "test")
	server.add(t, "c", "1", 9000*mi, "make", "all")
	server.add(t, "d", "2", 0, "true")
	server.add(t, "deleted", "3", 0, "sh", "-c", "exit 0")
	server.pods = server.pods[:len(server.pods)-1]
	server.add(t, "waits", "4", 0, "sleep", "1")
	server.pods, server.jobs[len(server.jobs)-1].Status = server.pods[:len(server.pods)-1], batchv1.JobStatus{}
	storeRun(t, s, "a", 410*mi, "make", "test") // the same attempt
	storeRun(t, s, "gone", 812*mi, "make", "test")
	storeRun(t, s, "other", 5000*mi, "make", "other")
	forbidden := &pastJobs{jobs: server.jobs, pods: server.pods, forbidden: true}
	for _, test := range []struct {
		name           string
		server         *pastJobs
		job, selector  string
		stdout, stderr string // parts of it
		err, hint      string
	}{
		{"a job", server, "b", "",
			"b: make test\n3 attempts at it in the worker's own image\n\n" +
				"memory      asked none   advised 1Gi    the highest peak, 812Mi in gone-1, and 20 % more, rounded up\n", "", "", ""},
		{"its flags", server, "b", "", "\nflags of hodei run: --cpu 500m --cpu-limit 1 --memory 1Gi\n", "", "", ""},
		{"one that is only stored", server, "gone", "", "gone: make test\n3 attempts", "", "", ""},
		{"what it asked for, and not the latest", server, "gone", "", "memory      asked 4Gi    advised 1Gi ", "", "", ""},
		{"over and gone", server, "deleted", "", "", "",
			"nothing is left of the runs of job deleted: its Pods are gone, and it was not followed from this machine",
			"run it again, and follow it: {hodei} run -- sh -c 'exit 0'"},
		{"not started", server, "waits", "", "", "", "job waits has not started", "see why: {hodei} describe waits"},
		{"another command", server, "c", "", "1 attempt at it in the worker's own image", "", "", ""},
		{"few", server, "c", "", "\nnote: 1 attempt is little: the next one may need more; ask again after 3\n", "", "", ""},
		{"by labels", server, "", "build=1", "c: make all\n1 attempt at it", "", "", ""},
		{"by labels, the other", server, "", "build=1", "\n\nb: make test\n3 attempts", "", "", ""},
		{"nothing measured", server, "d", "", "", "", "nothing was measured of job d, nor of another run of its command",
			"{hodei} run -- true"},
		{"nothing measured, by labels", server, "", "build=2", "", "nothing was measured of d: true\n",
			"nothing was measured of these jobs", "{hodei} run -- true"},
		{"no such labels", server, "", "build=9", "", "No jobs found in ns namespace.\n", "", ""},
		{"not to be listed", forbidden, "b", "", "b: make test\n3 attempts", "without the cluster's other jobs: ", "", ""},
		{"not there", server, "x", "", "", "", `job "x" not found in namespace ns`, ""},
		{"no cluster", nil, "gone", "", "2 attempts at it", "", "", ""},
		{"no cluster, not there", nil, "x", "", "", "", `no run of a job "x" is stored on this machine`, ""},
		{"no cluster, by labels", nil, "", "a=b", "", "", "-l needs a cluster", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			o, out, errOut := testAdvise(t, test.server, s, test.job, test.selector)
			err := o.Run(t.Context())
			if err == nil && test.err != "" || err != nil && (test.err == "" || !strings.Contains(err.Error(), test.err)) {
				t.Fatalf("error %v, want %q", err, test.err)
			}
			if h, ok := errors.AsType[*job.Hinted](err); test.hint != "" && (!ok || !strings.Contains(h.Hint, test.hint)) {
				t.Errorf("error %+v, want the hint %q", err, test.hint)
			}
			if !strings.Contains(out.String(),
				test.stdout) || test.stdout == "" && out.Len() > 0 || !strings.Contains(errOut.String(), test.stderr) {
				t.Errorf("stdout:\n%s\nstderr:\n%s", out, errOut)
			}
		})
	}
}

// What is printed for programs is data, and one patch.
func TestAdviseFormats(t *testing.T) {
	s := historytest.Store(t)
	storeRun(t, s, "x", 812<<20, "make", "a b")
	for _, test := range []struct{ format, patch, want string }{
		{"json", "", `"flags": "--cpu 500m --cpu-limit 1 --memory 1Gi"`},
		{"yaml", "", "flags: --cpu 500m --cpu-limit 1 --memory 1Gi\n"},
		{"", "cronjob",
			"spec:\n  jobTemplate:\n    spec:\n      template:\n        spec:\n          containers:\n" +
				"          - name: job\n            resources:\n              limits:\n                memory: 1Gi\n"},
		{"json", "template", `"containers": [`},
		{"", "provider", "cpu: 500m\ncpu_limit: \"1\"\nmemory: 1Gi\nmemory_limit: 1Gi\n"},
	} {
		t.Run(fmt.Sprintf("%s %s", test.format, test.patch), func(t *testing.T) {
			o, out, _ := testAdvise(t, nil, s, "x", "")
			o.format, o.patch = test.format, test.patch
			if err := o.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			var v map[string]any
			if err := yaml.Unmarshal(out.Bytes(), &v); err != nil || len(v) == 0 || !strings.Contains(out.String(), test.want) {
				t.Errorf("got %v:\n%s", err, out)
			}
		})
	}
}
