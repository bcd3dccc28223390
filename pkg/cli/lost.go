package cli

import (
	"errors"
	"fmt"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

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
