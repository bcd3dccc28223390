package wire

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
)

func TestRan(t *testing.T) {
	for _, test := range []struct {
		name  string
		state *hodeipb.State
		want  bool
	}{
		{"waits", &hodeipb.State{Phase: hodeipb.Phase_WAITING}, false},
		{"held", &hodeipb.State{Phase: hodeipb.Phase_HELD}, false},
		{"runs", &hodeipb.State{Phase: hodeipb.Phase_RUNNING}, true},
		{"told to stop before it was started", &hodeipb.State{Phase: hodeipb.Phase_STOPPING}, false},
		{"told to stop", &hodeipb.State{Phase: hodeipb.Phase_STOPPING, CommandStarted: timestamppb.Now()}, true},
		{"can't be executed", &hodeipb.State{Phase: hodeipb.Phase_ENDED}, false},
		{"has ended", &hodeipb.State{Phase: hodeipb.Phase_ENDED, CommandStarted: timestamppb.Now()}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Ran(test.state); got != test.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

func TestOutcome(t *testing.T) {
	const nonsense = "the exit record makes no sense"
	const refused = "the agent named a cause that this version of hodei does not take from it: "
	tests := []struct {
		name    string
		record  *hodeipb.ExitRecord
		cause   job.Cause
		exit    int
		message string // a part of it
	}{
		{"success", &hodeipb.ExitRecord{Cause: contract.CauseCompleted}, job.Completed, 0, ""},
		{"failure", &hodeipb.ExitRecord{Cause: contract.CauseError, Code: 7, Message: "m"}, job.Error, 7, "m"},
		{"largest status", &hodeipb.ExitRecord{Cause: contract.CauseError, Code: 255}, job.Error, 255, ""},
		{"signal", &hodeipb.ExitRecord{Cause: contract.CauseSignaled, Code: 137, Signal: 9}, job.Signaled, 137, ""},
		{"out of memory", &hodeipb.ExitRecord{Cause: contract.CauseOOMKilled, Code: 137, Signal: 9}, job.OOMKilled, 137, ""},
		{"out of memory, swallowed", &hodeipb.ExitRecord{Cause: contract.CauseOOMKilled}, job.OOMKilled, 0, ""},
		{"timeout", &hodeipb.ExitRecord{Cause: contract.CauseDeadlineExceeded, Code: 143, Signal: 15}, job.DeadlineExceeded, 124, ""},
		{"cancelled, ended well", &hodeipb.ExitRecord{Cause: contract.CauseCancelled}, job.Cancelled, 130, ""},
		{"launcher killed", &hodeipb.ExitRecord{Code: 137, Signal: 9, Message: "killed"}, job.Unknown, 125, "killed"},
		{"no cause, status 0", &hodeipb.ExitRecord{}, job.Unknown, 125, ""},
		{"completed with a status", &hodeipb.ExitRecord{Cause: "Completed", Code: 3}, job.Error, 3, ""},
		{"error without a status", &hodeipb.ExitRecord{Cause: "Error"}, job.Unknown, 125, nonsense},
		{"signal without a status", &hodeipb.ExitRecord{Cause: "Signaled", Signal: 9}, job.Unknown, 125, nonsense},
		{"cause of the cluster", &hodeipb.ExitRecord{Cause: "Evicted", Code: 1}, job.Unknown, 125, refused + `"Evicted"`},
		{"unknown cause", &hodeipb.ExitRecord{Cause: "completed"}, job.Unknown, 125, refused + `"completed"`},
		{"unknown cause, and a message", &hodeipb.ExitRecord{Cause: "Fro\x1bzen", Message: "m"}, job.Unknown, 125,
			refused + `"Fro\x1bzen"; m`},
		{"status of two bytes", &hodeipb.ExitRecord{Cause: "Error", Code: 256}, job.Unknown, 125, nonsense},
		{"negative status", &hodeipb.ExitRecord{Cause: "Error", Code: -1}, job.Unknown, 125, nonsense},
		{"signal beyond all", &hodeipb.ExitRecord{Cause: "Signaled", Code: 1, Signal: 65}, job.Unknown, 125, nonsense},
		{"negative signal", &hodeipb.ExitRecord{Cause: "Signaled", Code: 1, Signal: -1}, job.Unknown, 125, nonsense},
		{"pipes held", &hodeipb.ExitRecord{Cause: "Completed", PipesHeld: true}, job.Completed, 0, "a process that outlived the command"},
		{"pipes held, besides", &hodeipb.ExitRecord{Cause: "Error", Code: 1, Message: "m", PipesHeld: true}, job.Error, 1,
			"m; a process that outlived the command"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := Outcome(tt.record)
			if o.Cause != tt.cause || o.ExitCode() != tt.exit || !strings.HasPrefix(o.Message, tt.message) ||
				(tt.message == "") != (o.Message == "") {
				t.Errorf("%+v with exit code %d, want %s, %d, %q", o, o.ExitCode(), tt.cause, tt.exit, tt.message)
			}
		})
	}
}

func TestOutcomeTimes(t *testing.T) {
	start := time.Now()
	o := Outcome(&hodeipb.ExitRecord{Started: timestamppb.New(start)})
	if !o.Started.Equal(start) || !o.Finished.IsZero() {
		t.Errorf("from %v to %v", o.Started, o.Finished)
	}
}

// A record may be stored and shown at the same time.
func TestOutcomeLeavesTheRecord(t *testing.T) {
	text := strings.Repeat("x", maxTextBytes+1)
	r := &hodeipb.ExitRecord{Cause: contract.CauseError, Code: 1, Message: text}
	if o := Outcome(r); o.Message == text {
		t.Error("a message that is too long is not cut")
	}
	if r.Message != text {
		t.Errorf("the record's own message has %d bytes", len(r.Message))
	}
}

// FuzzOutcome holds that no record whatsoever turns into a success that it
// does not claim.
func FuzzOutcome(f *testing.F) {
	for _, r := range []*hodeipb.ExitRecord{
		{Cause: contract.CauseCompleted}, {Cause: contract.CauseError, Code: 256}, {Cause: contract.CauseSignaled, Code: 137, Signal: 9},
		{Cause: "", Code: 0},
	} {
		bytes, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytes)
	}
	f.Fuzz(func(t *testing.T, bytes []byte) {
		r := &hodeipb.ExitRecord{}
		if proto.Unmarshal(bytes, r) != nil {
			t.Skip("no exit record")
		}
		o := Outcome(r)
		code := o.ExitCode()
		if code < 0 || code > 255 {
			t.Errorf("exit code %d of %v", code, r)
		}
		success := r.Code == 0 && (r.Cause == contract.CauseCompleted || r.Cause == contract.CauseOOMKilled)
		if code == 0 && !success {
			t.Errorf("success from %v", r)
		}
		_ = o.Summary()
	})
}
