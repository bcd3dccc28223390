// Package selection finds the jobs in a cluster that a command was told to act on: jobs with certain names, jobs with
// certain labels, or all jobs of the namespace. Start with [Finder.Find].
//
// The package does nothing to the jobs, and looks for none outside the cluster: package history knows those that are
// stored on this machine.
package selection

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// findAtOnce bounds the requests for named jobs that are under way at a time. Each name takes two requests of some
// 10 ms, so that 100 names take a fourth of a second; more at once would only wait for the client's rate limit.
const findAtOnce = 8

// Selection says which jobs are meant: those called Names, those that Labels choose, or all of the namespace. One of
// the three is set.
type Selection struct {
	// Names are in the order in which they were typed, each once.
	Names []string
	// Labels is a label selector in kubectl's syntax.
	Labels string
	All    bool
}

// Cluster is where jobs are looked for. A kubernetes.Provider is one.
type Cluster interface {
	Find(ctx context.Context, name string) (*kubernetes.Found, error)
	FindAll(ctx context.Context, selector string) ([]*kubernetes.Found, error)
}

// Finder looks for selected jobs. Cluster is required.
type Finder struct {
	Cluster Cluster
	// Patient waits for a cluster that does not answer, for up to kubernetes.FirstWait. Note, which it requires, is
	// told so in a line, perhaps by several goroutines at a time.
	Patient bool
	Note    func(text string)
}

// Find returns the selected jobs: named ones in the order of their names, others in the order in which they were made.
// For each name without a job of hodei's there is an error in missing, in the same order. If the cluster can't be asked
// at all, that is err alone. It is no error that Labels choose no job, or that there is none.
func (f *Finder) Find(ctx context.Context, s Selection) (found []*kubernetes.Found, missing []error, err error) {
	if len(s.Names) == 0 {
		found, err = kubernetes.Ask(ctx, f.Patient, f.Note, func(ctx context.Context) ([]*kubernetes.Found, error) {
			return f.Cluster.FindAll(ctx, s.Labels)
		})
		return found, nil, err
	}
	answers := f.ask(ctx, s.Names)
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	return divide(s.Names, answers)
}

// answer is what the cluster says about one name.
type answer struct {
	found *kubernetes.Found
	err   error
}

// ask asks for each of the names.
func (f *Finder) ask(ctx context.Context, names []string) []answer {
	answers := make([]answer, len(names))
	places := make(chan struct{}, findAtOnce)
	var work sync.WaitGroup
	for i, name := range names {
		places <- struct{}{}
		work.Go(func() {
			defer func() { <-places }()
			a := &answers[i]
			a.found, a.err = kubernetes.Ask(ctx, f.Patient, f.Note, func(ctx context.Context) (*kubernetes.Found, error) {
				return f.Cluster.Find(ctx, name)
			})
		})
	}
	work.Wait()
	return answers
}

// divide tells jobs from names without one, and both from a cluster that has answered nothing.
func divide(names []string, answers []answer) (found []*kubernetes.Found, missing []error, err error) {
	answered := false
	for i, a := range answers {
		switch {
		case a.err == nil:
			found, answered = append(found, a.found), true
		case isOfName(a.err):
			missing, answered = append(missing, a.err), true
		default:
			missing = append(missing, named(names[i], a.err))
		}
	}
	if !answered {
		return nil, nil, answers[0].err
	}
	return found, missing, nil
}

// isOfName reports whether err is about the job of one name, and names it: there is none, or hodei has not made it.
func isOfName(err error) bool {
	_, failure := errors.AsType[*job.Failure](err)
	return !failure || errors.Is(err, kubernetes.ErrNotFound)
}

// named adds the job's name to an error that does not have it.
func named(name string, err error) error {
	return &job.Hinted{Err: fmt.Errorf("job %q: %w", name, err), Hint: job.HintOf(err)}
}
