package launcher

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/pkg/contract"
)

func TestMessageIsCut(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		fill func(f *os.File) error
		want int64
	}{
		{"empty", func(*os.File) error { return nil }, 0},
		{"short", func(f *os.File) error { _, err := f.Write(make([]byte, contract.MessageBytes)); return err }, contract.MessageBytes},
		{"long", func(f *os.File) error { _, err := f.Write(make([]byte, 4<<20)); return err }, contract.MessageBytes},
		{"far out", func(f *os.File) error {
			_, err := f.WriteAt([]byte("x"), 1<<40)
			return err
		}, contract.MessageBytes},
		{"allocated beyond its end", func(f *os.File) error {
			if _, err := f.Write([]byte("why")); err != nil {
				return err
			}
			return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 4<<20)
		}, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "message")
			if err := os.WriteFile(path, nil, 0o666); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := test.fill(f); errors.Is(err, unix.EOPNOTSUPP) {
				t.Skip("this file system has no fallocate")
			} else if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time there is nothing to do
				if err := cut(f); err != nil {
					t.Fatal(err)
				}
			}
			var s unix.Stat_t
			if err := unix.Fstat(int(f.Fd()), &s); err != nil {
				t.Fatal(err)
			}
			if s.Size != test.want || s.Blocks*512 > contract.MessageBytes+allocatedBytes {
				t.Errorf("%d bytes, %d allocated; want %d", s.Size, s.Blocks*512, test.want)
			}
		})
	}
}

// TestKeepShort cuts while the job runs and once more at the end, and keeps the
// beginning.
func TestKeepShort(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "message")
	if _, err := keepShort(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	text := append([]byte("out of cheese"), make([]byte, contract.MessageBytes)...)
	fill := func(t *testing.T) {
		if err := os.WriteFile(path, text, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	isCut := func(t *testing.T) {
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, text[:contract.MessageBytes]) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
	fill(t)
	synctest.Test(t, func(t *testing.T) {
		stop, err := keepShort(path)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(messageEvery)
		synctest.Wait()
		isCut(t)
		fill(t)
		stop()
		isCut(t)
	})
}
