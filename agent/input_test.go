package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/agent/agenttest"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// reads runs a command whose stdin is source, and lets it start.
func (w *worker) reads(source io.Reader, command ...string) {
	w.t.Helper()
	w.sends(source)
	w.run(command...)
	w.release()
}

// sends has the coordinator send source to the command.
func (w *worker) sends(source io.Reader) {
	w.cfg.Stdin, w.surroundings.Stdin = true, true
	w.server.Input = coordinator.NewInput(source, nil)
	w.t.Cleanup(func() {
		if c, ok := source.(io.Closer); ok {
			c.Close()
		}
		w.server.Input.Close()
	})
}

// release lets the command start once its start is held.
func (w *worker) release() {
	w.t.Helper()
	w.follower.untilHeld(w.t)
	w.server.Release()
}

func (f *follower) untilHeld(t testing.TB) {
	t.Helper()
	f.until(t, "a held start", func() bool {
		return len(f.states) > 0 && f.states[len(f.states)-1].Phase == hodeipb.Phase_HELD
	})
}

// endless is input without end. taken counts what was read of it.
type endless struct{ taken atomic.Int64 }

func (e *endless) Read(p []byte) (int, error) {
	e.taken.Add(int64(len(p)))
	return len(p), nil
}

// stuck is input of which nothing comes after its text, until it is closed.
type stuck struct {
	io.Reader
	io.Closer
}

func newStuck(text string) stuck {
	r, w := io.Pipe()
	return stuck{io.MultiReader(strings.NewReader(text), r), w}
}

func TestInput(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for name, size := range map[string]int{
		"empty": 0, "a byte": 1, "more than a pipe holds": 3 << 20, "more than may be sent": 20<<20 + 7,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := agenttest.RandomBytes(rand.New(rand.NewPCG(rnd.Uint64(), uint64(size))), size)
			w := newWorker(t)
			w.reads(bytes.NewReader(data), "cat")
			w.ends(0)
			want := sha256.Sum256(data)
			if got := w.follower.streams[stdout]; got.end != uint64(size) || !bytes.Equal(got.sum.Sum(nil), want[:]) {
				t.Errorf("%d bytes came of %d, or others", got.end, size)
			}
		})
	}
}

// TestInputUnread: who sends is told when the command reads no more, and that is no error.
func TestInputUnread(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"the command ends":         "head -c 5 >/dev/null; echo done",
		"it closes its stdin":      "head -c 5 >/dev/null; exec <&-; echo done; sleep 0.1",
		"it never reads":           "echo done",
		"it is replaced by a deaf": "exec sh -c 'exec <&-; echo done'",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t)
			w.reads(&endless{}, "sh", "-c", script)
			if r := w.ends(0); r.Cause != contract.CauseCompleted {
				t.Errorf("exit record %v", r)
			}
			w.server.Input.Close() // hangs if it is read on
			select {
			case err := <-w.server.Input.Failed():
				t.Error(err)
			default:
			}
		})
	}
}

// TestInputHeldBack: a command that does not read holds the sender back, and nobody's memory grows.
func TestInputHeldBack(t *testing.T) {
	t.Parallel()
	source := &endless{}
	w := newWorker(t)
	w.reads(source, "sh", "-c", "echo ready; trap 'exit 3' TERM; sleep 60 & wait")
	w.follower.untilPrinted(t, "ready")
	last := int64(-1)
	for last != source.taken.Load() { // it goes on by itself or not at all
		last = source.taken.Load()
		time.Sleep(300 * time.Millisecond) // nothing tells that nothing more is read
	}
	if most := int64(2*hodeipb.InputWindow + 1<<20); last > most {
		t.Errorf("%d bytes were read ahead, more than %d", last, most)
	}
	w.server.Cancel(&hodeipb.Cancel{})
	w.ends(3)
}

// TestInputCutByAgent: an agent that dies ends the command, which does not take the input for complete.
func TestInputCutByAgent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWorker(t)
	w.cfg.Grace = 300 * time.Millisecond
	w.reads(newStuck("begin"), "sh", "-c", `trap "" TERM; head -c 5; cat; echo > "$0"`, filepath.Join(dir, "end"))
	w.follower.untilPrinted(t, "begin")
	w.agent.signal(t, unix.SIGKILL)
	w.launcher.exits(t, contract.ExitAgentGone)
	if _, err := os.Stat(filepath.Join(dir, "end")); !os.IsNotExist(err) {
		t.Errorf("the command read the end of its input: %v", err)
	}
}

// TestInputLeft: an owner that sends no more has the command stopped.
func TestInputLeft(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.reads(newStuck("begin"), "sh", "-c", "head -c 5; cat; echo end")
	w.follower.untilPrinted(t, "begin")
	w.server.LeaveInput("the disk of it has failed")
	r := w.ends(128 + int(unix.SIGTERM))
	if r.Cause != contract.CauseInputLost || !strings.Contains(r.Message, "the disk of it has failed") {
		t.Errorf("exit record %v", r)
	}
	if strings.Contains(string(w.follower.head), "end") {
		t.Error("the command read the end of its input")
	}
}

