package server

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/pkg/place"
)

// TestProbeFullDisk: a disk without room still gives the permission to write.
func TestProbeFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("no disk to fill: %v", err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	fill := os.WriteFile(filepath.Join(dir, "fill"), make([]byte, 1<<20), 0o600)
	if !errors.Is(fill, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", fill)
	}
	if err := place.Writable(dir); err != nil {
		t.Errorf("permission: %v", err)
	}
	if err := (&probe{dir: dir}).check(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("health of a full disk: %v", err)
	}
}
