package ui

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// show is a run as Status sees it, with a name and a message that try to
// take over the terminal.
func show(s *Status) {
	s.Wait("submitting")
	s.Wait("submitting")
	s.Done("submitted", "make-k3x9z to k8s-local (hodei-jobs-workers)", 40*time.Millisecond)
	s.Wait("waiting for a node: 0/1 nodes are available: 1 Insufficient cpu")
	s.Done("scheduled", "node1", 110*time.Millisecond)
	s.Wait("")
	s.Done("image", "présent\x1b[2J\x9b31m\u202egnp\r\n", 120*time.Millisecond)
	s.Done("running", "agent 0.9s, command 1.2s", 0)
	s.Done("agent up", "", 9996*time.Millisecond)
	s.Done("image", strings.Repeat("long/", 12), 2*time.Second)
	s.Summary(Good, "exit 0 in 41.2s")
	s.Summary(Bad, "OOMKilled after 12.4s (exit 137): \x1b]0;title\a the kernel killed python")
	s.Summary(Warned, "warning  clock")
	s.Summary(Unchecked, "skipped  pull secrets")
	s.Stop()
	s.Stop()
}

func TestStatus(t *testing.T) {
	for _, test := range []struct {
		name string
		term Terminal
	}{
		{"plain", Terminal{}},
		{"tty", Terminal{TTY: true}},
		{"color", Terminal{TTY: true, Color: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			show(NewStatus(&out, test.term))
			golden := filepath.Join("testdata", test.name+".golden")
			if *update {
				if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got := out.String(); got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestStatusConcurrent(t *testing.T) {
	s := NewStatus(&bytes.Buffer{}, Terminal{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { show(s) })
	}
	wg.Wait()
}

func TestDetect(t *testing.T) {
	env := func(name string) string { return map[string]string{"TERM": "xterm"}[name] }
	if got := Detect(&bytes.Buffer{}, env); got != (Terminal{}) {
		t.Errorf("a buffer: got %+v", got)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if got := Detect(file, env); got != (Terminal{}) {
		t.Errorf("a file: got %+v", got)
	}
}

func TestPrintable(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"text", "node1", "node1"},
		{"unicode", "señal ✓ 世界", "señal ✓ 世界"},
		{"escape", "a\x1b[31mb\x1b]0;t\ac", "a[31mb]0;tc"},
		{"c1", "a\u009b31mb", "a31mb"},
		{"lines", "a\nb\tc\r\n", "a b c"},
		{"bidi", "a\u202eb", "ab"},
		{"invalid", "a\xffb", "a\ufffdb"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Printable(test.in); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestTint(t *testing.T) {
	if got := (Terminal{TTY: true}).Tint("text", "key"); got != "text" {
		t.Errorf("without colour: %q", got)
	}
	colored := Terminal{TTY: true, Color: true}
	distinct := map[string]bool{}
	for _, key := range []string{"make-k3x9z", "test-b2bdn", "train-f4rkg", "lint-hx4lp"} {
		got := colored.Tint("text", key)
		if got != colored.Tint("text", key) || !strings.Contains(got, "text") || !strings.HasPrefix(got, "\x1b[") {
			t.Errorf("%s: %q", key, got)
		}
		distinct[got] = true
	}
	if len(distinct) < 2 {
		t.Errorf("all of one colour: %v", distinct)
	}
}
