package agent

import (
	"os"
	"strings"
	"testing"
)

// TestOpenCgroupOutside: a launcher that is not process 1 shares its cgroup with
// others, whose figures are not the command's.
func TestOpenCgroupOutside(t *testing.T) {
	if os.Getpid() == 1 {
		t.Skip("the test is process 1 itself")
	}
	dir, err := openCgroup()
	if err == nil {
		dir.Close()
		t.Fatal("a cgroup was opened")
	}
	if want := "not in a container"; !strings.Contains(err.Error(), want) {
		t.Errorf("openCgroup() = %v, want %q", err, want)
	}
}
