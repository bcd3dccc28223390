package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/pkg/contract"
)

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

// TestLaunchUntil: the end of the launcher's context is a SIGTERM for the command.
func TestLaunchUntil(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.run("sh", "-c", "trap '' USR2; trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done")
	w.follower.until(t, "the command", func() bool { return w.follower.end > 0 })
	w.launcher.signal(t, unix.SIGUSR2)
	if r := w.ends(3); r.Cause != contract.CauseError {
		t.Errorf("exit record %v", r)
	}
}
