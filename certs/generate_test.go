package certs

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

var generated = []string{"ca.crt", "ca.key", "server.crt", "server.key", "client.crt", "client.key"}

// snapshot is every file of a directory with its contents.
func snapshot(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		files[e.Name()] = data
	}
	return files
}

func TestGenerate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "certs")
	paths, err := Generate(GenerateOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, name := range generated {
		want = append(want, filepath.Join(dir, name))
	}
	if !slices.Equal(paths, want) {
		t.Errorf("paths are %q, want %q", paths, want)
	}
	if files := snapshot(t, dir); len(files) != len(want)+1 { // and the marker
		t.Errorf("%d files in the directory, want %d", len(files), len(want)+1)
	}
	for path, mode := range map[string]fs.FileMode{
		dir:     fs.ModeDir | 0o700,
		want[0]: 0o644, want[2]: 0o644, want[4]: 0o644,
		want[1]: 0o600, want[3]: 0o600, want[5]: 0o600,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != mode {
			t.Errorf("mode of %s is %v, want %v", path, info.Mode(), mode)
		}
	}

	a, err := LoadAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"server", "client"} {
		certPath := filepath.Join(dir, name+".crt")
		if err := CheckPair(certPath, filepath.Join(dir, name+".key"), time.Now()); err != nil {
			t.Error(err)
		}
		cert := parseCert(t, snapshot(t, dir)[name+".crt"])
		if err := cert.CheckSignatureFrom(a.Cert); err != nil {
			t.Errorf("%s: %v", certPath, err)
		}
	}
}

func TestGenerateOptions(t *testing.T) {
	dir := t.TempDir()
	if _, err := Generate(GenerateOptions{Dir: dir, SANs: []string{"hodei.example", "10.0.0.1"}, Validity: time.Hour}); err != nil {
		t.Fatal(err)
	}
	files := snapshot(t, dir)
	cert := parseCert(t, files["server.crt"])
	if !slices.Equal(cert.DNSNames, []string{"hodei.example"}) || len(cert.IPAddresses) != 1 {
		t.Errorf("SANs are %q and %v", cert.DNSNames, cert.IPAddresses)
	}
	for _, name := range []string{"ca.crt", "server.crt", "client.crt"} {
		if end := parseCert(t, files[name]).NotAfter; end.After(time.Now().Add(time.Hour)) {
			t.Errorf("%s ends at %v, want within the hour", name, end)
		}
	}
}

func TestGenerateRefuses(t *testing.T) {
	tests := []struct {
		name string
		opts GenerateOptions
	}{
		{"bad name", GenerateOptions{SANs: []string{"not a name"}}},
		{"negative validity", GenerateOptions{Validity: -time.Hour}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.opts.Dir = filepath.Join(t.TempDir(), "certs")
			if _, err := Generate(tt.opts); err == nil {
				t.Error("no error")
			}
			if _, err := os.Stat(tt.opts.Dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("directory was made: %v", err)
			}
		})
	}
	if _, err := Generate(GenerateOptions{}); err == nil {
		t.Error("no directory: no error")
	}
}

func TestGenerateKeepsFiles(t *testing.T) {
	for _, name := range generated {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeFile(t, filepath.Join(dir, name), []byte("precious"))
			_, err := Generate(GenerateOptions{Dir: dir})
			var fe *FileError
			if !errors.Is(err, ErrExists) || !errors.As(err, &fe) || fe.Path != filepath.Join(dir, name) {
				t.Errorf("error is %v, want ErrExists of %s", err, name)
			}
			if files := snapshot(t, dir); len(files) != 1 || string(files[name]) != "precious" {
				t.Errorf("directory was changed: %q", files)
			}
		})
	}
	t.Run("first of two", func(t *testing.T) {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "client.key"), nil)
		writeFile(t, filepath.Join(dir, "ca.key"), nil)
		var fe *FileError
		if _, err := Generate(GenerateOptions{Dir: dir}); !errors.As(err, &fe) || fe.Path != filepath.Join(dir, "ca.key") {
			t.Errorf("error is %v, want that of ca.key", err)
		}
	})
	t.Run("dangling link", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Symlink("nowhere", filepath.Join(dir, "server.crt")); err != nil {
			t.Fatal(err)
		}
		if _, err := Generate(GenerateOptions{Dir: dir}); !errors.Is(err, ErrExists) {
			t.Errorf("error is %v, want ErrExists", err)
		}
	})
}

func TestGenerateForce(t *testing.T) {
	dir := t.TempDir()
	opts := GenerateOptions{Dir: dir, Force: true}
	if _, err := Generate(opts); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, dir)
	// A key that somebody has opened up, and one that is a link: neither the
	// mode nor the link's target is taken over.
	if err := os.Chmod(filepath.Join(dir, "client.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(t.TempDir(), "target")
	writeFile(t, target, []byte("precious"))
	os.Remove(filepath.Join(dir, "server.key"))
	if err := os.Symlink(target, filepath.Join(dir, "server.key")); err != nil {
		t.Fatal(err)
	}

	if _, err := Generate(opts); err != nil {
		t.Fatal(err)
	}
	after := snapshot(t, dir)
	if len(after) != len(generated)+1 { // and the marker
		t.Errorf("%d files in the directory, want %d", len(after), len(generated)+1)
	}
	for _, name := range generated {
		if bytes.Equal(before[name], after[name]) {
			t.Errorf("%s was not replaced", name)
		}
	}
	if _, err := LoadAuthority(dir); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"client.key", "server.key"} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o600 {
			t.Errorf("mode of %s is %v, want 0600", name, info.Mode())
		}
	}
	if data, _ := os.ReadFile(target); string(data) != "precious" {
		t.Errorf("the link's target was overwritten with %q", data)
	}
}

// A directory in a file's place is the error that a rename would meet.
func TestGenerateLeavesNoTemporaryFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "server.crt"), 0o700); err != nil {
		t.Fatal(err)
	}
	paths, err := Generate(GenerateOptions{Dir: dir, Force: true})
	var fe *FileError
	if !errors.As(err, &fe) || fe.Path != filepath.Join(dir, "server.crt") {
		t.Errorf("error is %v, want that of server.crt", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, []string{"server.crt"}) || len(paths) != 0 {
		t.Errorf("left %q, returned %q", names, paths)
	}
}
