package faults

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDiskFull holds that what the spool's disk could take is a prefix of each
// stream, and that the exit record counts the rest.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	a := newAttempt(t)
	if err := os.Mkdir(a.spoolDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", a.spoolDir, "tmpfs", 0, "size=4m"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mount a small file system: %v", err)
		}
		t.Skipf("a small file system can't be mounted (needs CAP_SYS_ADMIN): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(a.spoolDir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	a.startAgent()
	f := newFollower()
	a.attach(f, false)
	p := pattern{"both", 16 << 20}
	a.launch(prints, p)
	r := f.exited(t)
	a.ends()
	ends := f.exact(t, p, false)
	if printed := ends[stdout] + ends[stderr]; f.gaps > 0 || r.End < 3<<20 || r.End > 4<<20 || r.End+r.Lost != printed {
		t.Errorf("%d gaps; stored up to %d, lost %d, printed were %d", f.gaps, r.End, r.Lost, printed)
	}
	if r.Code != 0 || !strings.Contains(r.Message, "no space left on device") {
		t.Errorf("exit record %v", r)
	}
	t.Logf("%d bytes stored, %d declared lost", r.End, r.Lost)
}
