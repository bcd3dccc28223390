package follow

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/follow/followtest"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// orderTo returns an order to the attempt x-1 of a job, whose agents deliver takes there.
func orderTo(t *testing.T) (*Order, *followtest.Job, followtest.Issued) {
	t.Helper()
	issued := followtest.Issue(t, "ns", "x")
	j := followtest.NewJob()
	t.Cleanup(j.Close)
	return &Order{Job: followtest.IssuedJob{Job: j, Config: issued.Server}, Namespace: "ns", Name: "x", AttemptUID: "uid-x-1"}, j, issued
}

// agentOf has an agent in this state attach, and play its part.
func agentOf(
	t *testing.T, j *followtest.Job, issued followtest.Issued, state *hodeipb.State, act func(*followtest.Agent),
) chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		a := followtest.AttachAs(t, issued, "x-1", state, j.Deliver)
		if a.Welcome.Output || a.Welcome.MetricsInterval != nil {
			t.Errorf("it asked for output or samples: %v", a.Welcome)
		}
		act(a)
	}()
	return done
}

func phase(p hodeipb.Phase) *hodeipb.State { return &hodeipb.State{Phase: p, Signals: new(uint64(3))} }

func TestOrderCancel(t *testing.T) {
	cancelled := &hodeipb.ExitRecord{Cause: "Cancelled", Code: 143, Signal: 15}
	obeys := func(a *followtest.Agent) {
		if c := a.Order().GetCancel(); c == nil || c.Grace.AsDuration() != 2*time.Second {
			t.Errorf("it was told %v", c)
		}
		a.Send(&hodeipb.FromAgent{Message: &hodeipb.FromAgent_State{State: phase(hodeipb.Phase_STOPPING)}})
		a.Exit(cancelled)
	}
	for _, test := range []struct {
		name  string
		state *hodeipb.State
		wait  time.Duration
		act   func(*followtest.Agent)
		over  *job.Outcome // of the job, by its provider
		want  job.Cause
		err   error
	}{
		{name: "it ends", state: phase(hodeipb.Phase_RUNNING), wait: followtest.Wait, act: obeys, want: job.Cancelled},
		{name: "it was told to end before", state: phase(hodeipb.Phase_STOPPING), wait: followtest.Wait, act: obeys, want: job.Cancelled},
		{name: "it ended by itself", state: phase(hodeipb.Phase_RUNNING), wait: followtest.Wait, want: job.Error,
			act: func(a *followtest.Agent) { a.Exit(&hodeipb.ExitRecord{Cause: "Error", Code: 3}) }},
		{name: "it has ended", state: phase(hodeipb.Phase_ENDED), wait: followtest.Wait, want: job.Completed,
			act: func(a *followtest.Agent) { a.Exit(&hodeipb.ExitRecord{Cause: "Completed"}) }},
		{name: "it does not end", state: phase(hodeipb.Phase_RUNNING), wait: 100 * time.Millisecond,
			act: func(a *followtest.Agent) { a.Order() }, err: ErrRuns},
		{name: "its Pod is taken away", state: phase(hodeipb.Phase_RUNNING), wait: followtest.Wait,
			act: func(a *followtest.Agent) { a.Order() }, over: &job.Outcome{Cause: job.Evicted}, want: job.Evicted},
	} {
		t.Run(test.name, func(t *testing.T) {
			o, j, issued := orderTo(t)
			done := agentOf(t, j, issued, test.state, func(a *followtest.Agent) {
				test.act(a)
				if test.over != nil {
					j.Ends <- test.over
				}
			})
			outcome, err := o.Cancel(t.Context(), &hodeipb.Cancel{Grace: durationpb.New(2 * time.Second)}, test.wait)
			<-done
			if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
				t.Errorf("error %v, want %v", err, test.err)
			}
			if (outcome == nil) != (test.want == "") || outcome != nil && outcome.Cause != test.want {
				t.Errorf("got %+v, want %s", outcome, test.want)
			}
		})
	}
}

func TestOrderSignal(t *testing.T) {
	state := func(signals uint64) *hodeipb.FromAgent {
		return &hodeipb.FromAgent{Message: &hodeipb.FromAgent_State{
			State: &hodeipb.State{Phase: hodeipb.Phase_RUNNING, Signals: &signals}}}
	}
	gets := func(a *followtest.Agent) {
		if n := a.Order().GetSignal(); n != 10 {
			t.Errorf("it was told %d", n)
		}
	}
	old := &hodeipb.State{Phase: hodeipb.Phase_RUNNING}
	for _, test := range []struct {
		name      string
		state     *hodeipb.State
		act       func(*followtest.Agent)
		confirmed bool
		err       error
	}{
		{name: "passed on", state: phase(hodeipb.Phase_RUNNING), confirmed: true, act: func(a *followtest.Agent) {
			gets(a)
			a.Send(state(3)) // something else has changed
			a.Send(state(4))
		}},
		{name: "passed on, and the command ended by it", state: phase(hodeipb.Phase_STOPPING), confirmed: true,
			act: func(a *followtest.Agent) {
				gets(a)
				a.Send(&hodeipb.FromAgent{Message: &hodeipb.FromAgent_State{
					State: &hodeipb.State{Phase: hodeipb.Phase_ENDED, Signals: new(uint64(4))}}})
			}},
		{name: "the command ended before", state: phase(hodeipb.Phase_RUNNING), err: ErrEnded, act: func(a *followtest.Agent) {
			a.Exit(&hodeipb.ExitRecord{Cause: "Completed"})
		}},
		{name: "an agent of an older version", state: old, act: gets},
		{name: "an agent of an older version, whose command ends", state: old, act: func(a *followtest.Agent) {
			gets(a)
			a.Exit(&hodeipb.ExitRecord{Cause: "Signaled", Code: 138, Signal: 10})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			o, j, issued := orderTo(t)
			done := agentOf(t, j, issued, test.state, test.act)
			confirmed, err := o.Signal(t.Context(), 10)
			<-done
			if confirmed != test.confirmed || !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
				t.Errorf("confirmed %t, error %v, want %t, %v", confirmed, err, test.confirmed, test.err)
			}
		})
	}
}

