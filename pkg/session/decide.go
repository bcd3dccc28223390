package session

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/signals"
)

// happening is what a session is told.
type happening string

const (
	allShown      happening = "all output of a job that is over is shown"
	commandRuns   happening = "the command runs"
	attemptEnded  happening = "an agent tells how its attempt has ended"
	jobOver       happening = "the job is over, or can't be watched any more"
	patienceOver  happening = "the Pod's status has not named a cause in time"
	storeStuck    happening = "output can't be stored"
	agentRefused  happening = "an agent and we refuse each other's certificates"
	meetingLost   happening = "no agent can be met any more"
	displayBroken happening = "output can't be shown"
	readerGone    happening = "who read the output has gone, and no Ctrl-C came with that"
	signalCame    happening = "a signal came"
	startHeld     happening = "a command's start is held until its input can come"
	mayStart      happening = "a command whose start was held may start, or can't"
	keysTyped     happening = "the keys that leave the command's terminal were typed"
	inputFailed   happening = "the rest of the input can't be sent"
	waitOver      happening = "a job that was told to end has had its time"
)

// event is one thing that a session is told.
type event struct {
	what happening
	// outcome is the attempt's, or the run's. That of jobOver is nil if the end is not known: err says why.
	outcome *job.Outcome
	err     error
	signal  os.Signal // that came
}

// step is what a session does about an event.
type step string

// The session goes on after these.
const (
	ignoreIt    step = "ignore it"
	awaitJob    step = "wait for the job, which says whether another attempt follows"
	awaitPod    step = "wait for the Pod, whose status names the cause"
	endRun      step = "wait for the rest of the output"
	sayRefused  step = "say that the certificates are refused"
	awaitSignal step = "wait for the Ctrl-C that may have ended the reader"
	passOn      step = "pass it on to the command"
	sayNoTunnel step = "say that it can't be passed on"
	sayNotYet   step = "say that there is no command yet to pass it on to"
	stopJob     step = "ask the job to stop, and say so"
	stopUnread  step = "ask the job to stop, as SIGPIPE would"
	sayNoStop   step = "say that it can't be asked to stop"
	sayOver     step = "say that it is over"
	unhold      step = "prepare the job for the start"
	letStart    step = "let the start go on"
	sayHeld     step = "say what a start is held for"
	sayNoInput  step = "say that the input is sent from elsewhere"
	leaveInput  step = "tell the agent that no more input comes"
)

// The session ends with these. See endings.
const (
	finish          step = "tell the outcome"
	takeBack        step = "take the job back"
	removeUnstarted step = "remove a job that has not started, and fail"
	killHere        step = "kill a job of this machine"
	leaveJob        step = "leave the job"
	leaveOutput     step = "leave the rest of the output"
	leaveUnstored   step = "leave a job whose output can't be stored"
	leaveRefused    step = "leave a job whose agents' certificates are refused"
	leaveLost       step = "leave a job that can't be followed any more"
	leaveUnshown    step = "leave a job whose output can't be shown"
	leaveRest       step = "leave the rest of an output that can't be shown"
	leaveStopping   step = "leave a job that was asked to stop and still runs"
	leaveTerminal   step = "leave the job running, and its terminal to others"
	leaveTaken      step = "leave a job whose terminal somebody else has"
	leaveUnstopped  step = "leave a job that could not be asked to stop"
)

// standing is what a step depends on, beside the event.
type standing struct {
	attached   bool  // the job was there before us: it is not ours to stop
	here       bool  // it is of this machine, and can't go on without us
	fallback   bool  // there is no tunnel
	terminal   bool  // the command's terminal is shown here
	sends      bool  // we have the job's input
	retries    int32 // that the job has
	runs       bool  // the command does, or did
	started    bool  // it did by our word; one that is attached to counts as started
	over       bool  // the command has ended: there is still output to show
	warned     bool  // the next signal leaves, and that was said
	asked      bool  // a signal has asked us to end
	terminated bool  // the last of those was SIGTERM, whose sender sends no second
	stopped    bool  // we have asked the job to stop
	stopping   bool  // its agent says that the command was told to end
	cut        bool  // nothing can be done any more: our context has ended
}

// decide says what follows from an event.
func (s standing) decide(e event) step {
	switch e.what {
	case allShown:
		return finish
	case attemptEnded:
		if s.over {
			return ignoreIt
		}
		return afterExit(e.outcome, s.retries, s.stopped)
	case jobOver:
		if e.outcome == nil {
			return s.lost(e.err)
		}
		return endRun
	case patienceOver:
		return endRun
	case storeStuck:
		return leaveUnstored
	case agentRefused:
		if s.over {
			return ignoreIt
		}
		return sayRefused
	case meetingLost:
		return s.unmet(e.err)
	case displayBroken:
		return s.unshown(e.err)
	case readerGone:
		if s.attached || s.fallback {
			return leaveUnshown
		}
		return stopUnread // nobody reads on: the command is told, as it would be by SIGPIPE
	case signalCame:
		return s.react(e.signal)
	case waitOver:
		return s.waited()
	}
	return s.decideInput(e)
}

