package describe

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output/outputtest"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/usage/usagetest"
)

func TestDescribeText(t *testing.T) {
	q := func(s string) *resource.Quantity { return new(resource.MustParse(s)) }
	at := func(seconds int) time.Time { return usagetest.Began.Add(time.Duration(seconds) * time.Second) }
	phases := []job.Event{
		{Phase: job.Submitted, Time: at(0), Detail: "make-k3x9z"},
		{Phase: job.Scheduled, Time: at(1), Detail: "no node takes it", Waiting: true},
		{Phase: job.Scheduled, Time: at(3), Detail: "node1"},
		{Phase: job.Running, Time: at(4), Detail: "make-k3x9z-1"},
	}
	full := usagetest.Sample(10, 1.5).Usage
	full.Source = "cgroup2+ebpf"
	full.CPU.User, full.CPU.System, full.CPU.Throttled = new(9*time.Second), new(time.Second), new(2*time.Second)
	full.Memory.Anon, full.Memory.File, full.Memory.Kernel, full.Memory.Swap = new(uint64(1<<20)), new(uint64(2<<20)),
		new(uint64(3<<20)), new(uint64(0))
	full.Memory.MaxEvents, full.Memory.OOMEvents, full.Memory.OOMKills = new(uint64(5)), new(uint64(1)), new(uint64(1))
	full.Memory.OOMVictim = &job.OOMVictim{Name: "py\x1b[2Jthon", Pid: 4711, Bytes: 498 << 20}
	full.IO.ReadOps, full.IO.WriteOps = new(uint64(10)), new(uint64(20))
	full.Network.IPv6 = &job.Traffic{ReceiveBytes: 5000}
	full.Pids.Limit = new(uint64(1024))
	full.Pressure.CPUSome = new(3 * time.Second)
	full.RunQueueWaits = []uint64{0, 0, 50, 40, 9, 1}
	full.RunQueueWatched = 200 * time.Millisecond
	rate := job.RateBetween(*usagetest.Sample(9, 1.5), *usagetest.Sample(10, 1.5))
	running := description{
		Name: "make-k3x9z", Namespace: "ns", Provider: "k8s-local", Created: at(0), State: "Running",
		Spec: &job.Spec{Name: "make-k3x9z", Command: []string{"sh", "-c", "echo '\x1b[2J'"}, Image: "golang:1.26",
			Env: []job.EnvVar{{Name: "A"}}, EnvFrom: []job.EnvSource{{Secret: "s"}, {ConfigMap: "c"}},
			CPU: q("1"), CPULimit: q("2"), Memory: q("1Gi"), EphemeralStorage: q("1Gi"), GPU: 1, User: "1000",
			Workdir: "/src", Timeout: 2 * time.Hour, StartTimeout: 10 * time.Minute,
			Grace: 30 * time.Second, Linger: 10 * time.Minute, TTL: time.Hour, Retries: 2, LogSpool: q("1Gi"),
			LogOverflow: "drop", Detached: true},
		Attempts: []attempt{
			{Name: "make-k3x9z-0", Node: "node2", Outcome: &job.Outcome{Cause: job.Evicted, Message: "the node was low on memory"}},
			{Name: "make-k3x9z-1", Node: "node1", Phases: phases, Running: true, Usage: &full, Sampled: at(14), Rate: &rate,
				Probes: []job.Probe{{Name: "network"}, {Name: "oom", Absent: "no BTF"}}},
		},
		Events: []event{{Last: at(3), Type: "Normal", Reason: "Scheduled", Object: "pod/make-k3x9z-1", Message: "Successfully assigned"},
			{Last: at(4), Type: "Warning", Reason: "BackOff", Object: "pod/make-k3x9z-1", Message: "again", Count: 3}},
		Missing: []string{"events: forbidden"},
	}
	ended := &job.Outcome{Cause: job.OOMKilled, Code: 137, Message: "memory reached its limit", Started: at(0),
		Finished: at(12), Usage: &job.Usage{Source: "cgroup1", CPU: job.CPUUsage{Total: new(time.Second)}}}
	for _, test := range []struct {
		name string
		d    description
	}{
		{"running", running},
		{"ended", description{Name: "x", Namespace: "ns", State: "OOMKilled", Outcome: ended,
			Attempts: []attempt{{Name: "x-1", Outcome: ended, Usage: ended.Usage}},
			Missing:  []string{"the job itself: not found; this is what is stored here"}}},
		{"pending", description{Name: "x", Namespace: "ns", State: "Pending", Spec: &job.Spec{Command: []string{"true"}},
			eventsRead: true, WithoutEBPF: "namespace ns enforces Pod Security \"baseline\""}},
		{"events not read", description{Name: "x", Namespace: "ns", State: "Pending", Missing: []string{"events: forbidden"}}},
		{"ended without figures", description{Name: "x", Namespace: "ns", State: "AgentLost",
			Attempts: []attempt{{Name: "x-1", Outcome: &job.Outcome{Cause: job.AgentLost},
				Usage: &job.Usage{Source: "cgroup2"}, Sampled: at(14)}}}},
		{"parts not known", description{Name: "x", Namespace: "ns", State: "Completed",
			Attempts: []attempt{{Name: "x-1", Outcome: &job.Outcome{Cause: job.Completed}, Usage: &job.Usage{Source: "proc+ebpf"}}}}},
		{"eBPF off", description{Name: "x", Namespace: "ns", State: "Running",
			Attempts: []attempt{{Name: "x-1", Running: true, Usage: &job.Usage{Source: "cgroup2"}, Sampled: at(14), asked: true}}}},
		{"no figures", description{Name: "x", Namespace: "local", State: "Completed",
			Attempts: []attempt{{Name: "x", Usage: &job.Usage{}}}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := test.d.print(&out, at(60), time.UTC); err != nil {
				t.Fatal(err)
			}
			outputtest.Golden(t, filepath.Join("describe", strings.ReplaceAll(test.name, " ", "-")+".golden"), out.String())
			if err := test.d.print(failingWriter{}, at(60), time.UTC); err == nil {
				t.Error("what could not be written is a success")
			}
		})
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestStateOf(t *testing.T) {
	suspended := &batchv1.Job{Spec: batchv1.JobSpec{Suspend: new(true)}}
	ran := []job.Event{{Phase: job.Submitted}, {Phase: job.Running}}
	for _, test := range []struct {
		name     string
		found    kubernetes.Found
		attempts []attempt
		want     string
	}{
		{"ended", kubernetes.Found{Job: &batchv1.Job{}, Finished: true, Outcome: &job.Outcome{Cause: job.OOMKilled}}, nil, "OOMKilled"},
		{"suspended", kubernetes.Found{Job: suspended}, nil, "Suspended"},
		{"no Pod", kubernetes.Found{Job: &batchv1.Job{}}, nil, "Pending"},
		{"no node", kubernetes.Found{Job: &batchv1.Job{}}, []attempt{{Name: "a"}}, "Pending"},
		{"a node", kubernetes.Found{Job: &batchv1.Job{}}, []attempt{{Node: "node1"}}, "Starting"},
		{"runs", kubernetes.Found{Job: &batchv1.Job{}}, []attempt{{Node: "node1", Phases: ran}}, "Running"},
		{"lingers", kubernetes.Found{Job: &batchv1.Job{}}, []attempt{{Node: "node1", Phases: ran, lingers: true}}, "Lingering"},
		{"its Pod has ended", kubernetes.Found{Job: &batchv1.Job{}}, []attempt{{Phases: ran, Outcome: &job.Outcome{}}}, "Ending"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := stateOf(&test.found, test.found.Outcome, test.attempts); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestGlance(t *testing.T) {
	unreached := errors.New("not reached")
	for _, test := range []struct {
		name     string
		readings []follow.Reading
		enough   bool
		usage    time.Duration // of CPU; 0: none
		rate     bool
		ended    bool
		err      string
	}{
		{name: "two samples", readings: []follow.Reading{{Attempt: "x", Probes: []job.Probe{{Name: "oom"}}},
			{Attempt: "x", Sample: usagetest.Sample(1, 1)}, {Attempt: "x", Sample: usagetest.Sample(2, 1)}}, enough: true,
			usage: 2 * time.Second, rate: true},
		{name: "one sample", readings: []follow.Reading{{Attempt: "x", Sample: usagetest.Sample(1, 1)}}, usage: time.Second},
		{name: "no sample", readings: []follow.Reading{{Attempt: "x", Probes: []job.Probe{}}}, err: "its agent has no sample yet"},
		{name: "not reached", err: "not reached"},
		{name: "another attempt", readings: []follow.Reading{{Attempt: "y", Sample: usagetest.Sample(1, 1)}}, err: "not reached"},
		{name: "its end", readings: []follow.Reading{{Attempt: "x",
			Outcome: &job.Outcome{Usage: &usagetest.Sample(3, 1).Usage}}}, ended: true, usage: 3 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			enough := false
			g := &glance{attempt: "x", enough: func() { enough = true }}
			for _, r := range test.readings {
				g.take(r)
			}
			a := &attempt{Running: true}
			err := g.put(a, unreached)
			if test.err == "" && err != nil || test.err != "" && (err == nil || err.Error() != test.err) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			if enough != test.enough || (a.Rate != nil) != test.rate || (a.Outcome != nil) != test.ended || a.Running == test.ended {
				t.Errorf("enough %t, %+v", enough, a)
			}
			if asked := test.usage > 0 && !test.ended; a.asked != asked {
				t.Errorf("asked %t", a.asked)
			}
			if test.usage == 0 && a.Usage != nil || test.usage > 0 && (a.Usage == nil || *a.Usage.CPU.Total != test.usage) {
				t.Errorf("usage %+v", a.Usage)
			}
		})
	}
}

func TestDescribeEvent(t *testing.T) {
	e := corev1.Event{Type: "Warning", Reason: "Back\x1bOff", Message: "a\nb", Count: 2,
		EventTime: metav1.NewMicroTime(usagetest.Began), InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "x-1"}}
	want := event{Last: usagetest.Began, Type: "Warning", Reason: "BackOff", Object: "pod/x-1", Message: "a b", Count: 2}
	if got := describeEvent(&e); got != want {
		t.Errorf("got %+v", got)
	}
}
