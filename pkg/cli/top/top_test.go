package top

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/kubernetestest"
	"github.com/hodei-jobs/hodei/pkg/usage/usagetest"
)

// filled is a board with a job of each kind.
func filled(stays time.Duration) *board {
	b := newBoard(stays)
	busy, idle, pending, ended := jobKey{"ns", "busy"}, jobKey{"ns", "idle"}, jobKey{"ns", "pending"}, jobKey{"ns", "ended"}
	for _, k := range []jobKey{ended, pending, idle, busy} {
		b.set(k, meeting)
	}
	for n := range 5 {
		b.take(busy, follow.Reading{Attempt: "busy-1", Sample: usagetest.Sample(n, 1.5)})
	}
	b.take(idle, follow.Reading{Attempt: "idle-1", Sample: &job.Sample{Time: usagetest.Began}})
	b.take(idle, follow.Reading{Attempt: "idle-1", Sample: &job.Sample{Time: usagetest.Began.Add(time.Second)}})
	b.take(pending, follow.Reading{Waiting: "no node takes it: \x1b[2J0/1 nodes"})
	b.take(ended, follow.Reading{Attempt: "ended-1", Sample: usagetest.Sample(1, 1)})
	b.take(ended, follow.Reading{Attempt: "ended-1", Outcome: &job.Outcome{Cause: job.Error, Code: 3}})
	return b
}

func TestTable(t *testing.T) {
	rows := filled(time.Hour).shown()
	for _, test := range []struct {
		name       string
		time       string
		namespaces bool
		terminal   bool
		width      int
		want       string
	}{
		{"plain", "12:00:05", true, false, 0, `
TIME       NAMESPACE   NAME            CPU         MEMORY    PEAK    READ     WRITE   RECEIVE     SEND   PIDS   THROTTLED   WAITS
12:00:05   ns          busy      1.50 of 2   512Mi of 1Gi   812Mi   1kB/s   2.5MB/s    100B/s   200B/s      7         30%   cpu 10% disk 2%
12:00:05   ns          idle              -              -       -       -         -         -        -      -           -   -
12:00:05   ns          pending   no node takes it: [2J0/1 nodes
12:00:05   ns          ended     exit 3`},
		{"a terminal", "", false, true, 200, `
NAME            CPU                MEMORY    PEAK           READ     WRITE   RECEIVE     SEND   PIDS   THROTTLED   WAITS
busy      1.50 of 2   ████   512Mi of 1Gi   812Mi   ████   1kB/s   2.5MB/s    100B/s   200B/s      7         30%   cpu 10% disk 2%
idle              -                     -       -              -         -         -        -      -           -   -
pending   no node takes it: [2J0/1 nodes
ended     exit 3`},
		{"a narrow terminal", "", false, true, 60, `
NAME            CPU         MEMORY    PEAK
busy      1.50 of 2   512Mi of 1Gi   812Mi
idle              -              -       -
pending   no node takes it: [2J0/1 nodes
ended     exit 3`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := "\n" + strings.Join(tableOf(rows, test.time, test.namespaces, test.terminal, test.width), "\n")
			if got != test.want {
				t.Errorf("got:%s\nwant:%s", got, test.want)
			}
		})
	}
}

// What ends is shown for a while, or once, and nothing that comes later brings it back.
func TestBoardEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := jobKey{"ns", "ended"}
		for _, stays := range []time.Duration{0, endedStays} {
			b := filled(stays)
			if rows := b.shown(); len(rows) != 4 || rows[3].jobKey != k {
				t.Fatalf("rows %+v", rows)
			}
			time.Sleep(stays)
			b.take(k, follow.Reading{Outcome: &job.Outcome{Cause: job.Error}})
			if rows := b.shown(); len(rows) != 3 {
				t.Errorf("rows %+v", rows)
			}
			if b.ended(k) {
				t.Error("it is still there")
			}
		}
	})
}