// decideInput says what follows from an event of the command's input.
func (s standing) decideInput(e event) step {
	switch e.what {
	case startHeld:
		if s.sends {
			return unhold
		}
		return sayHeld
	case mayStart:
		if e.err != nil {
			return s.lost(e.err)
		}
		return letStart
	case keysTyped:
		if s.over {
			return ignoreIt
		}
		return leaveTerminal
	case inputFailed:
		return s.unsent(e.err)
	}
	return ignoreIt // commandRuns: see standing.started
}

// unsent decides about input that can't be sent. A terminal that hangs up tells that by a signal too.
func (s standing) unsent(err error) step {
	refused := errors.Is(err, coordinator.ErrInputRefused)
	switch {
	case s.over, s.terminal && !refused:
		return ignoreIt
	case s.terminal:
		return leaveTaken
	case refused:
		return sayNoInput
	}
	return leaveInput
}

// lost decides about a run that fails for a reason other than its command. A job that has not started is removed.
func (s standing) lost(err error) step {
	if f, ok := errors.AsType[*job.Failure](err); ok && f.NeverStarted && !s.attached {
		return removeUnstarted // what was seen to run was not the command
	}
	if s.started {
		return leaveLost
	}
	return removeUnstarted
}

// unmet decides about a job whose agents can't be met any more. Where that is for their certificates, the command
// may run, and the job is not ours to remove. A run that is over goes on with what is stored, and one that is cut
// off is ended by the watching of its job.
func (s standing) unmet(err error) step {
	if s.over || s.cut {
		return ignoreIt
	}
	if _, refused := errors.AsType[*job.Failure](err); refused {
		return leaveRefused
	}
	return s.lost(err)
}

// unshown decides about output that can't be shown.
func (s standing) unshown(err error) step {
	gone := errors.Is(err, syscall.EPIPE)
	switch {
	case gone && (s.over || s.stopped):
		return ignoreIt // what remains is not wanted
	case s.over:
		return leaveRest
	case !gone:
		return leaveUnshown
	}
	return awaitSignal // a terminal's Ctrl-C goes to the reader as well, and it may be the first to end
}

// waited decides about a job that was told to end and has had its time.
func (s standing) waited() step {
	switch {
	case s.over && s.terminated:
		return leaveOutput
	case s.over:
		return ignoreIt // a person reads the rest
	case s.here:
		return killHere
	case s.stopping:
		return leaveStopping
	}
	return leaveUnstopped
}

// react decides about a signal. SIGQUIT and SIGABRT are for the command; without one they
// are like Ctrl-C.
func (s standing) react(sig os.Signal) step {
	_, forCommand := signals.PassedOn[sig]
	switch {
	case forCommand && !s.over && (s.runs || !signals.AsksToEnd(sig)):
		return s.passing()
	case !signals.AsksToEnd(sig):
		return ignoreIt
	case s.over:
		return s.reactOver(sig)
	case s.attached:
		return leaveJob
	case !s.runs:
		return takeBack
	case s.warned && s.here:
		return killHere
	case s.warned || sig == syscall.SIGHUP && !s.here:
		return leaveJob
	case s.fallback && sig == syscall.SIGTERM: // no second one comes
		return leaveJob
	case s.fallback:
		return sayNoStop
	}
	return stopJob
}

// passing decides about a signal that is for the command.
func (s standing) passing() step {
	switch {
	case s.fallback:
		return sayNoTunnel
	case !s.runs: // the agent would drop it, and tell nobody
		return sayNotYet
	}
	return passOn
}

// reactOver decides about a signal that asks us to end, while there is still output to show.
func (s standing) reactOver(sig os.Signal) step {
	if s.warned || s.attached || sig == syscall.SIGHUP {
		return leaveOutput
	}
	return sayOver
}

// parting is how a run ends that leaves its job at a signal: its exit code, and what it says. goesOn says what
// becomes of the job.
func (s standing) parting(sig os.Signal, name, goesOn string) (code int, text string) {
	switch {
	case s.attached:
		return signals.ExitCode(sig), goesOn
	case s.stopped:
		return job.ExitCancelled, fmt.Sprintf("job %s has been asked to stop and still runs", name)
	case sig == syscall.SIGHUP:
		return signals.ExitCode(sig), "hung up; " + goesOn
	case !s.asked:
		return job.ExitFailed, "without the tunnel it can't be asked to stop; " + goesOn
	}
	return job.ExitCancelled, goesOn
}
