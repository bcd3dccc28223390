package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hodei-jobs/hodei/agent/agenttest"
)

func TestCopy(t *testing.T) {
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	names := func(dir string) []string {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, e := range entries {
			all = append(all, e.Name())
		}
		return all
	}
	t.Run("copies", func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "launcher")
		for range 2 { // over an earlier one, which may be running
			if err := Copy(path); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(path)
			if err != nil || info.Mode() != 0o555 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			got, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(got, exe) {
				t.Errorf("%d bytes of %d, %v", len(got), len(exe), err)
			}
			if all := names(dir); len(all) != 1 {
				t.Errorf("there are %v", all)
			}
		}
		start(t, nil, path, "test-copy", filepath.Join(dir, "again")).exits(t, 0)
	})
	t.Run("no directory", func(t *testing.T) {
		if err := Copy(filepath.Join(t.TempDir(), "no", "launcher")); !os.IsNotExist(err) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a directory in its place", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "launcher"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := Copy(filepath.Join(dir, "launcher")); err == nil {
			t.Error("no error")
		}
		if all := names(dir); len(all) != 1 {
			t.Errorf("there are %v", all)
		}
	})
	t.Run("no room", func(t *testing.T) {
		dir := t.TempDir()
		p := start(t, nil, self("test-copy", filepath.Join(dir, "launcher"), "100000")...)
		p.exits(t, 1)
		if !strings.Contains(p.stderr.String(), "file too large") {
			t.Errorf("error %q", p.stderr.String())
		}
		if all := names(dir); len(all) > 0 {
			t.Errorf("there are %v", all)
		}
	})
	t.Run("full disk", func(t *testing.T) {
		dir := agenttest.SmallDisk(t)
		if err := Copy(filepath.Join(dir, "launcher")); err == nil || !strings.Contains(err.Error(), "no space left on device") {
			t.Errorf("error %v", err)
		}
		if all := names(dir); len(all) > 0 {
			t.Errorf("there are %v", all)
		}
	})
	t.Run("never seen in part", func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "launcher")
		done := make(chan error, 1)
		go func() { done <- Copy(path) }()
		for {
			info, err := os.Stat(path)
			if err == nil && (info.Size() != int64(len(exe)) || info.Mode() != 0o555) {
				t.Fatalf("seen with %d bytes of %d, mode %v", info.Size(), len(exe), info.Mode())
			}
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
				return
			default:
			}
		}
	})
}
