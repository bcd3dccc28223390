package jobs

import (
	"errors"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/place"
)

// The store of this machine says how a job ended whose Pod is gone, if the job had but one.
func TestStoredExits(t *testing.T) {
	state := t.TempDir()
	home := &place.Home{Getenv: func(name string) string { return map[string]string{"XDG_STATE_HOME": state}[name] }}
	o := &Options{openStore: func() (*place.Store, error) { return home.OpenStore(false) }}
	store, err := o.openStore()
	if err != nil {
		t.Fatal(err)
	}
	for _, attempt := range []struct{ job, uid, name string }{{"x", "1", "x-1"}, {"x", "0", "x-0"}, {"two", "2", "two-1"}} {
		key := logstore.Key{
			Namespace: "ns", Job: attempt.job, JobUID: attempt.uid, Attempt: attempt.name, AttemptUID: attempt.name,
		}
		log, err := store.Create(key, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(log.SetExit(&hodeipb.ExitRecord{Cause: "Error", Code: 7}), log.Close()); err != nil {
			t.Fatal(err)
		}
	}
	over := batchv1.JobStatus{Failed: 1, Conditions: []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue}}}
	more := over
	more.Failed = 2
	for _, test := range []struct {
		name   string
		job    string
		uid    string
		status batchv1.JobStatus
		pod    bool
		want   string
	}{
		{"stored", "x", "1", over, false, "7"},
		{"another job of the name", "x", "9", over, false, ""},
		{"its Pod is there", "x", "1", over, true, ""},
		{"it runs", "x", "1", batchv1.JobStatus{}, false, ""},
		{"one of two is stored", "two", "2", more, false, ""},
		{"nothing is", "y", "1", over, false, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: test.job, UID: types.UID(test.uid)}, Status: test.status}
			rows := []row{{job: &j}}
			if test.pod {
				rows[0].pod = &corev1.Pod{}
			}
			o.addStoredExits(rows)
			if got := rows[0].exit; got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
