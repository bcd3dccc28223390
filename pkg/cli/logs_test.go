package cli

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"

	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// No more is fetched than --tail and --since may need.
func TestBegin(t *testing.T) {
	now := time.Unix(1000, 0)
	extent := &hodeipb.Extent{First: 100, End: 10 << 20, Marks: []*hodeipb.Mark{
		{Offset: 100, TimeUnixNano: now.Add(-time.Hour).UnixNano()},
		{Offset: 5000, TimeUnixNano: now.Add(-time.Minute).UnixNano()},
		{Offset: 9 << 20, TimeUnixNano: now.UnixNano()},
	}}
	for _, test := range []struct {
		name     string
		tail     int
		since    time.Time
		estimate uint64
		extent   *hodeipb.Extent
		want     uint64
	}{
		{"the end", 10, time.Time{}, 64 << 10, extent, 10<<20 - 64<<10},
		{"more of it", 10, time.Time{}, 1 << 20, extent, 9 << 20},
		{"all of it", 10, time.Time{}, 16 << 20, extent, 0},
		{"what is there", 10, time.Time{}, 10<<20 - 100, extent, 0},
		{"nothing of it", 0, time.Time{}, 64 << 10, extent, 10 << 20},
		{"since a mark", -1, now.Add(-time.Minute), 64 << 10, extent, 5000},
		{"since between two", -1, now.Add(-time.Second), 64 << 10, extent, 5000},
		{"since before all", -1, now.Add(-2 * time.Hour), 64 << 10, extent, 0},
		{"since later", -1, now.Add(time.Hour), 64 << 10, extent, 9 << 20},
		{"both", 10, now.Add(-time.Second), 64 << 10, extent, 10<<20 - 64<<10},
		{"both, the other", 10, now, 8 << 20, extent, 9 << 20},
		{"no marks", -1, now, 64 << 10, &hodeipb.Extent{End: 10}, 0},
		{"a mark that is not in it", -1, now, 64 << 10, &hodeipb.Extent{End: 10, Marks: []*hodeipb.Mark{{Offset: 11}}}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := &logsOptions{tail: test.tail, since: test.since}
			if got := o.begin(test.extent, test.estimate); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}

// Cluster and store know of different attempts, and the store of other jobs of the
// name.
func TestKnown(t *testing.T) {
	kept, err := logstore.Open(t.TempDir(), logstore.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []logstore.Key{
		{Job: "x", JobUID: "before", Attempt: "x-0", AttemptUID: "0"},
		{Job: "x", JobUID: "now", Attempt: "x-1", AttemptUID: "1"},
		{Job: "x", JobUID: "now", Attempt: "x-2", AttemptUID: "2"},
		{Job: "y", JobUID: "now", Attempt: "y-1", AttemptUID: "4"},
	} {
		key.Namespace = "ns"
		log, err := kept.Create(key, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
	}
	o := &logsOptions{store: &openedStore{Store: kept}, namespace: "ns", name: "x"}
	found := &kubernetes.Found{
		Job: &batchv1.Job{ObjectMeta: metav1.ObjectMeta{UID: "now"}}, Spec: &job.Spec{Name: "x"},
		Attempts: []kubernetes.Attempt{{Name: "x-2", UID: "2"}, {Name: "x-3", UID: "3"}},
	}
	names := func(j *knownJob) (names []string) {
		for _, a := range j.attempts {
			name := a.name
			if a.pod != nil {
				name += " pod"
			}
			if a.stored != nil {
				name += " stored"
			}
			names = append(names, name)
		}
		return names
	}
	if got, want := names(o.known(found)), []string{"x-1 stored", "x-2 pod stored", "x-3 pod"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	gone, err := o.find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := names(gone), []string{"x-1 stored", "x-2 stored"}; !slices.Equal(got, want) {
		t.Errorf("without a cluster: got %q, want %q", got, want)
	}
}

// testCluster is one whose API server the test plays.
func testCluster(t *testing.T, answer http.HandlerFunc) *kubernetes.Provider {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	p, err := kubernetes.New(kubernetes.Options{Config: &rest.Config{Host: server.URL}, Namespace: "ns"})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The container's log is shown if there is one; else its absence is said.
func TestShowContainer(t *testing.T) {
	tail := 3
	for _, test := range []struct {
		name    string
		log     string // empty: there is none
		code    int    // of the answer
		copied  bool
		printed uint64
		tail    *int
		out     string
		err     string
	}{
		{name: "there", log: "2025-06-01T12:00:01Z a\n2025-06-01T12:00:02Z b\n", code: 200, copied: true, printed: 4, out: "a\nb\n"},
		{name: "there, though nobody said so", log: "2025-06-01T12:00:01Z a\n", code: 200, printed: 2, out: "a\n"},
		{name: "it printed nothing", code: 200, copied: true},
		{name: "it was cut off", code: 200, copied: true, printed: 4, err: "the output of job x is gone"},
		{name: "none of the last lines", code: 200, copied: true, printed: 4, tail: &tail},
		{name: "not copied", code: 200, printed: 4, err: "the output of job x is gone"},
		{name: "no Pod, not copied", code: 404, printed: 4, err: "the output of job x is gone"},
		{name: "no Pod", code: 404, copied: true, printed: 4, err: "the server could not find the requested resource"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			a := &app{IOStreams: genericiooptions.IOStreams{Out: &out, ErrOut: &errOut}, getenv: func(string) string { return "" }}
			o := &logsOptions{app: a, screen: newScreen(a, false), tail: -1, name: "x"}
			o.sink = a.newSink(false, false, false, hodeipb.Stream_STREAM_UNSPECIFIED)
			o.cluster = testCluster(t, func(w http.ResponseWriter, r *http.Request) {
				if q := r.URL.Query(); r.URL.Path != "/api/v1/namespaces/ns/pods/x-1/log" || q.Get("container") != "job" || q.Get("tailLines") != "" != (test.tail != nil) {
					t.Errorf("asked for %s", r.URL)
				}
				w.WriteHeader(test.code)
				io.WriteString(w, test.log)
			})
			if test.tail != nil {
				o.tail = *test.tail
			}
			j := &knownJob{name: "x", found: &kubernetes.Found{Spec: &job.Spec{Name: "x", ContainerLogs: test.copied}}}
			pod := &kubernetes.Attempt{Name: "x-1", Ended: true, Outcome: &job.Outcome{Cause: job.Error, Code: 1, OutputBytes: test.printed}}
			err := o.showOver(t.Context(), j, &knownAttempt{name: "x-1", pod: pod})
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			if out.String() != test.out || strings.Contains(errOut.String(), inexact) != (test.out != "") {
				t.Errorf("stdout %q, want %q; stderr %q", out.String(), test.out, errOut.String())
			}
		})
	}
}

// A job can be attached to where its tunnel is allowed, or its output is copied.
func TestChooseTunnel(t *testing.T) {
	for _, test := range []struct {
		name             string
		may, copied      bool
		fallback, failed bool
	}{
		{"allowed", true, false, false, false},
		{"forbidden, copied", false, true, true, false},
		{"forbidden", false, false, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := testCluster(t, func(w http.ResponseWriter, _ *http.Request) { allows(test.may)(w) })
			o := &attachOptions{logs: &logsOptions{cluster: p}}
			err := o.chooseTunnel(t.Context(), &kubernetes.Found{Spec: &job.Spec{Name: "x", ContainerLogs: test.copied}})
			if (err != nil) != test.failed || o.fallback != test.fallback || p.NoTunnel != test.fallback {
				t.Errorf("error %v, fallback %t, no tunnel %t", err, o.fallback, p.NoTunnel)
			}
		})
	}
}
