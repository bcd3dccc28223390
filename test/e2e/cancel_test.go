package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestCancelAnyMoment: whenever a run is cancelled from elsewhere, it ends with 130, the command never ends by itself, and
// nothing is left after its TTL.
func TestCancelAnyMoment(t *testing.T) {
	t.Parallel()
	moments := 8
	if long {
		moments = 50
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for i := range moments {
		after := time.Duration(rnd.Int64N(int64(3 * time.Second)))
		t.Run(fmt.Sprintf("%d after %s", i, after.Round(time.Millisecond)), func(t *testing.T) {
			name := jobName(t)
			s := start(t, "run", "--name", name, "--ttl", "1s", "--", "sleep", "600")
			time.Sleep(after) // the moment is what is tested
			for {
				r := hodei(t, "cancel", name)
				if r.code == 0 {
					break
				}
				if !strings.Contains(r.stderr, "not found") { // it is about to be made
					t.Fatalf("cancel: %+v", r)
				}
			}
			if r := s.end(t); r.code != 130 {
				t.Errorf("exit code %d, want 130; stderr:\n%s", r.code, r.stderr)
			}
			nothingLeft(t, name)
		})
	}
}
