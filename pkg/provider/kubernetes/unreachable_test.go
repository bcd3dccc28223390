package kubernetes

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestTried tells of refusals that have come for a while with nothing between them.
func TestTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Run{updates: make(chan any, 1)} // which meets its first agent

		tried := r.tried(t.Context(), "x-1")
		for _, step := range []struct {
			after time.Duration
			err   error
			want  bool
		}{
			{0, nodeRefuses.refusal, false}, {unreachedWait - 1, nodeRefuses.refusal, false}, {1, nodeRefuses.refusal, true},
			{1, nodeRefuses.refusal, true},
			{1, nil, false}, {1, nodeRefuses.refusal, false}, {unreachedWait, nodeRefuses.refusal, true},
		} {
			time.Sleep(step.after)
			tried(step.err)
			if said := len(r.updates) == 1; said != step.want {
				t.Errorf("after %s, %v: told %t, want %t", step.after, step.err, said, step.want)
			}
			if step.want {
				if got := <-r.updates; got != nodeRefuses {
					t.Errorf("told %v", got)
				}
			}
		}
	})
}