// TestInputOwned: one coordinator has the input, and the next one is told.
func TestInputOwned(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.listenHere()
	w.sends(newStuck("begin"))
	w.startAgent()
	w.launch("cat")
	w.tunnel()
	w.release()
	w.follower.untilPrinted(t, "begin")

	other := coordinator.NewInput(strings.NewReader("other"), nil)
	defer other.Close()
	f := newFollower()
	w.tunnelTo(&coordinator.Server{TLS: w.server.TLS, Namespace: w.server.Namespace, Job: w.server.Job, Follower: f, Input: other})
	select {
	case err := <-other.Failed():
		if !errors.Is(err, coordinator.ErrInputRefused) || !strings.Contains(err.Error(), "another hodei sends the input") {
			t.Error(err)
		}
	case <-time.After(agenttest.Patience):
		t.Fatal("it was not told")
	}
	w.server.Cancel(&hodeipb.Cancel{})
	w.ends(128 + int(unix.SIGTERM))
	if got := string(w.follower.head); got != "begin" {
		t.Errorf("the command read %q", got)
	}
}

// TestHeld: a command whose start is held starts for one reason only.
func TestHeld(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		timeout time.Duration
		act     func(w *worker)
		code    int
		message string
	}{
		{"nobody comes", 300 * time.Millisecond, func(*worker) {}, contract.ExitStartTimeout, "nobody has come to send the input by "},
		{"cancelled", agenttest.Patience, func(w *worker) {
			w.follower.untilHeld(w.t)
			w.server.Cancel(&hodeipb.Cancel{})
		}, contract.ExitStartTimeout, "cancelled before the command started"},
		{"given up", agenttest.Patience, func(w *worker) {
			w.follower.untilHeld(w.t)
			w.server.LeaveInput("it can't be read")
		}, contract.ExitStartTimeout, "the input can't come: it can't be read"},
		{"the Pod is deleted", agenttest.Patience, func(w *worker) {
			w.follower.untilHeld(w.t)
			w.agent.signal(w.t, unix.SIGTERM)
		}, contract.ExitNeverStarted, "told to end before the command started"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t)
			w.cfg.StartTimeout = test.timeout
			w.sends(newStuck(""))
			w.run("sh", "-c", "echo started")
			test.act(w)
			w.agent.exits(t, test.code)
			w.launcher.exits(t, contract.ExitAgentGone)
			w.terminationSays(test.message)
			if w.follower.end > 0 {
				t.Error("the command ran")
			}
		})
	}
}

