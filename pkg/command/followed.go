package command

import (
	"slices"

	"github.com/hodei-jobs/hodei/pkg/session"
)

// Followed gives f what it needs of a command.
func (a *Env) Followed(f session.Config) *session.Config {
	f.Again, f.Streams, f.Named, f.Hear, f.Afterwards = a.runAgain, a.Streams, a.Named, a.Signals.Hear, a.afterwards
	return &f
}

// runAgain returns the command line that ran the job, without -- and the command; empty if this process has not run it.
func (a *Env) runAgain() string {
	if i := slices.Index(a.Args, "--"); i > 0 && a.Args[0] == "run" {
		return (&TypedLine{Env: a}).Retyped(i, len(a.Args)-i, "{hodei} run")
	}
	return ""
}
