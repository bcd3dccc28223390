// Package check finds out whether jobs can run. It looks at a cluster, at what hodei install has made there, at
// certificates, and at the place for output on this machine. Start with [OfCluster]: it checks all that a job needs in
// a cluster, and the methods of the [Cluster] that it returns check more; [Worker], [Certs] and [Store] check this
// machine. The package changes nothing and shows nothing: each check is a [Result] with words and a hint.
package check

import (
	"fmt"
	"slices"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// Result is what one check has found. Doctor and provider test print it with -o json.
type Result struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Detail string `json:"detail"`         // what was found, in words that are safe on a terminal
	Hint   string `json:"hint,omitempty"` // what to do; {hodei} in it is the program's name
}

// Status is how a check ended.
type Status string

// The ends of a check.
const (
	OK      Status = "ok"
	Warning Status = "warning" // jobs can run, but somebody should know
	Error   Status = "error"   // jobs can't run
	Skipped Status = "skipped" // we may not see it, or there is nothing to check
)

// New returns the result of a check. hint is what to do; format and args make its Detail.
func New(name string, status Status, hint, format string, args ...any) Result {
	return Result{Name: name, Status: status, Detail: ui.Printable(fmt.Sprintf(format, args...)), Hint: hint}
}

// Failed returns the result of a check that ended with an error of the cluster. If we may not see what it checks, the
// check counts as skipped.
func Failed(name string, err error) Result {
	f := kubernetes.Explain(err)
	if f.Cause == job.Forbidden {
		return New(name, Skipped, "", "%s", f.Message)
	}
	return New(name, Error, f.Hint, "%s", f.Message)
}

// Worst returns the first check that is an Error; nil: there is none.
func Worst(checks []Result) *Result {
	if i := slices.IndexFunc(checks, func(c Result) bool { return c.Status == Error }); i >= 0 {
		return &checks[i]
	}
	return nil
}
