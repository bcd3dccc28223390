package command

import (
	"slices"

	"github.com/hodei-jobs/hodei/pkg/signals"
)

// Afterwards has f done once the command's end is shown, which does not wait for it; the exit code does, so f takes 2 s
// at most. A signal that comes before f is done does not end the process.
func (a *Env) Afterwards(f func()) {
	_, release := a.Signals.Hear(signals.Ending...)
	a.afterwards(func() {
		defer release()
		f()
	})
}

// RunAgain returns the command line that ran the job, without -- and the command; empty if this process has not run it.
func (a *Env) RunAgain() string {
	if i := slices.Index(a.Args, "--"); i > 0 && a.Args[0] == "run" {
		return (&TypedLine{Env: a}).Retyped(i, len(a.Args)-i, "{hodei} run")
	}
	return ""
}
