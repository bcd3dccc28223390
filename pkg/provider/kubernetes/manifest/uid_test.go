package manifest

import (
	"fmt"
	"testing"
)

// TestOwnUID: the uids are in the range that docs/security.md names, the same one each
// time, and mostly a job's own. Changing them changes who owns the files in volumes.
func TestOwnUID(t *testing.T) {
	if got := ownUID("hodei-jobs-workers", "make-k3x9z"); got != 1840773 {
		t.Errorf("a job's uid is %d, and was another", got)
	}
	if ownUID("a", "b-c") == ownUID("a-b", "c") {
		t.Error("two jobs have one uid")
	}
	seen := map[int64]bool{}
	const jobs = 10_000
	for i := range jobs {
		uid := ownUID("ns", fmt.Sprint("job-", i))
		if seen[uid] = true; uid < 1048576 || uid > 2097151 {
			t.Fatalf("uid %d", uid)
		}
	}
	// Of ten thousand in a million some fifty meet.
	if len(seen) < jobs-150 {
		t.Errorf("%d uids of %d jobs", len(seen), jobs)
	}
}