func TestInputPieces(t *testing.T) {
	piece := func(offset uint64, text string) *hodeipb.Input {
		return &hodeipb.Input{Offset: offset, Data: []byte(text)}
	}
	end := func(offset uint64, text string) *hodeipb.Input {
		return &hodeipb.Input{Offset: offset, Data: []byte(text), Complete: true}
	}
	for _, test := range []struct {
		name   string
		pieces []*hodeipb.Input
		want   string
		over   bool
		err    string // of the last piece
	}{
		{"in turn", []*hodeipb.Input{piece(0, "ab"), piece(2, "cd")}, "abcd", false, ""},
		{"twice", []*hodeipb.Input{piece(0, "abcd"), piece(0, "abcd")}, "abcd", false, ""},
		{"overlapping", []*hodeipb.Input{piece(0, "abcd"), piece(2, "cdef")}, "abcdef", false, ""},
		{"a part again", []*hodeipb.Input{piece(0, "abcd"), piece(1, "b")}, "abcd", false, ""},
		{"the end", []*hodeipb.Input{piece(0, "abcd"), end(4, "")}, "abcd", true, ""},
		{"the end twice", []*hodeipb.Input{end(0, "ab"), end(0, "ab"), end(2, "")}, "ab", true, ""},
		{"a hole", []*hodeipb.Input{piece(0, "ab"), piece(3, "d")}, "ab", false, "input from 3, there are 2 bytes"},
		{"behind the end", []*hodeipb.Input{end(0, "ab"), piece(2, "c")}, "ab", true, "input behind its end"},
		{"too much at once", []*hodeipb.Input{piece(0, strings.Repeat("x", hodeipb.MaxInputBytes+1))}, "", false,
			"262145 bytes of input at once"},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := newInput(hodeipb.InputWindow)
			var err error
			for _, p := range test.pieces {
				if err != nil {
					t.Fatal(err)
				}
				err = in.take(p)
			}
			if (err != nil) != (test.err != "") || err != nil && err.Error() != test.err {
				t.Errorf("error %v, want %q", err, test.err)
			}
			var got []byte
			for {
				data, over, _ := in.next()
				if data == nil {
					if over != test.over {
						t.Errorf("over: %t", over)
					}
					break
				}
				got = append(got, data...)
				in.wrote(len(data))
			}
			if string(got) != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
	t.Run("no more than the window", func(t *testing.T) {
		in := newInput(hodeipb.InputWindow)
		full := make([]byte, hodeipb.MaxInputBytes)
		for i := uint64(0); i < hodeipb.InputWindow; i += hodeipb.MaxInputBytes {
			if err := in.take(&hodeipb.Input{Offset: i, Data: full}); err != nil {
				t.Fatal(err)
			}
		}
		if err := in.take(piece(hodeipb.InputWindow, "x")); err == nil {
			t.Error("one byte too many was taken")
		}
		in.wrote(1)
		if err := in.take(piece(hodeipb.InputWindow, "x")); err != nil {
			t.Error(err)
		}
	})
	t.Run("on its way when the command stopped reading", func(t *testing.T) {
		in := newInput(hodeipb.InputWindow)
		in.finish()
		for _, p := range []*hodeipb.Input{piece(0, "ab"), piece(2, "cd"), piece(1<<20, "x")} {
			if err := in.take(p); err != nil {
				t.Error(err)
			}
		}
		if data, _, _ := in.next(); data != nil {
			t.Errorf("%q is written", data)
		}
	})
	t.Run("byte by byte", func(t *testing.T) {
		in := newInput(hodeipb.InputWindow)
		for i := range uint64(2 * joinBytes) {
			if err := in.take(piece(i, "x")); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(in.queue); n > 4 {
			t.Errorf("%d pieces", n)
		}
	})
}

func TestInputOwner(t *testing.T) {
	in := newInput(hodeipb.InputWindow)
	steps := []struct {
		name    string
		act     func() string
		refused bool
	}{
		{"the first", func() string { return claim(in, "a") }, false},
		{"another while it is there", func() string { return claim(in, "b") }, true},
		{"another when it has left and sent nothing", func() string { in.release(0); return claim(in, "b") }, false},
		{"itself again, while the broken connection still seems to be there", func() string { return claim(in, "b") }, false},
		{"another when something was sent", func() string {
			_ = in.take(&hodeipb.Input{Data: []byte("x")})
			in.release(0)
			in.release(0)
			return claim(in, "c")
		}, true},
		{"itself when it comes back", func() string { return claim(in, "b") }, false},
		{"without an id", func() string { return claim(in, "") }, true},
	}
	for _, step := range steps {
		if refused := step.act(); (refused != "") != step.refused {
			t.Errorf("%s: %q", step.name, refused)
		}
	}
	if refused := claim(nil, "a"); refused == "" {
		t.Error("a job that takes no input gives it away")
	}
}

// TestInputOwnerAway: the owner has its time to come back.
func TestInputOwnerAway(t *testing.T) {
	const patience = time.Minute
	for _, test := range []struct {
		name string
		act  func(*input)
		want string
		at   time.Duration
	}{
		{"never there", func(*input) {}, "", time.Hour},
		{"there", func(in *input) { claim(in, "a") }, "", time.Hour},
		{"gone", func(in *input) { claim(in, "a"); in.release(0) }, "its sender has not come back for 1m0s", patience},
		{"back in time, and gone again", func(in *input) {
			claim(in, "a")
			in.release(0)
			time.Sleep(patience / 2)
			claim(in, "a")
			time.Sleep(patience)
			in.release(0)
		}, "its sender has not come back for 1m0s", patience/2 + 2*patience},
		{"gone, with all sent", func(in *input) {
			claim(in, "a")
			_ = in.take(&hodeipb.Input{Complete: true})
			in.release(0)
		}, "", time.Hour},
		{"gone, and nothing is read any more", func(in *input) { claim(in, "a"); in.release(0); in.finish() }, "", time.Hour},
		{"given up", func(in *input) { claim(in, "a"); in.giveUp("a", "") }, "its sender has left", 0},
		{"given up before anybody owned it", func(in *input) { in.giveUp("", "it is gone") }, "it is gone", 0},
		{"given up by another", func(in *input) { claim(in, "a"); in.giveUp("b", "no") }, "", time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in, began := newInput(hodeipb.InputWindow), time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				go test.act(in)
				if got := in.awaitLoss(ctx, patience); got != test.want {
					t.Errorf("%q, want %q", got, test.want)
				}
				if got := time.Since(began); got != test.at {
					t.Errorf("after %s, want %s", got, test.at)
				}
			})
		})
	}
}

// TestInputDone: whoever comes once nothing is wanted any more is not told that another one has the input.
func TestInputDone(t *testing.T) {
	in := newInput(hodeipb.InputWindow)
	in.tty = true
	if _, refused := in.claim("one"); refused != "" {
		t.Fatal(refused)
	}
	if _, refused := in.claim("other"); refused == "" {
		t.Error("two have it")
	}
	in.finish()
	if _, refused := in.claim("other"); refused != "" {
		t.Errorf("refused: %s", refused)
	}
}
