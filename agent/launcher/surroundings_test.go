package launcher

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestLacks(t *testing.T) {
	for _, test := range []struct {
		name      string
		cfg       Config
		home, cwd string
		writable  []string
		want      string
	}{
		{"an image that says nothing", Config{}, "/", "/", nil, "home dir"},
		{"as root", Config{}, "/root", "/", []string{"/root", "/"}, ""},
		{"as root, without an entry in passwd", Config{}, "/", "/", []string{"/"}, ""},
		{"root's home, for another user", Config{}, "/root", "/", nil, "home dir"},
		{"an image with a user", Config{}, "/home/node", "/home/node", []string{"/home/node"}, ""},
		{"a user and no directory", Config{}, "/home/node", "/", []string{"/home/node"}, "dir"},
		{"an image with a directory", Config{}, "/", "/app", nil, "home"},
		{"no HOME at all", Config{}, "", "/app", []string{""}, "home"},
		{"a relative one", Config{}, "home", "/app", []string{"home"}, "home"},
		{"a home that was chosen", Config{KeepHome: true}, "/none", "/", nil, "dir"},
		{"a directory that was chosen", Config{Workdir: "/"}, "/", "/", nil, "home"},
	} {
		t.Run(test.name, func(t *testing.T) {
			home, dir := test.cfg.lacks(test.home, test.cwd, func(dir string) bool { return slices.Contains(test.writable, dir) })
			var got []string
			if home {
				got = append(got, "home")
			}
			if dir {
				got = append(got, "dir")
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("it lacks %q, want %q", got, test.want)
			}
		})
	}
}

func TestWritableDir(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o777); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{dir: true, file: false, filepath.Join(dir, "none"): false, "/proc/self": false} {
		if got := writableDir(path); got != want {
			t.Errorf("%s: %t", path, got)
		}
	}
}
