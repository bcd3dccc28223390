package joblog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	batchv1 "k8s.io/api/batch/v1"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/output/outputtest"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/kubernetestest"
)

// newViewer returns a Viewer whose sinks write to out and whose notes go to errOut.
func newViewer(out, errOut io.Writer, o output.Options, f history.Finder) *Viewer {
	f.Note = func(text string) { fmt.Fprintln(errOut, text) }
	return New(&f, (&output.Streams{Out: out, Err: out}).Sinks(o))
}

// What is fetched for --tail and --since may be more than the store has room for:
// nothing waits for the other, and what was dropped is said.
func TestShowLiveDropped(t *testing.T) {
	const batches, size = 64, 32 << 10
	now := time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name  string
		tail  int
		since time.Time
		want  int // last lines; 0: as many as there is room for
		gap   bool
	}{
		{"the last lines", 3, time.Time{}, 3, false},
		{"more lines than there is room for", 60, time.Time{}, 0, true},
		{"since before what there is room for", -1, now, 0, true},
		{"since", -1, now.Add((batches - 2) * time.Second), 2, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			kept, err := logstore.Open(t.TempDir(), logstore.Limits{MaxBytes: 1 << 20})
			if err != nil {
				t.Fatal(err)
			}
			log, err := kept.Create(logstore.Key{Namespace: "ns", Job: "x", Attempt: "x-1", AttemptUID: "1"}, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			var out, errOut bytes.Buffer
			v := newViewer(&out, &errOut, output.Options{}, history.Finder{})
			v.Tail, v.Since = test.tail, test.since
			j := &history.Job{Name: "x", Attempts: []history.Attempt{{Name: "x-1", UID: "1"}}}
			f := &fetch{Viewer: v, job: j, estimate: tailBytes << 20}
			f.feed = newFeed(func(err error) { t.Error(err) }, func(uid string) bool { return v.partial(j, uid) })
			f.feed.Attached(coordinator.Attachment{Log: log, Hello: &hodeipb.Hello{Attempt: "x-1", AttemptUid: "1",
				State: &hodeipb.State{Phase: hodeipb.Phase_RUNNING}, Extent: &hodeipb.Extent{End: batches * size}}})
			over, ended := follow.NewEnd()
			defer ended(nil, nil)
			var work sync.WaitGroup
			defer work.Wait()
			work.Go(func() {
				for i := range batches {
					line := fmt.Sprintf("%0*d\n", size-1, i)
					b := outputtest.Batch(uint64(i*size), "out:"+line)
					b.Records[0].StreamOffset = uint64(i * size)
					b.Records[0].TimeUnixNano = now.Add(time.Duration(i) * time.Second).UnixNano()
					outputtest.Store(t, log, b)
				}
			})
			if _, err := f.showLive(t.Context(), over, <-f.feed.attached); err != nil {
				t.Fatal(err)
			}
			lines := strings.Count(out.String(), "\n")
			if lines == 0 || lines == batches || test.want > 0 && lines != test.want || len(out.String()) != lines*size {
				t.Errorf("%d lines, %d bytes", lines, out.Len())
			}
			want := fmt.Sprintf("%d bytes of x-1 are missing from offset 0 on\n", (batches-lines)*size)
			if !test.gap {
				want = ""
			}
			if errOut.String() != want {
				t.Errorf("stderr %q, want %q", errOut.String(), want)
			}
		})
	}
}

// hodei logs has less patience, and says all the same what it has waited for.
func TestLogsRefused(t *testing.T) {
	for name, refused := range map[string]bool{"the agent of job x was not reached within 30s": false, "refused: bad certificate": true} {
		synctest.Test(t, func(t *testing.T) {
			v := newViewer(io.Discard, io.Discard, output.Options{}, history.Finder{})
			refusals := make(chan *job.Failure, 1)
			if refused {
				refusals <- &job.Failure{Cause: job.ConfigError, Message: "refused: bad certificate", Hint: "compare the clocks"}
			}
			over, ended := follow.NewEnd()
			defer ended(nil, nil)
			f := &fetch{Viewer: v, job: &history.Job{Name: "x"}, feed: newFeed(func(err error) { t.Error(err) }, nil)}
			begun := time.Now()
			_, err := f.follows(t.Context(), &follow.Events{Refused: refusals, Over: over})
			if took := time.Since(begun); refused && took != 0 || !refused && took != follow.MeetWait {
				t.Errorf("after %s", took)
			}
			if err == nil || err.Error() != name || job.HintOf(err) == "" {
				t.Errorf("got %v, want %s", err, name)
			}
		})
	}
}

