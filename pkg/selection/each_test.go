package selection

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// Jobs are acted on at the same time, but not all; an error of one keeps no other from it.
func TestEach(t *testing.T) {
	var jobs []*kubernetes.Found
	for i := range 2 * actAtOnce {
		jobs = append(jobs, foundJob(fmt.Sprint(i)))
	}
	full := make(chan struct{})
	fill := sync.OnceFunc(func() { close(full) })
	var acted, now, most atomic.Int32
	act := func(j *kubernetes.Found) error {
		acted.Add(1)
		if n := now.Add(1); n == actAtOnce {
			most.Store(n)
			fill()
		} else if n > actAtOnce {
			most.Store(n)
		}
		defer now.Add(-1)
		<-full
		if j.Spec.Name == "3" || j.Spec.Name == "30" {
			return errors.New(j.Spec.Name)
		}
		return nil
	}
	told := map[string]bool{} // fail needs no lock
	failed := Each(jobs, act, func(err error) { told[err.Error()] = true })
	if failed != 2 || !told["3"] || !told["30"] || len(told) != 2 {
		t.Errorf("%d failed, told %v", failed, told)
	}
	if acted.Load() != 2*actAtOnce || most.Load() != actAtOnce {
		t.Errorf("acted on %d jobs, %d at once", acted.Load(), most.Load())
	}
}
