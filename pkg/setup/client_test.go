package setup

import (
	"errors"
	"sync/atomic"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/hodei-jobs/hodei/pkg/setup/setuptest"
)

// client returns a client of an API server that answers like this.
func client(t *testing.T, server setuptest.Server) *Client {
	t.Helper()
	c, err := NewClient(t.Context(), &rest.Config{Host: server.Start(t)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestInParallel(t *testing.T) {
	var now, most, calls atomic.Int32
	full := make(chan struct{})
	failed := errors.New("one of them")
	err := inParallel(3*atOnce, func(i int) error {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n == atOnce && i < atOnce {
			close(full) // the first ones are all under way
		}
		<-full
		calls.Add(1)
		now.Add(-1)
		if i == 1 {
			return failed
		}
		return nil
	})
	if most.Load() != atOnce || calls.Load() != 3*atOnce || !errors.Is(err, failed) {
		t.Errorf("%d calls, %d at once, error %v", calls.Load(), most.Load(), err)
	}
}
