// Package check looks whether jobs can run: at a cluster, at what hodei install has made there, at
// certificates, and at the place for output on this machine. [OfCluster] makes all checks of a cluster at
// once; [Worker], [Certs] and [Store] look at this machine. The package changes nothing, asks nobody what
// to do, and shows nothing: a [Result] has words and a hint.
package check

import (
	"fmt"
	"slices"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// Result is one thing that was looked at.
type Result struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

// Status is how a check ended.
type Status string

// The ends of a check.
const (
	OK      Status = "ok"
	Warning Status = "warning"
	Error   Status = "error"
	Skipped Status = "skipped" // we may not look, or there is nothing to look at
)

// New returns the result of a check: its name, its end, what helps, and in words what was found.
func New(name string, status Status, hint, format string, args ...any) Result {
	return Result{Name: name, Status: status, Detail: ui.Printable(fmt.Sprintf(format, args...)), Hint: hint}
}

// Failed returns the result of a check that ended with an error. What we may not see is skipped.
func Failed(name string, err error) Result {
	f := kubernetes.Explain(err)
	if f.Cause == job.Forbidden {
		return New(name, Skipped, "", "%s", f.Message)
	}
	return New(name, Error, f.Hint, "%s", f.Message)
}

// Worst returns the first error among checks; nil: there is none.
func Worst(checks []Result) *Result {
	if i := slices.IndexFunc(checks, func(c Result) bool { return c.Status == Error }); i >= 0 {
		return &checks[i]
	}
	return nil
}
