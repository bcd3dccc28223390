package setup

import (
	"fmt"
	"strings"

	"github.com/hodei-jobs/hodei/deploy"
)

// Line is an install as it was typed, for hints. Each of its texts begins with a
// space.
type Line struct {
	Dry    string // --diff or --dry-run=server
	Given  string // the choices
	Forced string // what is forced
	Caller string // who asks the cluster
	Force  bool   // conflicts are forced
}

// with returns the line with more flags. Each of them begins with a space.
func (l Line) with(more string) string {
	return "{hodei} install" + l.Dry + more + l.Given + l.Forced + l.Caller
}

// Hints returns the hints for an install that was typed like this.
func (l Line) Hints() Hints {
	hints := Hints{
		Again:           l.with(""),
		ByAdministrator: l.byAdministrator(),
		Conflict:        "to take it over: " + l.with(" --force-conflicts"),
	}
	if l.Dry == "" {
		hints.Conflict += "; what would change then: " + l.with(" --diff --force-conflicts")
	}
	if !strings.Contains(l.Given, " --profile=") {
		hints.Profile = "if it was installed with --profile, give it again"
	}
	return hints
}

// byAdministrator returns what somebody with more rights can type.
func (l Line) byAdministrator() string {
	theirs, force := l, ""
	theirs.Caller = ""
	hint := "an administrator can: " + theirs.with("")
	if l.Dry != "" {
		return hint
	}
	if l.Force {
		force = " --force-conflicts"
	}
	return hint + fmt.Sprintf(", or with kubectl alone: {hodei} install --dry-run=client -o yaml%s"+
		" | kubectl apply --server-side --field-manager=%s%s -f -", l.Given, FieldManager, force)
}

// PodSecurityHint returns what can be done about Pods that don't meet a standard.
func (l Line) PodSecurityHint(change PodSecurityChange) string {
	hint := "to go on all the same: " + l.with(" --force-pod-security")
	if change.Namespace == deploy.SystemNamespace {
		return hint
	}
	choice := "choose a namespace of its own with --workers-namespace"
	if change.Profile == deploy.ProfileRestricted {
		choice += ", or what they may meet with --profile=baseline"
	}
	return choice + "; " + hint
}
