package certs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Whenever a rotation is killed, what is left can be rotated on.
func TestRotateCrash(t *testing.T) {
	rotations := []struct {
		name  string
		files func(RotateOptions) ([]file, error)
		begun bool // the overlap is there beforehand
	}{
		{"Rotate", RotateOptions.leaves, false},
		{"RotateCA", RotateOptions.overlap, false},
		{"FinishCA", RotateOptions.finish, true},
	}
	begin := func(t *testing.T, begun bool) string {
		dir := generatedDir(t, GenerateOptions{})
		if begun {
			if _, err := RotateCA(RotateOptions{Dir: dir}); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	goOn := func(t *testing.T, dir string, overlap bool) {
		t.Helper()
		outgoing, err := Outgoing(dir)
		if err != nil || (len(outgoing) > 0) != overlap {
			t.Fatalf("Outgoing() = %d, %v, want an overlap: %v", len(outgoing), err, overlap)
		}
		inOrder(t, dir)
		next := []func(RotateOptions) ([]string, error){RotateCA, FinishCA, Rotate}
		if overlap {
			next = next[1:]
		}
		for i, rotate := range next {
			if _, err := rotate(RotateOptions{Dir: dir}); err != nil {
				t.Fatalf("%d: %v", i, err)
			}
			inOrder(t, dir)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != len(generated)+1 { // and the marker
			t.Errorf("left %v, %v", entries, err)
		}
	}
	for _, r := range rotations {
		t.Run(r.name+", before it counts", func(t *testing.T) {
			dir := begin(t, r.begun)
			if err := os.Mkdir(filepath.Join(dir, stagingDir), 0o700); err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Join(dir, stagingDir, "ca.crt"), []byte("half"))
			goOn(t, dir, r.begun)
		})
		for n := range 7 {
			t.Run(fmt.Sprintf("%s, after %d renames", r.name, n), func(t *testing.T) {
				dir := begin(t, r.begun)
				files, err := r.files(RotateOptions{Dir: dir})
				if err != nil {
					t.Fatal(err)
				}
				lock, err := lockDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				if err := stage(lock, dir, files); err != nil {
					t.Fatal(err)
				}
				lock.Close()
				for _, f := range files[:min(n, len(files))] {
					if err := os.Rename(filepath.Join(dir, pendingDir, f.name), filepath.Join(dir, f.name)); err != nil {
						t.Fatal(err)
					}
				}
				goOn(t, dir, r.name == "RotateCA")
			})
		}
	}
}

func TestRotateBusy(t *testing.T) {
	dir := generatedDir(t, GenerateOptions{})
	lock, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	opts := RotateOptions{Dir: dir}
	for name, rotate := range map[string]func(RotateOptions) ([]string, error){
		"Rotate": Rotate, "RotateCA": RotateCA, "FinishCA": FinishCA,
	} {
		if _, err := rotate(opts); !errors.Is(err, ErrBusy) {
			t.Errorf("%s: error is %v, want ErrBusy", name, err)
		}
	}
	if _, err := Generate(GenerateOptions{Dir: dir, Force: true}); !errors.Is(err, ErrBusy) {
		t.Errorf("Generate: error is %v, want ErrBusy", err)
	}
	lock.Close()
	if _, err := Rotate(opts); err != nil {
		t.Error(err)
	}
}

// Who could read a file reads the one that replaces it.
func TestRotateKeepsModes(t *testing.T) {
	dir := generatedDir(t, GenerateOptions{})
	modes := map[string][2]fs.FileMode{ // before and after
		"server.key": {0o640, 0o640}, "server.crt": {0o640, 0o640}, "client.key": {0o644, 0o600}, "client.crt": {0o644, 0o644},
	}
	root := os.Geteuid() == 0
	for name, mode := range modes {
		path := filepath.Join(dir, name)
		if err := os.Chmod(path, mode[0]); err != nil {
			t.Fatal(err)
		}
		if root {
			if err := os.Chown(path, 1000, 1001); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := Rotate(RotateOptions{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	for name, mode := range modes {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != mode[1] {
			t.Errorf("%s: mode %v, want %v", name, info.Mode(), mode[1])
		}
		if owner := info.Sys().(*syscall.Stat_t); root && (owner.Uid != 1000 || owner.Gid != 1001) {
			t.Errorf("%s: owner %d:%d, want 1000:1001", name, owner.Uid, owner.Gid)
		}
	}
}

// No reader waits for a pipe that is in a file's place, or fills the memory.
func TestNotAFile(t *testing.T) {
	for _, name := range generated {
		for kind, put := range map[string]func(path string) error{
			"pipe": func(path string) error { return syscall.Mkfifo(path, 0o600) },
			"long": func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40)) },
		} {
			dir := generatedDir(t, GenerateOptions{})
			path := filepath.Join(dir, name)
			if err := errors.Join(os.Remove(path), put(path)); err != nil {
				t.Fatal(err)
			}
			authority := filepath.Join(dir, "ca.crt")
			read := map[string]func() error{
				"ca.crt":     func() error { _, err := loadRoots(authority, time.Now()); return err },
				"ca.key":     func() error { _, err := LoadAuthority(dir); return err },
				"server.crt": func() error { _, err := Rotate(RotateOptions{Dir: dir}); return err },
				"client.crt": func() error { _, err := Rotate(RotateOptions{Dir: dir}); return err },
				"server.key": func() error { return CheckPair(filepath.Join(dir, "server.crt"), path, time.Now()) },
				"client.key": func() error { return CheckPair(filepath.Join(dir, "client.crt"), path, time.Now()) },
			}[name]
			if err := read(); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s in place of %s: error is %v, want ErrMalformed", kind, name, err)
			}
		}
	}
}
