package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// findEvery is the time between two tries to reach a cluster that does not answer.
const findEvery = 2 * time.Second

// asking asks a cluster, patiently if that is wanted.
func asking[T any](ctx context.Context, patient bool, note func(string), ask func(context.Context) (T, error)) (T, error) {
	if patient {
		return patiently(ctx, note, ask)
	}
	return ask(ctx)
}

// patiently asks a cluster for what a command is to follow. While the cluster does not answer
// it asks again, for kubernetes.FirstWait. A refusal is an answer.
func patiently[T any](ctx context.Context, note func(string), ask func(context.Context) (T, error)) (T, error) {
	began, said := time.Now(), false
	for {
		found, err := ask(ctx)
		if ctx.Err() != nil || !kubernetes.Unanswered(err) || time.Since(began) >= kubernetes.FirstWait {
			return found, err
		}
		if !said {
			note(fmt.Sprintf("%s; waiting for up to %s", kubernetes.Explain(err).Message, kubernetes.FirstWait))
			said = true
		}
		select {
		case <-time.After(findEvery):
		case <-ctx.Done():
		}
	}
}

// comeBack returns the hint for somebody who lost the cluster while the job runs; command is
// what to type.
func comeBack(err error, command string) string {
	if f, ok := errors.AsType[*job.Failure](err); ok && f.Cause == job.Forbidden {
		return "log in anew, or get the right back, then: " + command
	}
	return command
}

// outOfReach completes an error of the following of a job, by command, whose cluster was
// lost on the way: the job does not end with us.
func outOfReach(err error, name, command string) error {
	if !errors.Is(err, kubernetes.ErrLost) {
		return err
	}
	return &job.Hinted{Err: fmt.Errorf("%w; job %s goes on", err, name), Hint: comeBack(err, command)}
}
