package joblog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/kubernetestest"
)

// TestChoose holds what of a job is shown, and how.
func TestChoose(t *testing.T) {
	runs := history.Attempt{Name: "x-2", Pod: &kubernetes.Attempt{Running: true}}
	ended := history.Attempt{Name: "x-1", Pod: &kubernetes.Attempt{Ended: true}}
	away := history.Attempt{Name: "x-1", Pod: &kubernetes.Attempt{}}
	stored := history.Attempt{Name: "x-1", Pod: &kubernetes.Attempt{}, Stored: &logstore.Attempt{End: 1}}
	for _, test := range []struct {
		name     string
		attempts []history.Attempt
		finished bool
		wanted   int
		follow   bool
		want     string // of the attempt
		live     bool
		further  bool
		err      string
	}{
		{name: "it runs", attempts: []history.Attempt{ended, runs}, want: "x-2", live: true},
		{name: "the first of two", attempts: []history.Attempt{ended, runs}, wanted: 1, follow: true, want: "x-1"},
		{name: "the third of two", attempts: []history.Attempt{ended, runs}, wanted: 3,
			err: "job x has no attempt 3: up to now it has had 2"},
		{name: "between two attempts", attempts: []history.Attempt{ended}, want: "x-1"},
		{name: "between two attempts, and on", attempts: []history.Attempt{ended}, follow: true, want: "x-1", further: true},
		{name: "it is over", attempts: []history.Attempt{ended}, finished: true, follow: true, want: "x-1"},
		{name: "its agent is away", attempts: []history.Attempt{away},
			err: "the agent of job x does not run: its command has not started, or the agent was lost"},
		{name: "its agent is away, and waited for", attempts: []history.Attempt{away}, follow: true, want: "x-1", live: true},
		{name: "its agent is away, and something is stored", attempts: []history.Attempt{stored}, want: "x-1"},
		{name: "not started", err: "job x has not started"},
		{name: "not started, the first attempt", wanted: 1, err: "job x has not started"},
		{name: "not started, the second attempt", wanted: 2, err: "job x has no attempt 2: up to now it has had 0"},
		{name: "not started, and waited for", follow: true, live: true},
		{name: "nothing is left", finished: true, follow: true,
			err: "the output of job x is gone: it was not stored on this machine, and its container's log is not there"},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := &history.Job{Name: "x", Found: &kubernetes.Found{Finished: test.finished}, Attempts: test.attempts}
			w, err := choose(j, test.wanted, test.follow)
			if text := fmt.Sprint(err); err != nil && text != test.err || err == nil && test.err != "" {
				t.Fatalf("error %v, want %q", err, test.err)
			}
			got := ""
			if w.attempt != nil {
				got = w.attempt.Name
			}
			if got != test.want || w.live != test.live || w.further != test.further {
				t.Errorf("got %q, live %t, further %t", got, w.live, w.further)
			}
		})
	}
}

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
			v := &Viewer{Tail: test.tail, Since: test.since}
			if got := v.begin(test.extent, test.estimate); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}

