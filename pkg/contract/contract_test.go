package contract

import "testing"

// TestFixed holds what running Jobs, their certificates and log stores already contain. All
// other code and tests use the constants, so a change of one of them would go unnoticed there.
func TestFixed(t *testing.T) {
	statuses := map[string][2]int{
		"never started": {ExitNeverStarted, 90}, "no eBPF": {ExitNoEBPF, 91}, "start timeout": {ExitStartTimeout, 92},
		"timeout": {ExitTimeout, 124}, "agent gone": {ExitAgentGone, 125}, "cannot run": {ExitCannotRun, 126},
		"not found": {ExitNotFound, 127}, "cancelled": {ExitCancelled, 130},
	}
	for name, s := range statuses {
		if s[0] != s[1] {
			t.Errorf("%s: exit status %d, want %d", name, s[0], s[1])
		}
	}
	words := [][2]string{
		{CauseCompleted, "Completed"}, {CauseError, "Error"}, {CauseSignaled, "Signaled"}, {CauseOOMKilled, "OOMKilled"},
		{CauseDeadlineExceeded, "DeadlineExceeded"}, {CauseCancelled, "Cancelled"}, {CauseInputLost, "InputLost"},
		{JobURI("jobs", "make-k3x9z"), "spiffe://hodei/ns/jobs/job/make-k3x9z"},
		{JobExecURI("jobs", "make-k3x9z"), "spiffe://hodei/ns/jobs/job/make-k3x9z/exec"},
		{OverflowBlock, "block"}, {OverflowDrop, "drop"}, {EBPFOff, "off"}, {EBPFAuto, "auto"}, {EBPFRequire, "require"},
		// A worker of another version looks for these.
		{EnvStdin, "HODEI_STDIN"}, {EnvTTY, "HODEI_TTY"}, {EnvExec, "HODEI_EXEC"},
		// The command sees these two.
		{EnvJob, "HODEI_JOB"}, {EnvAttempt, "HODEI_ATTEMPT"},
	}
	for _, w := range words {
		if w[0] != w[1] {
			t.Errorf("%q, want %q", w[0], w[1])
		}
	}
}
