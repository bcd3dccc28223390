package jobs

import (
	"fmt"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/place"
)

// addStoredExits adds the exit codes that this machine has stored, for jobs that are over and whose Pods are gone. It
// opens the store only if there are such jobs.
func (o *Options) addStoredExits(rows []row) {
	var store *place.Store
	for i := range rows {
		r := &rows[i]
		if r.exit != "" || r.pod != nil || !isOver(r.job) {
			continue
		}
		if store == nil {
			var err error
			if store, err = o.openStore(); err != nil {
				return // the jobs are shown without
			}
			defer store.Close(func(text string) { fmt.Fprintln(o.ErrOut, text) })
		}
		if end := history.StoredEnd(store.Store, r.job); end != nil {
			r.exit = strconv.Itoa(end.ExitCode())
		}
	}
}

// isOver reports whether a job has ended, by its own conditions.
func isOver(j *batchv1.Job) bool {
	for _, c := range j.Status.Conditions {
		if c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) {
			return true
		}
	}
	return false
}