func TestBoardMeasured(t *testing.T) {
	k := jobKey{"ns", "x"}
	for _, test := range []struct {
		name     string
		readings []follow.Reading
		want     bool
	}{
		{"its agent is being met", nil, false},
		{"one sample", []follow.Reading{{Attempt: "a", Sample: usagetest.Sample(1, 1)}}, false},
		{"two samples", []follow.Reading{{Attempt: "a", Sample: usagetest.Sample(1, 1)}, {Sample: usagetest.Sample(2, 1)}}, true},
		{"one sample of the next attempt", []follow.Reading{
			{Attempt: "a", Sample: usagetest.Sample(1, 1)}, {Sample: usagetest.Sample(2, 1)},
			{Attempt: "b", Sample: usagetest.Sample(3, 1)},
		}, false},
		{"a reason", []follow.Reading{{Waiting: "no node takes it"}}, true},
		{"its end", []follow.Reading{{Outcome: &job.Outcome{}}}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBoard(0)
			if !b.measured() {
				t.Error("no job is awaited")
			}
			b.set(k, meeting)
			for _, r := range test.readings {
				b.take(k, r)
			}
			if got := b.measured(); got != test.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

// As objects each sample is told once, of the first ones the one that has a rate, and so is why
// there are none, and the end.
func TestEvents(t *testing.T) {
	var out bytes.Buffer
	x := newRunning(&Options{Out: &out, namespace: "ns", events: &output.Events{Out: &out}})
	k := jobKey{"ns", "x"}
	x.board.set(k, meeting)
	for _, step := range []struct {
		name     string
		readings []follow.Reading
		want     []string // kinds
	}{
		{"waits", nil, []string{"waiting"}},
		{"waits still", nil, nil},
		{"waits for something else", []follow.Reading{{Waiting: "pulling"}}, []string{"waiting"}},
		{"its first samples", []follow.Reading{
			{Attempt: "x-1", Sample: usagetest.Sample(1, 1)}, {Sample: usagetest.Sample(2, 1)}, {Sample: usagetest.Sample(3, 1)},
		}, []string{"usage"}},
		{"two samples", []follow.Reading{
			{Attempt: "x-1", Sample: usagetest.Sample(4, 1)}, {Sample: usagetest.Sample(5, 1)},
		}, []string{"usage", "usage"}},
		{"nothing new", nil, nil},
		{"its end", []follow.Reading{
			{Attempt: "x-1", Sample: usagetest.Sample(6, 1)}, {Outcome: &job.Outcome{Cause: job.Error, Code: 3, Message: "a\x1bb"}},
		}, []string{"usage", "exit"}},
	} {
		t.Run(step.name, func(t *testing.T) {
			out.Reset()
			for _, r := range step.readings {
				x.board.take(k, r)
			}
			if err := x.rows(); err != nil {
				t.Fatal(err)
			}
			var kinds []string
			for line := range strings.Lines(out.String()) {
				var e event
				if err := json.Unmarshal([]byte(line), &e); err != nil {
					t.Fatal(err)
				}
				kinds = append(kinds, e.Type)
				if e.Job != "x" || e.Namespace != "ns" {
					t.Errorf("event %s", line)
				}
				if e.Type == "usage" && e.Rate.Cores == nil {
					t.Errorf("no rate: %s", line)
				}
				if e.Type == "exit" && e.Outcome.Message != "ab" {
					t.Errorf("message %q", e.Outcome.Message)
				}
			}
			if fmt.Sprint(kinds) != fmt.Sprint(step.want) {
				t.Errorf("got %v, want %v", kinds, step.want)
			}
		})
	}
	if len(x.said) > 0 {
		t.Errorf("of a job that has ended there is left %v", x.said)
	}
}

// However many jobs there are, and whatever their agents send, no more is kept.
func TestBounded(t *testing.T) {
	b := newBoard(0)
	k := jobKey{"ns", "x"}
	b.set(k, meeting)
	for n := range 1000 {
		b.take(k, follow.Reading{Attempt: "x-1", Sample: usagetest.Sample(n, 1)})
	}
	if n := len(b.shown()[0].samples); n != window {
		t.Errorf("%d samples", n)
	}
	x := newRunning(&Options{})
	for n := range follow.MaxJobs {
		x.meters[jobKey{"ns", fmt.Sprint(n)}] = &measured{done: make(chan struct{})}
	}
	x.begin(t.Context(), k, &kubernetes.Found{Job: &batchv1.Job{}})
	rows := x.board.shown()
	if len(rows) != 1 || rows[0].waiting != "not measured: 50 jobs are, at once; choose with -l" {
		t.Errorf("rows %+v", rows)
	}
	if m := x.meters[k]; !m.again() {
		t.Error("it is not tried again when there is room")
	}
}

// A job that can't be measured is a row that says why.
func TestUnreachable(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer string // to whether we may open a tunnel
		want   string
	}{
		{"no right", `{"allowed":false}`, "the tunnel to its agent is forbidden (create pods/portforward)"},
		{"no secret", `{"allowed":true}`, `job "x" can't be attached to: its secret "x" is not found in namespace ns`},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := kubernetestest.Cluster(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if strings.Contains(r.URL.Path, "selfsubjectaccessreviews") {
					w.WriteHeader(http.StatusCreated)
					fmt.Fprintf(w, `{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","status":%s}`, test.answer)
					return
				}
				w.WriteHeader(http.StatusNotFound)
				fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
			})
			x := newRunning(&Options{in: func(string) (*kubernetes.Provider, error) { return p, nil }})
			defer x.close()
			k := jobKey{"ns", "x"}
			j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "x", Namespace: "ns"}}
			x.begin(t.Context(), k, &kubernetes.Found{Job: j, Spec: &job.Spec{Name: "x"}})
			<-x.meters[k].done
			if rows := x.board.shown(); rows[0].waiting != test.want {
				t.Errorf("got %q, want %q", rows[0].waiting, test.want)
			}
			if x.meters[k].again() {
				t.Error("it is tried again at once")
			}
		})
	}
}

