package selection

import (
	"sync"

	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// actAtOnce bounds the jobs that are acted on at a time: each may take a connection to its agent, and a job that takes
// long to end must not hold up the others for ever.
const actAtOnce = 16

// Each calls act for each job, for up to 16 jobs at a time, and waits for all. It calls fail with each error, one call
// at a time, as soon as there is one, and returns how many there were.
func Each(jobs []*kubernetes.Found, act func(*kubernetes.Found) error, fail func(error)) (failed int) {
	places := make(chan struct{}, actAtOnce)
	var work sync.WaitGroup
	var mu sync.Mutex
	for _, j := range jobs {
		places <- struct{}{}
		work.Go(func() {
			defer func() { <-places }()
			if err := act(j); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed++
				fail(err)
			}
		})
	}
	work.Wait()
	return failed
}
