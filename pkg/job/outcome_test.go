package job

import (
	"errors"
	"reflect"
	"syscall"
	"testing"
	"time"
)

func TestOutcome(t *testing.T) {
	start := time.Date(2025, 2, 3, 4, 5, 6, 0, time.UTC)
	tests := []struct {
		name    string
		outcome Outcome
		code    int
		summary string
	}{
		{"success", Outcome{Cause: Completed, Started: start, Finished: start.Add(41200 * time.Millisecond)}, 0, "exit 0 in 41.2s"},
		{"failure", Outcome{Cause: Error, Code: 7, Started: start, Finished: start.Add(12 * time.Millisecond)}, 7, "exit 7 in 0.01s"},
		{"never ran", Outcome{Cause: Error, Code: 127, Message: "nope: not found", Finished: start}, 127, "exit 127: nope: not found"},
		{"clock went back", Outcome{Cause: Error, Code: 255, Started: start, Finished: start.Add(-time.Second)}, 255, "exit 255"},
		{"signal", Outcome{Cause: Signaled, Code: 137, Signal: syscall.SIGKILL}, 137, "killed by SIGKILL (exit 137)"},
		{"signal without a name", Outcome{Cause: Signaled, Code: 168, Signal: 40}, 168, "killed by signal 40 (exit 168)"},
		{"out of memory", Outcome{Cause: OOMKilled, Code: 137, Signal: 9, Message: "m"}, 137, "OOMKilled (exit 137): m"},
		{"out of memory, swallowed", Outcome{Cause: OOMKilled, Message: "m", Started: start, Finished: start.Add(time.Second)}, 0,
			"exit 0 in 1.00s (OOMKilled): m"},
		{"evicted", Outcome{Cause: Evicted, Code: 143}, 125, "Evicted (exit 125)"},
		{"evicted, and exited by itself", Outcome{Cause: Evicted, Code: 1, PodEnded: true, Message: "m"}, 1, "Evicted (exit 1): m"},
		{"evicted, and ended well", Outcome{Cause: Evicted, PodEnded: true}, 0, "exit 0 (Evicted)"},
		{"deleted, and exited by itself", Outcome{Cause: Error, Code: 9, PodEnded: true, Message: "m"}, 9, "exit 9: m"},
		{"timeout", Outcome{Cause: DeadlineExceeded, Code: 143, Signal: 15, Started: start, Finished: start.Add(72 * time.Second)}, 124,
			"DeadlineExceeded after 1m12s (exit 124)"},
		{"timeout, the command ended well", Outcome{Cause: DeadlineExceeded}, 124, "DeadlineExceeded (exit 124)"},
		{"cancelled", Outcome{Cause: Cancelled, Code: 143, Signal: 15}, 130, "Cancelled (exit 130)"},
		{"cancelled, the command ended well", Outcome{Cause: Cancelled}, 130, "Cancelled (exit 130)"},
		{"image", Outcome{Cause: ImagePull, Code: ExitFailed, Message: "manifest unknown"}, 125, "ImagePull (exit 125): manifest unknown"},
		{"agent lost", Outcome{Cause: AgentLost, Code: 0}, 125, "AgentLost (exit 125)"},
		{"unknown is never success", Outcome{Cause: Unknown, Code: 0}, 125, "Unknown (exit 125)"},
		{"zero value is never success", Outcome{}, 125, "Unknown (exit 125)"},
		{"a cause of a later version", Outcome{Cause: "Frozen", Message: "m"}, 125, "Frozen (exit 125): m"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.outcome.ExitCode(); got != tt.code {
				t.Errorf("exit code %d, want %d", got, tt.code)
			}
			if got := tt.outcome.Summary(); got != tt.summary {
				t.Errorf("summary %q, want %q", got, tt.summary)
			}
		})
	}
}

