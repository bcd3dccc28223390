package wait

import (
	"context"
	"errors"
	"fmt"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// standing says whether a job, as it was found, has come so far as is waited for, or can't any more, and how that ends
// the wait for it.
func standing(found *kubernetes.Found, until string) (e end, over bool) {
	var last kubernetes.Attempt
	if n := len(found.Attempts); n > 0 {
		last = found.Attempts[n-1]
	}
	runs := last.Started && !last.Ended && !last.Left
	switch {
	case until == forRunning && runs:
		return end{how: "running"}, true
	case found.Finished:
		return ended(found.Spec.Name, found.Outcome, until), true
	case last.Left && last.Started && (found.Spec.Retries == 0 || last.LeftCode == 0): // no other attempt follows
		return ended(found.Spec.Name, exited(last.LeftCode), until), true
	}
	return end{}, false
}

// exited is the outcome of a command of which only the exit code is known.
func exited(code int) *job.Outcome {
	if code == 0 {
		return &job.Outcome{Cause: job.Completed}
	}
	return &job.Outcome{Cause: job.Error, Code: code}
}

// ended is the end of a wait for a job that has ended with o.
func ended(name string, o *job.Outcome, until string) end {
	if until == forRunning {
		return end{code: command.ExitFailed, err: &job.Hinted{
			Err:  fmt.Errorf("job %s does not run any more: %s", name, o.Summary()),
			Hint: "{hodei} describe " + name,
		}}
	}
	return end{code: o.ExitCode(), how: "ended: " + o.Summary()}
}

// await waits for one job.
func (o *Options) await(ctx context.Context, found *kubernetes.Found) end {
	e := o.follow(ctx, found)
	e.over = ctx.Err() == nil || e.err == nil && e.how != ""
	return e
}

// follow watches a job until it has come so far. When a command has ended and its agent still keeps the output, the
// watch tells so, and the job is looked at once more: its end need not wait for that agent.
func (o *Options) follow(ctx context.Context, found *kubernetes.Found) end {
	name, uid := found.Spec.Name, found.Job.UID
	looked := map[string]bool{} // attempts whose end was looked at
	for {
		if e, over := standing(found, o.For); over {
			return e
		}
		outcome, err := o.watch(ctx, found, looked)
		switch {
		case errors.Is(err, errRuns):
			return end{how: "running"}
		case outcome != nil:
			return ended(name, outcome, o.For)
		case !errors.Is(err, errLook):
			return failed(name, err)
		}
		again, err := kubernetes.Ask(ctx, true, o.Note, func(ctx context.Context) (*kubernetes.Found, error) {
			return o.Cluster.Find(ctx, name)
		})
		switch {
		case err != nil:
			return failed(name, err)
		case again.Job.UID != uid:
			return failed(name, fmt.Errorf("it was deleted, and another job has its name"))
		}
		found = again
	}
}

// failed is the end of a wait for a job of which no end is known.
func failed(name string, err error) end {
	return end{code: job.ExitFailed, err: &job.Hinted{Err: fmt.Errorf("job %s: %w", name, err), Hint: job.HintOf(err)}}
}

var (
	// errRuns ends a watch when the command runs, which was waited for.
	errRuns = errors.New("it runs")
	// errLook ends a watch when a command has ended whose agent still runs.
	errLook = errors.New("look how it ended")
)

// watch watches a job by what the API server says: to its end, or until it runs, or until the end of an attempt that is
// not in looked, to which it is added.
func (o *Options) watch(ctx context.Context, found *kubernetes.Found, looked map[string]bool) (*job.Outcome, error) {
	run, err := o.Cluster.Attach(ctx, found, kubernetes.RunOptions{NoTunnel: true})
	if err != nil {
		return nil, err
	}
	defer run.Close()
	watching, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	outcome, err := run.Watch(watching, job.Observer{
		Report: func(e job.Event) {
			switch {
			case e.Waiting:
				o.Note(fmt.Sprintf("job %s: %s", found.Spec.Name, e.Detail))
			case e.Phase == job.Running && o.For == forRunning:
				stop(errRuns)
			}
		},
		JobEnded: func(attempt, _ string) {
			if !looked[attempt] {
				looked[attempt] = true
				stop(errLook)
			}
		},
	})
	if outcome == nil && watching.Err() != nil {
		return nil, context.Cause(watching)
	}
	return outcome, err
}