// --tail and --since are of the attempts that were there when the command began.
func TestPartial(t *testing.T) {
	j := &history.Job{Attempts: []history.Attempt{{UID: "1"}}}
	for _, test := range []struct {
		tail  int
		since time.Time
		uid   string
		want  bool
	}{
		{-1, time.Time{}, "1", false},
		{0, time.Time{}, "1", true},
		{-1, time.Unix(1, 0), "1", true},
		{5, time.Unix(1, 0), "2", false},
	} {
		v := &Viewer{Tail: test.tail, Since: test.since}
		if got := v.partial(j, test.uid); got != test.want {
			t.Errorf("%+v: got %t", test, got)
		}
	}
}

// Attempts before the wanted one are passed over, those after it are shown.
func TestFeedWanted(t *testing.T) {
	feed := newFeed(func(err error) { t.Error(err) }, func(string) bool { return true })
	feed.wanted = "2"
	for _, n := range []string{"1", "2", "2", "3"} {
		feed.Attached(coordinator.Attachment{Hello: &hodeipb.Hello{Attempt: "x-" + n, AttemptUid: n}})
	}
	close(feed.attached)
	var got []string
	for a := range feed.attached {
		got = append(got, a.Hello.Attempt)
	}
	if !slices.Equal(got, []string{"x-2", "x-3"}) {
		t.Errorf("got %v", got)
	}
}

// Only the store asks for room in the store.
func TestFeedFailed(t *testing.T) {
	var failed error
	feed := newFeed(func(err error) { failed = err }, nil)
	feed.Failed("x-1", &os.PathError{Op: "write", Path: "p", Err: syscall.ENOSPC})
	if !errors.Is(failed, errStoring) || !errors.Is(failed, syscall.ENOSPC) {
		t.Errorf("got %v", failed)
	}
}

// podServer is an API server with a job and its Pods, which the test changes.
type podServer struct {
	mu   sync.Mutex
	pods []corev1.Pod
	logs map[string]string
	// changed is closed and replaced when something has changed.
	changed chan struct{}
}

func newPodServer() *podServer {
	return &podServer{logs: map[string]string{}, changed: make(chan struct{})}
}

// set makes or changes a Pod of the job.
func (s *podServer) set(name, log string, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	controller := true
	pod := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: "uid-1", ResourceVersion: "2",
			OwnerReferences: []metav1.OwnerReference{{UID: "job", Controller: &controller}}},
		Spec: corev1.PodSpec{NodeName: "node1"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{
			{Name: "job", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}},
	}
	if ended {
		pod.Status.Phase = corev1.PodSucceeded
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{
			{Name: "agent", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: `{"cause":"Completed"}`}}},
			{Name: "job", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}},
		}
	}
	s.pods = []corev1.Pod{pod}
	s.logs[name] = log
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *podServer) state() ([]corev1.Pod, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pods, s.changed
}

func (s *podServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind, query := path.Base(r.URL.Path), r.URL.Query()
	pods, changed := s.state()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case kind == "log":
		s.mu.Lock()
		text := s.logs[path.Base(path.Dir(r.URL.Path))]
		s.mu.Unlock()
		io.WriteString(w, text)
		if query.Get("follow") == "true" {
			w.(http.Flusher).Flush()
			select {
			case <-changed:
			case <-r.Context().Done():
			}
		}
	case query.Get("sendInitialEvents") != "":
		w.WriteHeader(http.StatusUnprocessableEntity)
		io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
	case query.Get("watch") != "":
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		for {
			if kind == "pods" && len(pods) > 0 { // also what has changed since the list
				json.NewEncoder(w).Encode(map[string]any{"type": "MODIFIED", "object": withKind(pods[0])})
				w.(http.Flusher).Flush()
			}
			select {
			case <-changed:
			case <-r.Context().Done():
				return
			}
			pods, changed = s.state()
		}
	default:
		version, list := "v1", map[string]string{"pods": "PodList", "jobs": "JobList", "events": "EventList"}[kind]
		if kind == "jobs" {
			version = "batch/v1"
		}
		items := []any{}
		for i := range pods {
			if kind == "pods" {
				items = append(items, withKind(pods[i]))
			}
		}
		json.NewEncoder(w).Encode(map[string]any{"apiVersion": version, "kind": list,
			"metadata": metav1.ListMeta{ResourceVersion: "1"}, "items": items})
	}
}

func withKind(pod corev1.Pod) *corev1.Pod {
	pod.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
	return &pod
}

// tellingWriter tells what was written.
type tellingWriter struct {
	bytes.Buffer
	wrote chan string
}

func (w *tellingWriter) Write(p []byte) (int, error) {
	w.wrote <- string(p)
	return w.Buffer.Write(p)
}

