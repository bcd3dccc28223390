package logstore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mount a small disk: %v", err)
		}
		t.Skipf("no small disk can be mounted (needs CAP_SYS_ADMIN): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := testStore(t, filepath.Join(dir, "store"), Limits{}, 0)
	l := mustCreate(t, s, testKey, 0)
	f := newFeed(l)
	batch := out{stream: stdout, text: strings.Repeat("all lines look the same\n", 4000)}
	var err error
	for range 100 {
		if err = f.try(t, batch); err != nil {
			break
		}
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	if _, end := l.Extent(); end != f.end {
		t.Errorf("extent ends at %d, stored %d", end, f.end)
	}
	f.check(t, mustCollect(t, mustRead(t, s, testKey), 0), 0)
	f.add(t, out{stream: stderr, text: "a little still fits"})
	if err := f.try(t, batch); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=2m"); err != nil {
		t.Fatal(err)
	}
	f.add(t, batch)
	if err := l.SetExit(exitAt(f.end)); err != nil {
		t.Error(err)
	}
	f.check(t, mustCollect(t, l, 0), 0)
}