func TestNoCommand(t *testing.T) {
	for p, want := range map[hodeipb.Phase]error{
		hodeipb.Phase_PHASE_UNSPECIFIED: ErrNoCommand, hodeipb.Phase_WAITING: ErrNoCommand, hodeipb.Phase_HELD: ErrNoCommand,
		hodeipb.Phase_RUNNING: nil, hodeipb.Phase_STOPPING: nil, hodeipb.Phase_ENDED: ErrEnded,
	} {
		if err := noCommand(phase(p)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", p, err, want)
		}
	}
}

// The end of a command may be heard together with the last state of its agent.
func TestOrderLast(t *testing.T) {
	for _, test := range []struct {
		name      string
		before    *hodeipb.State
		last      *hodeipb.State
		confirmed bool
		err       error
	}{
		{"it came first", phase(hodeipb.Phase_RUNNING), &hodeipb.State{Signals: new(uint64(4))}, true, nil},
		{"it did not", phase(hodeipb.Phase_RUNNING), phase(hodeipb.Phase_ENDED), false, ErrEnded},
		{"nothing was heard", phase(hodeipb.Phase_RUNNING), nil, false, ErrEnded},
		{"an agent of an older version", &hodeipb.State{}, &hodeipb.State{}, false, nil},
	} {
		l := newObedience("1")
		if test.last != nil {
			l.states <- test.last
		}
		confirmed, err := l.last(test.before)
		if confirmed != test.confirmed || !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
			t.Errorf("%s: %t, %v", test.name, confirmed, err)
		}
	}
}

// An agent that does not come is waited for as long as was said, and other attempts are none of ours.
func TestOrderUnmet(t *testing.T) {
	o, _, _ := orderTo(t)
	o.Wait = 10 * time.Millisecond
	if _, err := o.Signal(t.Context(), 10); !errors.Is(err, ErrLate) || err.Error() != "not within 10ms" {
		t.Errorf("got %v", err)
	}
	o, j, issued := orderTo(t)
	o.AttemptUID = "uid-x-2"
	done := agentOf(t, j, issued, phase(hodeipb.Phase_RUNNING), func(*followtest.Agent) { j.Ends <- &job.Outcome{Cause: job.Completed} })
	if _, err := o.Cancel(t.Context(), &hodeipb.Cancel{}, followtest.Wait); !errors.Is(err, ErrNotMet) {
		t.Errorf("got %v", err)
	}
	<-done
	o, _, _ = orderTo(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	told := errors.New("told to end")
	cancel(told)
	if _, err := o.Cancel(ctx, &hodeipb.Cancel{}, followtest.Wait); !errors.Is(err, told) {
		t.Errorf("got %v", err)
	}
}

// What agents say of attempts that were not asked for is not heard.
func TestObedience(t *testing.T) {
	l := newObedience("1")
	l.State("x-1", phase(hodeipb.Phase_RUNNING))
	l.Exited("x-1", &hodeipb.ExitRecord{})
	l.Attached(coordinator.Attachment{Hello: &hodeipb.Hello{Attempt: "x-0", AttemptUid: "0", State: phase(hodeipb.Phase_RUNNING)}})
	if len(l.attached)+len(l.states)+len(l.exited) != 0 {
		t.Error("it heard another attempt")
	}
	for range 2 { // it attaches anew
		l.Attached(coordinator.Attachment{Hello: &hodeipb.Hello{Attempt: "x-1", AttemptUid: "1", State: phase(hodeipb.Phase_RUNNING)}})
	}
	for _, p := range []hodeipb.Phase{hodeipb.Phase_RUNNING, hodeipb.Phase_STOPPING} {
		l.State("x-1", phase(p))
		l.Exited("x-1", &hodeipb.ExitRecord{})
	}
	if state := <-l.states; state.Phase != hodeipb.Phase_STOPPING || len(l.attached) != 1 || len(l.exited) != 1 {
		t.Errorf("state %v, %d attached, %d exited", state, len(l.attached), len(l.exited))
	}
}
