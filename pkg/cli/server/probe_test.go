package server

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// TestProbe: what permission alone would not show, and no more writes than one in a while.
func TestProbe(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p := &probe{dir: dir}
		if err := p.check(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
		// A file where there was a directory takes nothing, from root neither.
		p.dir = filepath.Join(dir, "gone")
		if err := p.check(); err != nil {
			t.Errorf("looked again at once: %v", err)
		}
		time.Sleep(probeEvery)
		if err := p.check(); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("without the directory: %v", err)
		}
		p.dir = dir
		time.Sleep(probeEvery)
		if err := p.check(); err != nil {
			t.Errorf("with the directory again: %v", err)
		}
	})
}