// An agent that is away is not said to be one that has not started.
func TestShowWithoutAgent(t *testing.T) {
	v := newViewer(io.Discard, io.Discard, output.Options{}, history.Finder{})
	pod := &kubernetes.Attempt{Name: "x-1"}
	err := v.Show(t.Context(), &history.Job{Name: "x", Found: &kubernetes.Found{Spec: &job.Spec{Name: "x"}},
		Attempts: []history.Attempt{{Name: "x-1", Pod: pod}}})
	if err == nil || err.Error() != "the agent of job x does not run: its command has not started, or the agent was lost" {
		t.Errorf("got %v", err)
	}
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
		missed  string
	}{
		{name: "there", log: "2025-06-01T12:00:01Z a\n2025-06-01T12:00:02Z b\n", code: 200, copied: true, printed: 4, out: "a\nb\n"},
		{name: "there, though nobody said so", log: "2025-06-01T12:00:01Z a\n", code: 200, printed: 2, out: "a\n"},
		{name: "it printed nothing", code: 200, copied: true},
		{name: "it was cut off", code: 200, copied: true, printed: 4, err: "the output of job x is gone"},
		{name: "half of it", log: "2025-06-01T12:00:01Z a\n", code: 200, copied: true, printed: 4, out: "a\n",
			missed: "2 of 4 bytes of x-1 are missing from its container's log"},
		{name: "a newline more than there was", log: "2025-06-01T12:00:01Z a\n", code: 200, copied: true, printed: 1, out: "a\n"},
		{name: "none of the last lines", code: 200, copied: true, printed: 4, tail: &tail, err: "the output of job x is gone"},
		{name: "fewer than the last lines", log: "2025-06-01T12:00:01Z a\n", code: 200, copied: true, printed: 4, tail: &tail, out: "a\n",
			missed: "2 of 4 bytes of x-1 are missing from its container's log"},
		{name: "the last lines", log: strings.Repeat("2025-06-01T12:00:01Z a\n", tail), code: 200, copied: true, printed: 40,
			tail: &tail, out: "a\na\na\n"},
		{name: "not copied", code: 200, printed: 4, err: "the output of job x is gone"},
		{name: "no Pod, not copied", code: 404, printed: 4, err: "the output of job x is gone"},
		{name: "no Pod", code: 404, copied: true, printed: 4, err: "the server could not find the requested resource"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			cluster := kubernetestest.Cluster(t, func(w http.ResponseWriter, r *http.Request) {
				q := r.URL.Query()
				tailed := q.Get("tailLines") != ""
				if r.URL.Path != "/api/v1/namespaces/ns/pods/x-1/log" || q.Get("container") != "job" || tailed != (test.tail != nil) {
					t.Errorf("asked for %s", r.URL)
				}
				w.WriteHeader(test.code)
				io.WriteString(w, test.log)
			})
			v := newViewer(&out, &errOut, output.Options{}, history.Finder{Cluster: cluster})
			if test.tail != nil {
				v.Tail = *test.tail
			}
			j := &history.Job{Name: "x", Found: &kubernetes.Found{Spec: &job.Spec{Name: "x", ContainerLogs: test.copied}}}
			pod := &kubernetes.Attempt{Name: "x-1", Ended: true, Outcome: &job.Outcome{Cause: job.Error, Code: 1,
				OutputBytes: test.printed}}
			err := v.ShowOver(t.Context(), j, &history.Attempt{Name: "x-1", Pod: pod})
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			if v.Missed() != test.missed || !strings.Contains(errOut.String(), test.missed) {
				t.Errorf("missed %q, want %q", v.Missed(), test.missed)
			}
			if out.String() != test.out || strings.Contains(errOut.String(), Inexact) != (test.out != "") {
				t.Errorf("stdout %q, want %q; stderr %q", out.String(), test.out, errOut.String())
			}
		})
	}
}

// TestLoss holds which errors are losses, and what is said of them.
func TestLoss(t *testing.T) {
	other := errors.New("another")
	for _, test := range []struct {
		name   string
		err    error
		want   error
		missed string
		notes  string
	}{
		{name: "none"},
		{name: "another", err: other, want: other},
		{name: "gone", err: gone("x", "x-1", 7), missed: "7 bytes of x-1 are missing from offset 0 on",
			notes: "the output of job x is gone: it was not stored on this machine, and its container's log is not there\n" +
				"7 bytes of x-1 are missing from offset 0 on\n"},
		{name: "unread", err: &UnreadError{"x-1", other}, missed: "the log of container job in x-1 can't be read: another"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var notes bytes.Buffer
			v := newViewer(io.Discard, &notes, output.Options{}, history.Finder{})
			if err := v.Loss(test.err); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if v.Missed() != test.missed || notes.String() != test.notes {
				t.Errorf("missed %q, notes %q", v.Missed(), notes.String())
			}
		})
	}
}
