package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/kubernetestest"
)

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
			a := &app{IOStreams: genericiooptions.IOStreams{Out: &out, ErrOut: &errOut}, getenv: func(string) string { return "" }}
			o := &logsOptions{app: a, screen: newScreen(a, false), sink: a.streams().Sinks(output.Options{}), tail: test.tail, since: test.since}
			j := &knownJob{name: "x", attempts: []knownAttempt{{name: "x-1", uid: "1"}}}
			feed := newFeed(func(err error) { t.Error(err) }, func(uid string) bool { return o.partial(j, uid) })
			feed.Attached(coordinator.Attachment{Log: log, Hello: &hodeipb.Hello{Attempt: "x-1", AttemptUid: "1",
				State: &hodeipb.State{Phase: hodeipb.Phase_RUNNING}, Extent: &hodeipb.Extent{End: batches * size}}})
			over, ended := follow.NewEnd()
			defer ended(nil, nil)
			var work sync.WaitGroup
			defer work.Wait()
			work.Go(func() {
				for i := range batches {
					line := fmt.Sprintf("%0*d\n", size-1, i)
					b := batch(uint64(i*size), "out:"+line)
					b.Records[0].StreamOffset = uint64(i * size)
					b.Records[0].TimeUnixNano = now.Add(time.Duration(i) * time.Second).UnixNano()
					store(t, log, b)
				}
			})
			if _, err := o.showLive(t.Context(), over, j, <-feed.attached, tailBytes<<20); err != nil {
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
	refusal := errors.New("bad certificate")
	for name, refused := range map[string]bool{"the agent of job x was not reached within 30s": false, "refused: bad certificate": true} {
		synctest.Test(t, func(t *testing.T) {
			a := &app{IOStreams: genericiooptions.IOStreams{Out: io.Discard, ErrOut: io.Discard}, getenv: func(string) string { return "" }}
			o := &logsOptions{app: a, screen: newScreen(a, true)}
			refusals := make(chan *job.Failure, 1)
			if refused {
				refusals <- refusing{}.Refused(refusal)
			}
			over, ended := follow.NewEnd()
			defer ended(nil, nil)
			feed := newFeed(func(err error) { t.Error(err) }, nil)
			begun := time.Now()
			_, err := o.follows(t.Context(), &follow.Events{Refused: refusals, Over: over}, &knownJob{name: "x"}, nil, feed, 0)
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
	j := &knownJob{attempts: []knownAttempt{{uid: "1"}}}
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
		o := &logsOptions{tail: test.tail, since: test.since}
		if got := o.partial(j, test.uid); got != test.want {
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
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: "uid-1", ResourceVersion: "2", OwnerReferences: []metav1.OwnerReference{{UID: "job", Controller: &controller}}},
		Spec:       corev1.PodSpec{NodeName: "node1"},
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
		json.NewEncoder(w).Encode(map[string]any{"apiVersion": version, "kind": list, "metadata": metav1.ListMeta{ResourceVersion: "1"}, "items": items})
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
			a := &app{IOStreams: genericiooptions.IOStreams{Out: out, ErrOut: io.Discard}, getenv: func(string) string { return "" }}
			server := newPodServer()
			o := &logsOptions{app: a, screen: newScreen(a, true), sink: a.streams().Sinks(output.Options{}), tail: -1, follow: true, cluster: kubernetestest.Cluster(t, server.ServeHTTP)}
			found := &kubernetes.Found{Job: testJob("job"), Spec: &job.Spec{Name: "x", ContainerLogs: true, StartTimeout: time.Minute}}
			j := &knownJob{name: "x", found: found}
			var attempt *knownAttempt
			const first = "2025-06-01T12:00:01Z a\n"
			if started {
				server.set("x-1", first, false)
				found.Attempts = []kubernetes.Attempt{{Name: "x-1", UID: "uid-1", Running: true}}
				j.attempts = []knownAttempt{{name: "x-1", uid: "uid-1", pod: &found.Attempts[0]}}
				attempt = &j.attempts[0]
			}
			over := make(chan error, 1)
			go func() { over <- o.followContainers(t.Context(), j, attempt) }()
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