// A job whose command has ended before we came is over, be its Pod there or not.
func TestLingering(t *testing.T) {
	const list = `{"apiVersion":"%s","kind":"%s","metadata":{},"items":[%s]}`
	state := ""
	p := kubernetestest.Cluster(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/jobs"):
			fmt.Fprintf(w, list, "batch/v1", "JobList", `{"metadata":{"name":"x","namespace":"ns","uid":"uid-x",
				"annotations":{"hodei.io/spec":"{\"name\":\"x\",\"command\":[\"true\"]}"},"labels":{"hodei.io/job":"x"}}}`)
		case strings.HasSuffix(r.URL.Path, "/pods"):
			fmt.Fprintf(w, list, "v1", "PodList", `{"metadata":{"name":"x-1","namespace":"ns","uid":"uid-1","labels":{"hodei.io/job":"x"},
				"ownerReferences":[{"apiVersion":"batch/v1","kind":"Job","name":"x","uid":"uid-x","controller":true}]},
				"status":{"containerStatuses":[{"name":"agent","state":{"running":{}}},{"name":"job","state":{"`+state+`":{}}}]}}`)
		default:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
		}
	})
	for _, test := range []struct {
		state string
		rows  int
	}{{"terminated", 0}, {"running", 1}} {
		state = test.state
		x := newRunning(&Options{namespace: "ns", list: p, in: func(string) (*kubernetes.Provider, error) { return p, nil }})
		if err := x.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if rows := x.board.shown(); len(rows) != test.rows {
			t.Errorf("%s: rows %+v, want %d", test.state, rows, test.rows)
		}
		x.close()
	}
}

// countingContext counts what waits for its end.
type countingContext struct {
	context.Context
	waiting int
}

func (c *countingContext) AfterFunc(func()) (stop func() bool) {
	c.waiting++
	return sync.OnceValue(func() bool {
		c.waiting--
		return true
	})
}

// A job that is not measured, or not any more, leaves nothing behind however often it is
// looked at.
func TestLeavesNothing(t *testing.T) {
	k, found := jobKey{"ns", "x"}, &kubernetes.Found{Job: &batchv1.Job{}, Spec: &job.Spec{Name: "x"}}
	for _, test := range []struct {
		name    string
		running func(t *testing.T) *running
	}{
		{"no room", func(*testing.T) *running {
			x := newRunning(&Options{})
			for n := range follow.MaxJobs {
				x.meters[jobKey{"ns", fmt.Sprint(n)}] = &measured{done: make(chan struct{})}
			}
			return x
		}},
		{"no way", func(*testing.T) *running {
			return newRunning(&Options{in: func(string) (*kubernetes.Provider, error) { return nil, errors.New("no") }})
		}},
		{"not attached to", func(t *testing.T) *running {
			x := newRunning(&Options{})
			x.ways["ns"] = &way{kubernetestest.Cluster(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusNotFound)
			}), true}
			return x
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			canceled, cancel := context.WithCancel(t.Context())
			defer cancel()
			x, ctx := test.running(t), &countingContext{Context: notThatOf{canceled}}
			for range 3 {
				x.begin(ctx, k, found)
				<-x.meters[k].done
			}
			if ctx.waiting != 0 {
				t.Errorf("%d contexts are left", ctx.waiting)
			}
		})
	}
}

