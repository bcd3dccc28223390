package session

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/follow/followtest"
	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
)

// A run's samples come from its agent as often as they were asked for, are kept with
// the output, and are told as events if that was asked for.
func TestSessionUsage(t *testing.T) {
	for _, test := range []struct {
		name     string
		follow   bool
		events   bool
		every    time.Duration
		interval time.Duration // of the welcome
		told     int           // usage events
		stored   int
	}{
		{"followed", true, false, 0, follow.FollowedEvery, 0, 6},
		{"followed silently", false, false, 0, follow.UnwatchedEvery, 0, 0},
		{"as events", true, true, 0, follow.FollowedEvery, 0, 6},
		{"with usage events", true, true, 200 * time.Millisecond, 200 * time.Millisecond, 5, 6},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			a := newBeside(&out, &errOut)
			o := a.config(a.screen(test.events), nil)
			o.Follow = test.follow
			o.UsageInterval = test.every
			if test.events {
				o.Events = &output.Events{Out: &out}
				o.Sink = o.Events
			}
			i := followtest.Issue(t, "ns", "x")
			j := followtest.IssuedJob{Job: followtest.NewJob(), Config: i.Server}
			o.Job = j
			kept, err := logstore.Open(t.TempDir(), logstore.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if test.follow {
				o.Store = &place.Store{Store: kept}
			}
			over := make(chan error, 1)
			go func() { over <- Run(t.Context(), o) }()
			agent := followtest.Attach(t, i, "x-1", j.Deliver)
			if got := agent.Welcome.MetricsInterval.AsDuration(); got != test.interval {
				t.Errorf("asked for a sample every %s, want %s", got, test.interval)
			}
			began := time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
			for n := range 5 {
				agent.Sample(began.Add(time.Duration(n)*time.Second), followtest.UsageAt(float64(n)))
			}
			agent.Exit(followtest.Completed(began, 5))
			if err := <-over; err != nil {
				t.Fatal(err)
			}
			const want = "exit 0 in 5.00s, cpu 5.00s, memory 812Mi of 1Gi, net received 12.3MB sent 400kB\n"
			told, final := 0, map[string]any{}
			for line := range strings.Lines(out.String()) {
				var event map[string]any
				if err := json.Unmarshal([]byte(line), &event); err != nil {
					t.Fatal(err)
				}
				switch event["type"] {
				case "usage":
					told++
					if event["attempt"] != "x-1" || event["usage"].(map[string]any)["source"] != "cgroup2+ebpf" {
						t.Errorf("usage event %s", line)
					}
				case "exit":
					final = event
				}
			}
			if told != test.told {
				t.Errorf("%d usage events, want %d", told, test.told)
			}
			if test.events {
				cpu := final["usage"].(map[string]any)["cpu"].(map[string]any)["totalNs"]
				if cpu != 5e9 || len(final["probes"].([]any)) != 2 {
					t.Errorf("exit event %v", final)
				}
			} else if !strings.HasSuffix(errOut.String(), want) {
				t.Errorf("stderr %q, want it to end with %q", errOut.String(), want)
			}
			stored := 0
			if found, err := kept.Find("ns", "x"); err != nil {
				t.Error(err)
			} else if len(found) > 0 {
				stored = len(history.StoredSamples(kept, found[0].Key))
			}
			if stored != test.stored {
				t.Errorf("%d samples stored, want %d", stored, test.stored)
			}
		})
	}
}

// Whoever does not read does not make the history grow.
func TestUsageHistoryBounded(t *testing.T) {
	f := testFollower(t, io.Discard, io.Discard, "json")
	f.usage.events = f.events
	free := make(chan struct{})
	f.display.Aside(func() { <-free }) // somebody hangs in the terminal
	at := time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
	for n := range 5000 {
		f.Metrics("x-1", followtest.MetricsAt(at.Add(time.Duration(n)*time.Second), followtest.UsageAt(float64(n))))
	}
	close(free)
	f.display.AwaitAside(t.Context())
	if known, untold := len(f.usage.known.All()), len(f.usage.untold[0].All()); known > 512 || untold > 512 || known < 100 || untold < 100 {
		t.Errorf("%d kept, %d to be told", known, untold)
	}
	f.Metrics("x-2", followtest.MetricsAt(at, followtest.UsageAt(1)))
	if n := len(f.usage.of("x-2")); n != 1 || f.usage.of("x-1") != nil {
		t.Errorf("%d samples of the next attempt, and %v of the one before", n, f.usage.of("x-1"))
	}
}

// Samples that are not told yet when the next attempt comes stay its own.
func TestUsageHistoryAttempts(t *testing.T) {
	var out bytes.Buffer
	h := &usageHistory{events: &output.Events{Out: &out}}
	at := time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
	for n, attempt := range []string{"x-1", "x-1", "x-2"} { // the last by a clock that is behind
		h.add(attempt, followtest.MetricsAt(at.Add(time.Duration(n%2)*time.Second), followtest.UsageAt(float64(n))))
	}
	if err := h.tell(); err != nil {
		t.Fatal(err)
	}
	var told []string
	for line := range strings.Lines(out.String()) {
		var e struct{ Attempt string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		told = append(told, e.Attempt)
	}
	if got := strings.Join(told, " "); got != "x-1 x-1 x-2" {
		t.Errorf("told of %s", got)
	}
	for n := range 100 {
		h.add(fmt.Sprint("x-", n), followtest.MetricsAt(at, followtest.UsageAt(1)))
	}
	if len(h.untold) != maxUntold || h.untold[maxUntold-1].attempt != "x-99" {
		t.Errorf("%d attempts to be told of", len(h.untold))
	}
}