// What the command's own end is decides whose exit code counts.
func TestOfCommand(t *testing.T) {
	for _, test := range []struct {
		causes []Cause
		own    bool
	}{
		{[]Cause{Completed, Error, Signaled, OOMKilled, DeadlineExceeded, Cancelled}, true},
		{[]Cause{ImagePull, InvalidImage, Unschedulable, QuotaExceeded, Forbidden, ConfigError, Evicted, Preempted, NodeLost, StartTimeout,
			AgentLost, Unknown}, false},
		{[]Cause{"", "completed", "Frozen"}, false},
	} {
		for _, c := range test.causes {
			if c.OfCommand() != test.own {
				t.Errorf("%q: %t, want %t", c, c.OfCommand(), test.own)
			}
			if code := (&Outcome{Cause: c}).ExitCode(); !test.own && code != ExitFailed {
				t.Errorf("%q: exit code %d, want %d", c, code, ExitFailed)
			}
		}
	}
}

// The agent knows what the command did, the cluster who ended its Pod.
func TestSettled(t *testing.T) {
	failed, told := &Outcome{Cause: Error, Code: 1, Message: "a"}, &Outcome{Cause: Error, Code: 1, PodEnded: true, Message: "a"}
	unknown, evicted := &Outcome{Cause: Unknown, Message: "c"}, &Outcome{Cause: Evicted, Message: "c"}
	for _, test := range []struct {
		name           string
		agent, cluster *Outcome
		want           *Outcome
	}{
		{"the cluster's alone", nil, evicted, evicted},
		{"the agent's alone", failed, nil, failed},
		{"the cluster knows nothing", failed, unknown, failed},
		{"the agent was told nothing", failed, evicted, evicted},
		{"evicted", told, evicted, &Outcome{Cause: Evicted, Code: 1, PodEnded: true, Message: "c"}},
		{"evicted without a word", told, &Outcome{Cause: Evicted}, &Outcome{Cause: Evicted, Code: 1, PodEnded: true, Message: "a"}},
		{"preempted", told, &Outcome{Cause: Preempted}, &Outcome{Cause: Preempted, Code: 1, PodEnded: true, Message: "a"}},
		{"node lost", told, &Outcome{Cause: NodeLost}, &Outcome{Cause: NodeLost, Code: 1, PodEnded: true, Message: "a"}},
		{"deleted", told, unknown, &Outcome{Cause: Error, Code: 1, PodEnded: true, Message: "c"}},
		{"the cluster has the record too", told, &Outcome{Cause: Evicted, Code: 1, PodEnded: true, Message: "d"},
			&Outcome{Cause: Evicted, Code: 1, PodEnded: true, Message: "d"}},
		{"an attempt that came after", told, &Outcome{Cause: Completed}, &Outcome{Cause: Completed}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Settled(test.agent, test.cluster); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestDuration(t *testing.T) {
	tests := []struct {
		name string
		d    time.Duration
		want string
	}{
		{"zero", 0, "0.00s"},
		{"below a hundredth", 4 * time.Millisecond, "0.00s"},
		{"short", 40 * time.Millisecond, "0.04s"},
		{"below ten seconds", 9994 * time.Millisecond, "9.99s"},
		{"as good as ten seconds", 9995 * time.Millisecond, "10.0s"},
		{"seconds", 12400 * time.Millisecond, "12.4s"},
		{"minutes", 192400 * time.Millisecond, "3m12s"},
		{"hours", 25*time.Hour + time.Second, "25h0m1s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Duration(tt.d); got != tt.want {
				t.Errorf("Duration(%s) = %s, want %s", tt.d, got, tt.want)
			}
		})
	}
}

func TestFailure(t *testing.T) {
	under := errors.New("underneath")
	var err error = &Failure{Cause: Forbidden, Message: "may not", Err: under}
	if err.Error() != "may not" || !errors.Is(err, under) {
		t.Errorf("error %v", err)
	}
	o := err.(*Failure).Outcome()
	if o.ExitCode() != ExitFailed || o.Summary() != "Forbidden (exit 125): may not" {
		t.Errorf("outcome %+v: %s", o, o.Summary())
	}
}
