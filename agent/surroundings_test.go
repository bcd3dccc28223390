package agent

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
		cfg       LaunchConfig
		home, cwd string
		writable  []string
		want      string
	}{
		{"an image that says nothing", LaunchConfig{}, "/", "/", nil, "home dir"},
		{"as root", LaunchConfig{}, "/root", "/", []string{"/root", "/"}, ""},
		{"as root, without an entry in passwd", LaunchConfig{}, "/", "/", []string{"/"}, ""},
		{"root's home, for another user", LaunchConfig{}, "/root", "/", nil, "home dir"},
		{"an image with a user", LaunchConfig{}, "/home/node", "/home/node", []string{"/home/node"}, ""},
		{"a user and no directory", LaunchConfig{}, "/home/node", "/", []string{"/home/node"}, "dir"},
		{"an image with a directory", LaunchConfig{}, "/", "/app", nil, "home"},
		{"no HOME at all", LaunchConfig{}, "", "/app", []string{""}, "home"},
		{"a relative one", LaunchConfig{}, "home", "/app", []string{"home"}, "home"},
		{"a home that was chosen", LaunchConfig{KeepHome: true}, "/none", "/", nil, "dir"},
		{"a directory that was chosen", LaunchConfig{Workdir: "/"}, "/", "/", nil, "home"},
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

// The launcher goes to the directory, and the command is looked for from there.
func TestWorkdir(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "script"), []byte("#!/bin/sh\necho $PWD; /bin/pwd\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, workdir string
		command       string
		code          int
		printed       string
		message       string
	}{
		{"there", dir, "./script", 0, dir + "\n" + dir + "\n", ""},
		{"missing", filepath.Join(dir, "none"), "true", 126, "",
			`no working directory: --workdir "` + dir + `/none": no such file or directory`},
		{"a file", filepath.Join(dir, "script"), "true", 126, "", `no working directory: --workdir "` + dir + `/script": not a directory`},
		{"without the command", "/", "./script", 127, "", "./script: no such file or directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t)
			w.surroundings.Workdir = test.workdir
			w.run(test.command)
			r := w.ends(test.code)
			if got := string(w.follower.streams[stdout].head); got != test.printed || r.Message != test.message {
				t.Errorf("printed %q, message %q", got, r.Message)
			}
		})
	}
}

// A command without a home gets one that is its own.
func TestHome(t *testing.T) {
	t.Parallel()
	given := t.TempDir()
	if err := os.Chmod(given, 0o755); err != nil { // whatever the umask
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, home string
		keep       bool
		want       string // with VOLUME for the volume
	}{
		{"none", "", false, "VOLUME/home"},
		{"missing", "/no/where", false, "VOLUME/home"},
		{"its own", given, false, given},
		{"chosen", "/no/where", true, "/no/where"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t)
			w.surroundings.Home, w.surroundings.KeepHome = t.TempDir(), test.keep
			w.env = []string{"HOME=" + test.home}
			w.run("sh", "-c", `echo "$HOME"; env | grep -c ^HOME=; [ ! -d "$HOME" ] || stat -c %a "$HOME"`)
			w.ends(0)
			want := strings.ReplaceAll(test.want, "VOLUME", w.surroundings.Home) + "\n1\n"
			if test.want == "VOLUME/home" {
				want += "700\n"
			} else if !test.keep {
				want += "755\n"
			}
			if got := string(w.follower.streams[stdout].head); got != want {
				t.Errorf("printed %q, want %q", got, want)
			}
		})
	}
}
