package jobs

import (
	"fmt"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/place"
)

// unknownExit stands in a job's row where nobody knows its exit code.
const unknownExit = "<none>"

// storedExits fills in the exit codes that this machine has stored, for jobs that are over and
// whose Pods are gone. It opens the store only for such jobs.
func (o *Options) storedExits(jobs []batchv1.Job, rows []metav1.TableRow, pods map[types.NamespacedName]*corev1.Pod) {
	var store *place.Store
	for i := range jobs {
		j := &jobs[i]
		if rows[i].Cells[exitColumn] != unknownExit || pods[jobName(j)] != nil || !isOver(j) {
			continue
		}
		if store == nil {
			var err error
			if store, err = o.openStore(); err != nil {
				return // which is no reason to show no jobs
			}
			defer store.Close(func(text string) { fmt.Fprintln(o.ErrOut, text) })
		}
		if end := history.StoredEnd(store.Store, j); end != nil {
			rows[i].Cells[exitColumn] = strconv.Itoa(end.ExitCode())
		}
	}
}

// isOver tells that a job is, by its own conditions.
func isOver(j *batchv1.Job) bool {
	for _, c := range j.Status.Conditions {
		if c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) {
			return true
		}
	}
	return false
}