// Where the tunnel is forbidden, -f follows the container's log to the job's end,
// and also that of a job that has yet to start.
func TestFollowContainers(t *testing.T) {
	for _, started := range []bool{true, false} {
		t.Run(fmt.Sprintf("started %t", started), func(t *testing.T) {
			out := &tellingWriter{wrote: make(chan string, 10)}
			server := newPodServer()
			v := newViewer(out, io.Discard, output.Options{}, history.Finder{Cluster: kubernetestest.Cluster(t, server.ServeHTTP)})
			v.Follow = true
			found := &kubernetes.Found{Job: &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "x", Namespace: "ns", UID: "job"}},
				Spec: &job.Spec{Name: "x", ContainerLogs: true, StartTimeout: time.Minute}}
			j := &history.Job{Name: "x", Found: found}
			var attempt *history.Attempt
			const first = "2025-06-01T12:00:01Z a\n"
			if started {
				server.set("x-1", first, false)
				found.Attempts = []kubernetes.Attempt{{Name: "x-1", UID: "uid-1", Running: true}}
				j.Attempts = []history.Attempt{{Name: "x-1", UID: "uid-1", Pod: &found.Attempts[0]}}
				attempt = &j.Attempts[0]
			}
			over := make(chan error, 1)
			go func() { over <- v.followContainers(t.Context(), j, attempt) }()
			if !started {
				server.set("x-1", first, false)
			}
			if got := <-out.wrote; got != "a\n" {
				t.Errorf("got %q", got)
			}
			server.set("x-1", first+"2025-06-01T12:00:02Z b\n", true)
			if err := <-over; err != nil || out.String() != "a\nb\n" {
				t.Errorf("got %q, %v", out.String(), err)
			}
		})
	}
}

// TestShown holds what is said to be missing of an output, by how far it was shown and what is known of its end.
func TestShown(t *testing.T) {
	record := &hodeipb.ExitRecord{Cause: "Completed", End: 10}
	counted, unclear := &job.Outcome{Cause: job.Completed, Attempt: "x-1", OutputBytes: 10}, &job.Outcome{Cause: job.Evicted,
		Attempt: "x-1"}
	other := &job.Outcome{Cause: job.Completed, Attempt: "x-2", OutputBytes: 50}
	for _, test := range []struct {
		name    string
		shown   shown
		whole   bool
		missing bool
		bytes   uint64
	}{
		{"to its end", shown{from: 10, to: math.MaxUint64, record: record}, true, false, 0},
		{"up to now", shown{from: 10, to: 10}, false, false, 0},
		{"up to now, and it has ended meanwhile", shown{from: 10, to: 10, record: record}, true, false, 0},
		{"not even up to now", shown{from: 4, to: 10, record: record}, false, true, 6},
		{"its Pod is gone, and all was shown", shown{from: 10, to: math.MaxUint64, outcome: counted}, false, false, 0},
		{"its Pod is gone with the rest", shown{from: 4, to: math.MaxUint64, outcome: counted}, false, true, 6},
		{"its Pod is gone, and nobody counted", shown{from: 4, to: math.MaxUint64, outcome: unclear}, false, true, 0},
		{"the job has ended with another attempt", shown{from: 4, to: math.MaxUint64, outcome: other}, false, true, 0},
		{"nobody knows how it ended", shown{from: 4, to: math.MaxUint64}, false, true, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.shown.attempt = "x-1"
			g, missing := test.shown.missing()
			if missing != test.missing || g.Bytes != test.bytes || g.Attempt != "x-1" || g.Offset != test.shown.from {
				t.Errorf("missing %t: %+v", missing, g)
			}
			if whole := test.shown.whole(); whole != test.whole {
				t.Errorf("whole %t", whole)
			}
		})
	}
}

func TestFollowerTemporary(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{coordinator.ErrShort, ""},
		{fmt.Errorf("create: %w", logstore.ErrInUse),
			"another hodei on this machine stores the output of x: it is fetched once more for here"},
		{syscall.EROFS, "the output of x is not kept in the log store: read-only file system"},
	} {
		if got := Temporary(coordinator.Attachment{Hello: &hodeipb.Hello{Attempt: "x"}, Temporary: test.err}); got != test.want {
			t.Errorf("%v: got %q, want %q", test.err, got, test.want)
		}
	}
}

// TestOutOfReach: who has lost the cluster is told that the job goes on, and how to come
// back.
func TestOutOfReach(t *testing.T) {
	lost := func(cause job.Cause) error {
		return &job.Failure{Cause: cause, Message: "gone", Hint: "kubectl", Err: fmt.Errorf("%w: x", kubernetes.ErrLost)}
	}
	for _, test := range []struct {
		name      string
		err       error
		want, tip string
	}{
		{"nothing", nil, "", ""},
		{"another error", errors.New("no"), "no", ""},
		{"the login", lost(job.Forbidden), "gone; job x goes on", "log in anew, or get the right back, then: {hodei} logs -f x"},
		{"the cluster", lost(job.ConfigError), "gone; job x goes on", "{hodei} logs -f x"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := outOfReach(test.err, "x", "{hodei} logs -f x")
			text, tip := "", ""
			if err != nil {
				text = err.Error()
			}
			if h, ok := errors.AsType[*job.Hinted](err); ok {
				tip = h.Hint
			}
			if text != test.want || tip != test.tip {
				t.Errorf("got %q, hint %q", text, tip)
			}
		})
	}
}
