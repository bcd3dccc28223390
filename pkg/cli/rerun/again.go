package rerun

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// find returns what the earlier job asked for, all of it, and tells where it is from if that may surprise.
func (o *Options) find(ctx context.Context) (*job.Spec, error) {
	j, err := o.Finder.FindRun(ctx, o.JobName)
	if err != nil {
		return nil, err
	}
	// Of a cluster that can't be asked it is not known whether the job is there, and none can be made in it.
	if j.Found == nil && j.Absent != nil && !errors.Is(j.Absent, kubernetes.ErrNotFound) {
		return nil, j.Absent
	}
	old, err := o.Finder.SpecOf(j)
	switch {
	case err != nil:
		return nil, err
	case j.Found == nil:
		if err := o.checkValues(old); err != nil {
			return nil, err
		}
		return old, o.sayStored(j)
	case !j.Found.Finished && !o.Replace:
		return old, o.Note(fmt.Sprintf("job %s has not ended: this is another run beside it", j.Name))
	}
	return old, nil
}

// sayStored tells that a job is not in the cluster any more; one of this machine never was.
func (o *Options) sayStored(j *history.Job) error {
	if j.Absent == nil {
		return nil
	}
	return o.Note(fmt.Sprintf("job %s is not in the cluster any more: it is run as this machine has stored it", j.Name))
}

// checkValues returns an error if old has variables without a value that the command line does not give: those of a
// stored job are kept by name alone.
func (o *Options) checkValues(old *job.Spec) error {
	var unknown []string
	for _, v := range old.Env {
		if v.Value == "" && !slices.Contains(o.Given, v.Name) {
			unknown = append(unknown, v.Name)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	values := "the value of " + unknown[0] + " was"
	if len(unknown) > 1 {
		values = "the values of " + job.Words(unknown) + " were"
	}
	var flags strings.Builder
	for _, name := range unknown {
		flags.WriteString(" -e " + shell.Quote(name+"=VALUE"))
	}
	return &job.Hinted{
		Err:  fmt.Errorf("job %s can't be run as it was: %s not stored on this machine", old.Name, values),
		Hint: "give it: {hodei} rerun " + shell.Quote(o.JobName) + flags.String(),
	}
}

// again returns what a job that asked for old asks for in another run: all that is about its command, and nothing that
// came of how it was followed. The new job has no name yet. Defaults that old has by itself may be set again.
func again(old *job.Spec) *job.Spec {
	spec := *old
	spec.Name, spec.Detached, spec.EndCopied = "", false, false
	if old.Detached { // detached, it is copied by default
		spec.ContainerLogs = false
	}
	switch old.Linger {
	case job.DefaultLinger:
		spec.Linger = 0
	case job.UnfollowedLinger:
		spec.Linger, spec.LogOverflow = 0, ""
	}
	return &spec
}

// ruledOut reports whether somebody did not want the output of a job in its container's log: detached, it is there by
// default.
func ruledOut(old *job.Spec) bool { return old.Detached && !old.ContainerLogs }
