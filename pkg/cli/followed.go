package cli

import (
	"slices"

	"github.com/hodei-jobs/hodei/pkg/session"
)

// followed gives f what it needs of a command.
func (a *app) followed(f session.Config) *session.Config {
	f.Again, f.Streams, f.Named, f.Hear, f.Afterwards = a.runAgain, a.streams, a.named, a.signals.Hear, a.afterwards
	return &f
}

// runAgain returns the command line that ran the job, without -- and the command; empty if this process has not run it.
func (a *app) runAgain() string {
	if i := slices.Index(a.args, "--"); i > 0 && a.args[0] == "run" {
		return (&typedLine{app: a}).retyped(i, len(a.args)-i, "{hodei} run")
	}
	return ""
}
