package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What a command reads from hodei run -i.

// counted calls cut each time that so many more bytes were read.
type counted struct {
	io.Reader
	every, left int
	cut         func()
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if c.left -= n; c.left <= 0 {
		c.left += c.every
		c.cut()
	}
	return n, err
}

// TestInputCuts: input arrives once and in order, though the way to the cluster breaks again and again.
func TestInputCuts(t *testing.T) {
	size, cuts := 60<<20, 4
	if long {
		size, cuts = 1<<30, 20
	}
	p := newProxy(t)
	sum, made := sha256.New(), 0
	random := io.LimitReader(rand.NewChaCha8([32]byte{'i', 'n'}), int64(size))
	cmd := command(t.Context(), p.args([]string{"run", "-i", "--name", jobName(t), "--", "sha256sum"})...)
	every := size / (cuts + 1)
	cmd.Stdin = &counted{Reader: io.TeeReader(random, sum), every: every, left: every, cut: func() { made++; p.cut() }}
	began := time.Now()
	r := startCommand(t, nil, cmd).end(t)
	if want := hex.EncodeToString(sum.Sum(nil)) + "  -\n"; r.code != 0 || r.stdout != want {
		t.Errorf("exit code %d, stdout %q, want %q; stderr:\n%s", r.code, r.stdout, want, r.stderr)
	}
	if made < cuts {
		t.Errorf("the connections were cut %d times, want %d", made, cuts)
	}
	t.Logf("%d bytes and %d cuts in %.1fs", size, made, time.Since(began).Seconds())
}

// silent is a stdin of which nothing comes after text.
func silent(t *testing.T, text string) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	if _, err := w.WriteString(text); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestInputLost: the command of an owner that does not come back is stopped, and has not read the end
// of its input.
func TestInputLost(t *testing.T) {
	t.Parallel()
	name := jobName(t)
	cmd := command(t.Context(), "run", "-i", "--name", name, "--start-timeout", "20s", "--linger", "2m", "--", "sh", "-c", "cat; echo end")
	cmd.Stdin = silent(t, "begin\n")
	out := newOutput()
	s := startCommand(t, out, cmd)
	out.await(t, int64(len("begin\n")))
	s.signal(t, os.Kill)
	_ = s.end(t)
	r := hodei(t, "attach", name)
	const said = "the rest of its input did not come: its sender has not come back for 20s"
	if r.code != 125 || r.stdout != "begin\n" || !strings.Contains(r.stderr, said) {
		t.Errorf("exit code %d, stdout %q, stderr:\n%s", r.code, r.stdout, r.stderr)
	}
}

// TestInputNeverSent: a job whose owner goes before its start ends by its start timeout, and its
// command never runs.
func TestInputNeverSent(t *testing.T) {
	t.Parallel()
	name := jobName(t)
	cmd := command(t.Context(), "run", "-i", "--name", name, "--start-timeout", "15s", "--", "sh", "-c", "echo ran")
	cmd.Stdin = silent(t, "")
	s := startCommand(t, nil, cmd)
	s.await(t, "submitted")
	s.signal(t, os.Kill)
	_ = s.end(t)
	for deadline := time.Now().Add(2 * time.Minute); ; <-time.After(time.Second) { // nothing else to ask
		j, err := client.BatchV1().Jobs(workers).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if failed(j) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not end: %+v", j.Status)
		}
	}
	if r := hodei(t, "attach", name); r.code != 125 || r.stdout != "" {
		t.Errorf("exit code %d, stdout %q, stderr:\n%s", r.code, r.stdout, r.stderr)
	}
}

func failed(j *batchv1.Job) bool {
	for _, c := range j.Status.Conditions {
		if c.Type == batchv1.JobFailed {
			return true
		}
	}
	return false
}

// TestInputOfRetry: another attempt gets the input again if it is a file. If it is a pipe, it can't.
func TestInputOfRetry(t *testing.T) {
	t.Parallel()
	const script = `cat; test "$(cat /proc/uptime)" && exit 3`
	path := filepath.Join(t.TempDir(), "input")
	if err := os.WriteFile(path, []byte("all\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := command(t.Context(), "run", "-i", "--name", jobName(t), "--retries", "1", "--", "sh", "-c", script)
	cmd.Stdin = file
	if r := startCommand(t, nil, cmd).end(t); r.code != 3 || r.stdout != "all\nall\n" {
		t.Errorf("of a file: exit code %d, stdout %q, stderr:\n%s", r.code, r.stdout, r.stderr)
	}
	cmd = command(t.Context(), "run", "-i", "--name", jobName(t), "--retries", "1", "--", "sh", "-c", script)
	cmd.Stdin = strings.NewReader("all\n")
	if r := startCommand(t, nil, cmd).end(t); r.code != 3 || r.stdout != "all\n" ||
		!strings.Contains(r.stderr, "it is not tried again: an earlier attempt has read some of the input: stdin is not a file") {
		t.Errorf("of a pipe: exit code %d, stdout %q, stderr:\n%s", r.code, r.stdout, r.stderr)
	}
}

// TestInputUnread: a command that ends before its input does ends the sender, and its Pod.
func TestInputUnread(t *testing.T) {
	t.Parallel()
	name := jobName(t)
	cmd := command(t.Context(), "run", "-i", "--name", name, "--", "head", "-c", "5")
	cmd.Stdin = strings.NewReader(strings.Repeat("yes\n", 20<<20))
	if r := startCommand(t, nil, cmd).end(t); r.code != 0 || r.stdout != "yes\ny" {
		t.Errorf("exit code %d, stdout %q, stderr:\n%s", r.code, r.stdout, r.stderr)
	}
	ended(t, name)
}
