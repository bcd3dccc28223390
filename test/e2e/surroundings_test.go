package e2e

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestSurroundings: a command has a home and a directory that it may write to, whatever
// its image says, and what was chosen for it is kept.
func TestSurroundings(t *testing.T) {
	t.Parallel()
	needsImages(t)
	// -w asks the kernel, which knows that a read-only file system is none.
	const where = `echo "$HOME" "$(pwd)"; [ -w "$HOME" ] && mkdir -p "$HOME/.cache" && touch x && chmod 700 . && echo written`
	for _, tt := range []struct {
		name    string
		flags   []string
		command []string
		code    int
		out     string // whole stdout
		err     string // part of stderr
	}{
		{"worker's image", nil, []string{"sh", "-c", where}, 0, "/hodei/home /hodei/home\nwritten\n", ""},
		{"busybox", []string{"--image", busybox}, []string{"sh", "-c", where}, 0, "/hodei/home /hodei/home\nwritten\n", ""},
		{"scratch", []string{"--image", scratch}, []string{"/app", "where"}, 0, "/hodei/home\n/hodei/home\n", ""},
		{"scratch, by a path from the root", []string{"--image", scratch}, []string{"./app", "where"}, 0, "/hodei/home\n/hodei/home\n", ""},
		{"another user", []string{"--user=4321:1"}, []string{"sh", "-c", where}, 0, "/hodei/home /hodei/home\nwritten\n", ""},
		{"the image's user", []string{"--image", "registry.local/user-1234:1", "--user=image"}, []string{"sh", "-c", where}, 0,
			"/hodei/home /hodei/home\nwritten\n", ""},
		{"a directory", []string{"--workdir=/tmp"}, []string{"sh", "-c", "echo $HOME; pwd"}, 0, "/hodei/home\n/tmp\n", ""},
		{"a directory that can't be written to", []string{"--workdir=/etc"}, []string{"pwd"}, 0, "/etc\n", ""},
		{"a home", []string{"-e", "HOME=/var/empty"}, []string{"sh", "-c", "echo $HOME; pwd"}, 0, "/var/empty\n/hodei/home\n", ""},
		{"an empty home", []string{"-e", "HOME="}, []string{"sh", "-c", "echo $HOME"}, 0, "/hodei/home\n", ""},
		{"no such directory", []string{"--workdir=/no/where"}, []string{"true"}, 126, "",
			`no working directory: --workdir "/no/where": no such file or directory`},
		{"a directory relative to nothing", []string{"--workdir=sub"}, []string{"true"}, 2, "",
			`error: --workdir "sub": want a path from the root`},
		{"a command relative to the directory", []string{"--workdir=/bin"}, []string{"./echo", "hi"}, 0, "hi\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			args := append(append([]string{"run", "--name", jobName(t)}, tt.flags...), "--")
			r := hodei(t, append(args, tt.command...)...)
			if r.code != tt.code || r.stdout != tt.out || !strings.Contains(r.stderr, tt.err) {
				t.Errorf("exit code %d, want %d; stdout %q, want %q; stderr should have %q:\n%s", r.code, tt.code, r.stdout, tt.out,
					tt.err, r.stderr)
			}
		})
	}
}

// TestVariables: what is set and empty is so, what is named wins over what comes in
// numbers, and a job knows its name.
func TestVariables(t *testing.T) {
	t.Parallel()
	name := jobName(t)
	source := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name},
		Data: map[string]string{"A": "source", "B": "source", "C": "source"}}
	if _, err := client.CoreV1().ConfigMaps(workers).Create(t.Context(), source, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.CoreV1().ConfigMaps(workers).Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	const script = `echo "${A-unset}|${B-unset}|${C-unset}|${EMPTY_HERE-unset}|${NOT_SET_HERE-unset}|` +
		`$HODEI_JOB|${HODEI_ATTEMPT%-*}|${KUBERNETES_SERVICE_HOST:+set}|$HOSTNAME"; echo "$HODEI_ATTEMPT" >&2`
	cmd := command(t.Context(), "run", "--name", name, "--env-from", "configmap/"+name, "-e", "A=", "-e", "B=typed",
		"-e", "EMPTY_HERE", "-e", "NOT_SET_HERE", "--", "sh", "-c", script)
	cmd.Env = append(cmd.Env, "EMPTY_HERE=")
	r := run(t, cmd)
	fields := strings.Split(strings.TrimSpace(r.stdout), "|")
	if len(fields) != 9 || strings.Join(fields[:8], "|") != "|typed|source||unset|"+name+"|"+name+"|set" ||
		!strings.Contains(r.stderr, fields[8]+"\n") {
		t.Errorf("%+v", r)
	}
	if !strings.Contains(r.stderr, "-e NOT_SET_HERE: it is not set here, and is left out\n") {
		t.Errorf("%s", r.stderr)
	}
}

// TestLargeCommand: a command may be as large as Linux and Kubernetes take it, and is read
// back as it was typed.
func TestLargeCommand(t *testing.T) {
	t.Parallel()
	script := "exit $#; # " + strings.Repeat("<$&é", 25_000) // 125 KB, which was refused for its <
	for _, tt := range []struct {
		name    string
		command []string
		code    int
		err     string // part of stderr
	}{
		{"a long script", []string{"sh", "-c", script, "sh", "a", "b"}, 2, ""},
		{"much text", append([]string{"sh", "-c", "exit $#", "sh"}, slices.Repeat([]string{strings.Repeat("x", 131_000)}, 10)...), 10, ""},
		{"more than a Job holds", append([]string{"true"}, slices.Repeat([]string{strings.Repeat("x", 131_000)}, 12)...), 2,
			"Kubernetes takes at most"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			name := jobName(t)
			r := hodei(t, append([]string{"run", "--name", name, "--"}, tt.command...)...)
			if r.code != tt.code || !strings.Contains(r.stderr, tt.err) {
				t.Fatalf("exit code %d, want %d: %.2000s", r.code, tt.code, r.stderr)
			}
			if tt.err != "" {
				return
			}
			var shown struct {
				Spec struct{ Command []string }
			}
			if err := json.Unmarshal([]byte(hodei(t, "describe", name, "-o", "json").stdout), &shown); err != nil ||
				!slices.Equal(shown.Spec.Command, tt.command) {
				t.Errorf("%v: the command is read back with %d words", err, len(shown.Spec.Command))
			}
		})
	}
}
