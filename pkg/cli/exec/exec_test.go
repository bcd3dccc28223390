package exec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// TestRefusal: what is not there to run beside is said without asking an agent.
func TestRefusal(t *testing.T) {
	allowed := func(o job.Outcome, attempts ...kubernetes.Attempt) *kubernetes.Found {
		return &kubernetes.Found{Spec: &job.Spec{Name: "x", Exec: true}, Outcome: &o, Attempts: attempts}
	}
	finished := allowed(job.Outcome{Cause: job.Completed})
	finished.Finished = true
	without := allowed(job.Outcome{}, kubernetes.Attempt{Running: true})
	without.Spec.Exec = false
	for _, test := range []struct {
		name  string
		found *kubernetes.Found
		want  string // the beginning of the error
		hint  string
	}{
		{"runs", allowed(job.Outcome{}, kubernetes.Attempt{Running: true}), "", ""},
		{"may run", allowed(job.Outcome{}, kubernetes.Attempt{MayRun: true}), "", ""},
		{"has ended", finished, "job x has ended: ", ""},
		{"does not allow it", without, "job x was made without --exec", "allow it for the next one: {hodei} run --exec"},
		{"its Pod has ended", allowed(job.Outcome{}, kubernetes.Attempt{Ended: true}), "the command of job x has ended", ""},
		{"its output is left", allowed(job.Outcome{}, kubernetes.Attempt{Running: true, Left: true}), "the command of job x has ended", ""},
		{"no Pod yet", allowed(job.Outcome{}), "the command of job x has not started", "{hodei} wait --for running x"},
		{"a retry", allowed(job.Outcome{}, kubernetes.Attempt{Ended: true}, kubernetes.Attempt{Running: true}), "", ""},
	} {
		err := refusal(test.found)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
		if err != nil && !strings.HasPrefix(job.HintOf(err), test.hint) {
			t.Errorf("%s: hint %q, want %q", test.name, job.HintOf(err), test.hint)
		}
	}
}

// TestConclude: each end has its exit code, and one error if there is something to say.
func TestConclude(t *testing.T) {
	x := &execution{Options: &Options{JobName: "x"}}
	broken := errors.New("EOF")
	for _, test := range []struct {
		name string
		end  *hodeipb.ExecExit
		err  error
		code int // of a job.ExitError; 0: another error, or none
		want string
	}{
		{name: "well", end: &hodeipb.ExecExit{}},
		{name: "its own code", end: &hodeipb.ExecExit{Code: 3}, code: 3, want: "exit 3"},
		{name: "killed", end: &hodeipb.ExecExit{Code: 137, Signal: 9}, code: 137, want: "exit 137"},
		{name: "not found", end: &hodeipb.ExecExit{Code: 127, NotStarted: true, Error: "ls: not found"}, code: 127, want: "ls: not found"},
		{name: "can't be run", end: &hodeipb.ExecExit{Code: 126, NotStarted: true, Error: "ls: denied"}, code: 126, want: "ls: denied"},
		{name: "too many", end: &hodeipb.ExecExit{Code: 125, NotStarted: true, Error: "16 commands run"}, code: 125,
			want: "no command was started beside job x: 16 commands run"},
		{name: "the job has ended", end: &hodeipb.ExecExit{Code: 137, Signal: 9, Error: "the job has ended"}, code: 137,
			want: "the command was killed: the job has ended"},
		{name: "nobody reads", err: fmt.Errorf("write: %w", syscall.EPIPE), code: 141, want: "exit 141"},
		{name: "a full disk", err: fmt.Errorf("%w: %w", coordinator.ErrUnwritten, syscall.ENOSPC),
			want: "the command is hung up: its output can't be written: no space left on device"},
		{name: "no end is told", err: errJobEnded, want: "the command is killed: job x has ended"},
		{name: "a broken connection", err: broken, want: "the command is hung up: the connection to the agent of job x broke: EOF"},
	} {
		err := x.conclude(test.end, test.err)
		if test.want == "" {
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		code := 0
		if exit, ok := errors.AsType[*job.ExitError](err); ok {
			code = exit.Code
		}
		if err == nil || err.Error() != test.want || code != test.code {
			t.Errorf("%s: code %d, %v; want %d, %s", test.name, code, err, test.code, test.want)
		}
	}
}

func TestUnmet(t *testing.T) {
	x := &execution{Options: &Options{JobName: "x"}}
	for err, want := range map[error]string{
		follow.ErrNotMet: "job x has ended", follow.ErrLate: "the agent of job x was not reached within 30s",
		syscall.EIO: syscall.EIO.Error(),
	} {
		if got := x.unmet(err); got.Error() != want {
			t.Errorf("%v: %v, want %s", err, got, want)
		}
	}
}

// TestCheck: what no agent would take is refused here.
func TestCheck(t *testing.T) {
	for want, o := range map[string]Options{
		"":                             {Command: []string{"ls", ""}, Env: []job.EnvVar{{Name: "X"}}},
		"the command is empty":         {Command: []string{""}},
		"-e: a variable without":       {Command: []string{"ls"}, Env: []job.EnvVar{{Value: "x"}}},
		"the command and its variable": {Command: []string{"ls", strings.Repeat("x", hodeipb.MaxExecBytes)}},
	} {
		if err := o.check(); (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestGated(t *testing.T) {
	var out strings.Builder
	open := make(chan struct{})
	written := make(chan error, 1)
	go func() {
		_, err := (&gated{to: &out, open: open}).Write([]byte("x"))
		written <- err
	}()
	select {
	case <-written:
		t.Fatal("written before the terminal is there")
	default:
	}
	close(open)
	if err := <-written; err != nil || out.String() != "x" {
		t.Errorf("wrote %q, %v", out.String(), err)
	}
}

// TestFollowUnwatched: a job that can't be watched any more has not ended by that; one that has is waited for a while.
func TestFollowUnwatched(t *testing.T) {
	left := errors.New("left")
	for _, test := range []struct {
		name    string
		outcome *job.Outcome
		want    string
	}{
		{"not watched", nil, "left"},
		{"ended", &job.Outcome{Cause: job.Completed}, "the command is killed: job x has ended"},
	} {
		synctest.Test(t, func(t *testing.T) {
			x := &execution{Options: &Options{JobName: "x"},
				Execution: coordinator.NewExecution(&hodeipb.ExecStart{}, nil, io.Discard, io.Discard)}
			over, ended := follow.NewEnd()
			ended(test.outcome, errors.New("unreachable"))
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(2*endWait, func() { cancel(left) })
			if err := x.follow(ctx, &follow.Events{Over: over}); err == nil || err.Error() != test.want {
				t.Errorf("%s: %v, want %q", test.name, err, test.want)
			}
			<-ctx.Done()
		})
	}
}
