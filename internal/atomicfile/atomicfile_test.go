package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, data := range []string{"first", "longer than the first", "", "last"} {
		// As a crash leaves it.
		if err := os.WriteFile(path+suffix, []byte("half of what was to be written, or more than that"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Write(path, []byte(data)); err != nil {
			t.Fatal(err)
		}
		expect(t, path, data)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("got %v, %v, want mode 0600", info.Mode(), err)
	}
}

func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	if err := Write(filepath.Join(dir, "none", "file"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a directory: %v", err)
	}
	taken := filepath.Join(dir, "taken")
	if err := os.Mkdir(taken, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Write(taken, []byte("data")); err == nil {
		t.Error("a directory was replaced")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("got %v, %v, want nothing left behind", entries, err)
	}
}

func TestWriteWhen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := Write(path, []byte("before")); err != nil {
		t.Fatal(err)
	}
	refusal := errors.New("not now")
	err := WriteWhen(path, []byte("after"), func(func() error) error {
		expect(t, path+suffix, "after")
		return refusal
	})
	if !errors.Is(err, refusal) {
		t.Errorf("got %v, want what when has returned", err)
	}
	expect(t, path, "before")
	err = WriteWhen(path, []byte("after"), func(rename func() error) error {
		expect(t, path, "before")
		return rename()
	})
	if err != nil {
		t.Error(err)
	}
	expect(t, path, "after")
}

// expect checks that the file at path holds want.
func expect(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s: got %q, %v, want %q", filepath.Base(path), got, err, want)
	}
}