// notThatOf hides of which kind a context is, so that package context asks it for
// AfterFunc.
type notThatOf struct{ context.Context }

func (c notThatOf) Value(any) any { return nil }

// A job that was named ends its top, whether it has finished or was deleted; one that
// had ended before is an error with what helps.
func TestNamed(t *testing.T) {
	x := newRunning(&Options{name: "x", namespace: "ns"})
	k := jobKey{"ns", "x"}
	done := make(chan struct{})
	close(done)
	x.meters[k] = &measured{uid: "1", cancel: func() {}, done: done}
	x.board.set(k, meeting)
	x.list = kubernetestest.Cluster(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
	})
	if err := x.look(t.Context()); err != nil || !x.over() {
		t.Errorf("got %v, over %t", err, x.over())
	}
	if err := x.look(t.Context()); !errors.Is(err, kubernetes.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// The picture has as many lines as the terminal.
func TestPicture(t *testing.T) {
	for _, test := range []struct{ height, lines int }{{24, 7}, {7, 7}, {6, 6}, {4, 4}} {
		x := newRunning(&Options{where: "k8s (ns)", namespace: "ns"})
		x.board = filled(time.Hour)
		got := x.picture(fixedSize{width: 80, height: test.height}, nil)
		last := got[len(got)-1]
		if len(got) != test.lines || (test.lines < 7) != strings.HasPrefix(last, "and ") {
			t.Errorf("height %d: %d lines, the last one %q", test.height, len(got), last)
		}
	}
	x := newRunning(&Options{where: "k8s (ns)", namespace: "ns"})
	got := x.picture(fixedSize{width: 80, height: 24}, errors.New("no route"))
	if got[0] != "the cluster was not asked: no route" || got[2] != "no jobs run" {
		t.Errorf("got %q", got)
	}
}

// fixedSize is a terminal that takes all and says nothing.
type fixedSize struct {
	width, height int
	quit          chan struct{}
}

func (s fixedSize) Size() (width, height int) { return s.width, s.height }
func (s fixedSize) Draw([]string) error       { return nil }
func (s fixedSize) Resized() <-chan os.Signal { return nil }
func (s fixedSize) Quit() <-chan struct{}     { return s.quit }

// muteServer is an API server that never answers.
type muteServer struct{ asked chan struct{} }

func (m muteServer) RoundTrip(r *http.Request) (*http.Response, error) {
	m.asked <- struct{}{}
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// Who wants to leave does so at once, also while the cluster does not answer.
func TestLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mute := muteServer{make(chan struct{}, 1)}
		list, err := kubernetes.New(kubernetes.Options{
			Config: &rest.Config{Host: "http://mute.example", Transport: mute}, Provider: provider.Config{Namespace: "ns"},
		})
		if err != nil {
			t.Fatal(err)
		}
		x := newRunning(&Options{list: list, namespace: "ns", interval: time.Second})
		screen := fixedSize{80, 24, make(chan struct{})}
		left := make(chan error, 1)
		go func() {
			_, err := x.drawOn(t.Context(), screen)
			left <- err
		}()
		<-mute.asked
		began := time.Now()
		close(screen.quit)
		if err := <-left; err != nil {
			t.Error(err)
		}
		if waited := time.Since(began); waited > 0 {
			t.Errorf("it took %s", waited)
		}
	})
}

// A top that was to show the jobs once, and was interrupted before, is no success.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	x := newRunning(&Options{once: true})
	x.board.set(jobKey{"ns", "x"}, meeting)
	if err := x.printOnce(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := newRunning(&Options{interval: time.Second}).print(ctx); err != nil {
		t.Errorf("got %v of a top that goes on until it is interrupted", err)
	}
}
