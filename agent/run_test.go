package agent

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hodei-jobs/hodei/agent/agenttest"
	"github.com/hodei-jobs/hodei/agent/handover"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

func TestOutput(t *testing.T) {
	t.Parallel()
	for _, e := range []emission{
		{"random", 0}, {"random", 1}, {"random", 3<<20 + 7}, {"line", 1 << 20}, {"both", 3 << 20}, {"turns", 20000}, {"text", 50 << 20},
	} {
		t.Run(fmt.Sprint(e.kind, " ", e.size), func(t *testing.T) {
			t.Parallel()
			w := newWorker(t)
			w.run(e.command()...)
			r := w.ends(0)
			w.printed(e)
			if r.Cause != contract.CauseCompleted || r.Started == nil || r.Finished.AsTime().Before(r.Started.AsTime()) || r.PipesHeld {
				t.Errorf("exit record %v", r)
			}
			if got := w.termination(); !proto.Equal(got, r) {
				t.Errorf("termination message %v, want %v", got, r)
			}
			if left, _ := os.ReadDir(w.cfg.SpoolDir); len(left) > 0 {
				t.Errorf("left in the spool: %v", left)
			}
		})
	}
}

func TestMergeOutput(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.merge = true
	e := emission{"turns", 10000}
	w.run(e.command()...)
	w.ends(0)
	var want bytes.Buffer
	if err := e.write(&want, &want); err != nil {
		t.Fatal(err)
	}
	f := w.follower
	if !bytes.Equal(f.streams[stdout].head, want.Bytes()[:len(f.streams[stdout].head)]) || f.streams[stdout].end != uint64(want.Len()) ||
		f.streams[stderr].end != 0 {
		t.Errorf("%d bytes, first %.60q, want %d", f.streams[stdout].end, f.streams[stdout].head, want.Len())
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain := write("plain", "#!/bin/sh\n", 0o644)
	garbage := write("garbage", "\x00\x01\x02", 0o755)
	foreign := write("foreign", "\x7fELF\x00\x00\x00\x00", 0o755)
	lost := write("lost", "#!/no/such/interpreter\n", 0o755)
	script := "if true; then echo " + strings.Repeat("x", 5000) + "; fi"
	tests := []struct {
		name         string
		command      []string
		code, signal int
		cause        string
		message      string // without the command
	}{
		{"0", []string{"true"}, 0, 0, contract.CauseCompleted, ""},
		{"1", []string{"false"}, 1, 0, contract.CauseError, ""},
		{"7", []string{"sh", "-c", "exit 7"}, 7, 0, contract.CauseError, ""},
		{"255", []string{"sh", "-c", "exit 255"}, 255, 0, contract.CauseError, ""},
		{"KILL", []string{"sh", "-c", "kill -KILL $$"}, 137, 9, contract.CauseSignaled, ""},
		{"TERM", []string{"sh", "-c", "kill -TERM $$"}, 143, 15, contract.CauseSignaled, ""},
		{"not on PATH", []string{"no-such-command"}, 127, 0, contract.CauseError, "executable file not found in $PATH"},
		{"no such path", []string{"./no/such/command"}, 127, 0, contract.CauseError, "no such file or directory"},
		{"no interpreter", []string{lost}, 127, 0, contract.CauseError, "no such file or directory"},
		{"not executable", []string{plain}, 126, 0, contract.CauseError, "permission denied"},
		{"directory", []string{dir}, 126, 0, contract.CauseError, "is a directory"},
		{"not a program", []string{garbage}, 126, 0, contract.CauseError,
			"exec format error: it is no program, and has no #! line that names its interpreter"},
		{"another architecture", []string{foreign}, 126, 0, contract.CauseError,
			"exec format error: it is no program for " + runtime.GOARCH},
		{"a script for a command", []string{script}, 127, 0, contract.CauseError, "executable file not found in $PATH"},
		{"not UTF-8", []string{"\xff\xfe"}, 127, 0, contract.CauseError, "executable file not found in $PATH"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t)
			w.run(tt.command...)
			r := w.ends(tt.code)
			if int(r.Signal) != tt.signal || r.Cause != tt.cause || !strings.HasSuffix(r.Message, tt.message) ||
				(r.Message == "") != (tt.message == "") || len(r.Message) > 300 {
				t.Errorf("exit record %v", r)
			}
		})
	}
}

func TestSignals(t *testing.T) {
	t.Parallel()
	t.Run("TERM ends the command", func(t *testing.T) {
		t.Parallel()
		w := newWorker(t)
		// All of the group gets it, and the shell waits for its child.
		w.run("sh", "-c", "trap 'exit 3' TERM; echo ready; cat; exit 4")
		w.follower.untilPrinted(t, "ready")
		w.launcher.signal(t, unix.SIGTERM)
		r := w.ends(3)
		if r.Cause != contract.CauseError {
			t.Errorf("exit record %v", r)
		}
	})
	t.Run("others are passed on", func(t *testing.T) {
		t.Parallel()
		w := newWorker(t)
		w.run(self("test-stubborn")...)
		w.follower.untilPrinted(t, "ready")
		w.launcher.signal(t, unix.SIGUSR1)
		w.follower.untilPrinted(t, "user defined signal 1")
		w.stdin.Close()
		w.ends(0)
	})
	t.Run("a coordinator's are passed on, and that is said", func(t *testing.T) {
		t.Parallel()
		w := newWorker(t)
		w.run(self("test-stubborn")...)
		w.follower.untilPrinted(t, "ready")
		if !w.server.Signal(int32(unix.SIGUSR1)) {
			t.Fatal("no agent is attached")
		}
		w.follower.untilPrinted(t, "user defined signal 1")
		w.follower.until(t, "a state that counts the signal", func() bool {
			return w.follower.states[len(w.follower.states)-1].GetSignals() == 1
		})
		w.stdin.Close()
		w.ends(0)
	})
	t.Run("TERM, grace, KILL", func(t *testing.T) {
		t.Parallel()
		w := newWorker(t)
		w.cfg.Grace = 300 * time.Millisecond
		w.run(self("test-stubborn")...)
		w.follower.untilPrinted(t, "ready")
		begin := time.Now()
		w.launcher.signal(t, unix.SIGTERM)
		r := w.ends(137)
		if r.Cause != contract.CauseSignaled || time.Since(begin) < w.cfg.Grace {
			t.Errorf("exit record %v after %s", r, time.Since(begin))
		}
		w.follower.untilPrinted(t, "terminated")
	})
}

func TestStop(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		command []string
		timeout time.Duration
		grace   *durationpb.Duration
		code    int
		cause   string
	}{
		{"timeout", []string{"cat"}, 100 * time.Millisecond, nil, 143, contract.CauseDeadlineExceeded},
		{"timeout of a stubborn one", []string{"sh", "-c", "trap '' TERM; cat"}, 500 * time.Millisecond, nil, 137,
			contract.CauseDeadlineExceeded},
		{"cancel", []string{"cat"}, 0, nil, 143, contract.CauseCancelled},
		{"cancel of one that ends well", []string{"sh", "-c", "trap 'exit 0' TERM; echo ready; cat"}, 0, nil, 0, contract.CauseCancelled},
		{"cancel of a stubborn one", self("test-stubborn"), 0, nil, 137, contract.CauseCancelled},
		{"cancel with a grace of its own", self("test-stubborn"), 0, durationpb.New(time.Millisecond), 137, contract.CauseCancelled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t)
			w.cfg.Timeout = tt.timeout
			w.cfg.Grace = 200 * time.Millisecond
			if tt.grace != nil {
				w.cfg.Grace = agenttest.Patience
			}
			w.run(tt.command...)
			if tt.timeout == 0 {
				w.follower.untilRunning(t)
				if len(tt.command) > 1 { // one that prepares for it
					w.follower.untilPrinted(t, "ready")
				}
				w.server.Cancel(&hodeipb.Cancel{Grace: tt.grace})
			}
			r := w.ends(tt.code)
			if r.Cause != tt.cause {
				t.Errorf("exit record %v", r)
			}
			if tt.timeout > 0 && !strings.Contains(r.Message, fmt.Sprint("timeout of ", tt.timeout)) {
				t.Errorf("message %q", r.Message)
			}
			last := hodeipb.Phase_PHASE_UNSPECIFIED
			for _, s := range w.follower.states {
				if s.Phase < last {
					t.Errorf("phase %s after %s", s.Phase, last)
				}
				last = s.Phase
			}
			if last != hodeipb.Phase_ENDED {
				t.Errorf("last phase %s", last)
			}
		})
	}
}

func TestZombiesAreReaped(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.run(self("test-orphan")...)
	w.ends(0)
}

func TestLeftBehind(t *testing.T) {
	t.Parallel()
	t.Run("writes later", func(t *testing.T) {
		t.Parallel()
		w := newWorker(t)
		w.run(self("test-late")...)
		r := w.ends(3)
		if got := string(w.follower.head); got != "early\nlate\n" || r.PipesHeld {
			t.Errorf("printed %q, pipes held: %t", got, r.PipesHeld)
		}
	})
	t.Run("holds the pipe", func(t *testing.T) {
		t.Parallel()
		w := newWorker(t)
		w.run("sh", "-c", "exec 3<&0; cat <&3 & echo early")
		r := w.ends(0)
		held := w.launcher.cmd.ProcessState // ended, so its group is gone too
		if got := string(w.follower.head); got != "early\n" || !r.PipesHeld {
			t.Errorf("printed %q, pipes held: %t, %s", got, r.PipesHeld, held)
		}
		if waited := time.Since(r.Finished.AsTime()); waited < pipeHold {
			t.Errorf("waited %s only", waited)
		}
	})
}

// TestAgentKilled is about a job whose agent dies: it ends too, after its grace.
func TestAgentKilled(t *testing.T) {
	t.Parallel()
	t.Run("obedient", func(t *testing.T) {
		t.Parallel()
		w := newWorker(t)
		said := filepath.Join(w.dir, "said")
		w.run("sh", "-c", "trap 'echo terminated >"+said+"; exit 3' TERM; echo ready; cat")
		w.follower.untilPrinted(t, "ready")
		w.agent.signal(t, unix.SIGKILL)
		w.launcher.exits(t, contract.ExitAgentGone)
		if text, err := os.ReadFile(said); err != nil || string(text) != "terminated\n" {
			t.Errorf("the command said %q, %v", text, err)
		}
	})
	t.Run("stubborn", func(t *testing.T) {
		t.Parallel()
		w := newWorker(t)
		w.cfg.Grace = 300 * time.Millisecond
		w.run(self("test-stubborn")...)
		w.follower.untilPrinted(t, "ready")
		begin := time.Now()
		w.agent.signal(t, unix.SIGKILL)
		w.launcher.exits(t, contract.ExitAgentGone)
		if waited := time.Since(begin); waited < w.cfg.Grace {
			t.Errorf("killed after %s", waited)
		}
	})
	t.Run("with output on its way", func(t *testing.T) {
		t.Parallel()
		w := newWorker(t)
		w.cfg.Grace = 300 * time.Millisecond
		// It writes to a pipe that nobody reads, and must not die of SIGPIPE: it
		// is to have its grace.
		w.run("sh", "-c", "trap '' TERM; echo ready; cat; while :; do echo more; done")
		w.follower.untilPrinted(t, "ready")
		begin := time.Now()
		w.agent.signal(t, unix.SIGKILL)
		w.stdin.Close()
		w.launcher.exits(t, contract.ExitAgentGone)
		if waited := time.Since(begin); waited < w.cfg.Grace {
			t.Errorf("ended after %s", waited)
		}
	})
}

// TestLauncherKilled is about a job whose process 1 is killed: by whom, only
// the container's status can tell.
func TestLauncherKilled(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.run("sh", "-c", "echo ready; cat")
	w.follower.untilPrinted(t, "ready")
	w.launcher.signal(t, unix.SIGKILL)
	w.stdin.Close() // in a container the command would end with it
	r := w.follower.exited(t)
	if r.Code != 137 || r.Signal != 9 || r.Cause != "" || r.Message == "" {
		t.Errorf("exit record %v", r)
	}
	w.launcher.exits(t, -1)
	w.agent.exits(t, contract.ExitOK)
	if got := w.termination(); !proto.Equal(got, r) {
		t.Errorf("termination message %v, want %v", got, r)
	}
}

func TestNeverStarted(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		timeout time.Duration
		end     func(w *worker)
		want    string
		code    int
	}{
		{"no launcher", 200 * time.Millisecond, func(*worker) {}, "no launcher came within 200ms: the job's container did not start",
			contract.ExitStartTimeout},
		{"TERM", agenttest.Patience, func(w *worker) { w.agent.signal(w.t, unix.SIGTERM) },
			"told to end before the job's container started",
			contract.ExitNeverStarted},
		{"cancelled", agenttest.Patience, func(w *worker) { w.server.Cancel(&hodeipb.Cancel{}) },
			"cancelled before the job's container started",
			contract.ExitStartTimeout},
		{"the job's container has ended", agenttest.Patience, func(w *worker) { w.server.JobEnded(w.cfg.Attempt, "exit code 1 (Error)") },
			"the launcher ended before the command started: exit code 1 (Error)", contract.ExitNeverStarted},
		{"not a launcher", agenttest.Patience, func(w *worker) {
			c := w.dialSocket()
			defer c.Close()
			if err := handover.Send(c, "hello"); err != nil {
				w.t.Fatal(err)
			}
			<-w.agent.ended
		}, "launcher's hello: ", contract.ExitNeverStarted},
		{"a launcher whose descriptors have no room", agenttest.Patience, func(w *worker) {
			c := w.dialSocket()
			defer c.Close()
			if err := handover.Send(c, handover.FromLauncher{Failed: &handover.Failed{Error: "too many in flight"}}); err != nil {
				w.t.Fatal(err)
			}
			<-w.agent.ended
		}, "launcher's hello: too many in flight", contract.ExitNeverStarted},
		{"a launcher that hangs up", agenttest.Patience, func(w *worker) {
			c := w.dialSocket()
			c.Close()
		}, "EOF", contract.ExitNeverStarted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t)
			w.cfg.StartTimeout = tt.timeout
			w.serve()
			w.startAgent()
			if tt.timeout == agenttest.Patience {
				w.follower.until(t, "an attachment", func() bool { return len(w.follower.attached) > 0 })
			}
			tt.end(w)
			w.agent.exits(t, tt.code)
			w.terminationSays(tt.want)
			if _, err := os.Stat(w.cfg.Socket); !os.IsNotExist(err) {
				t.Errorf("the socket is there: %v", err)
			}
		})
	}
}

func TestOneLauncher(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.serve()
	w.startAgent()
	w.launch("cat")
	w.follower.untilRunning(t)
	if _, err := os.Stat(w.cfg.Socket); !os.IsNotExist(err) {
		t.Errorf("the socket is there: %v", err)
	}
	w.stdin.Close()
	w.ends(0)
}

func TestBrokenAgent(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(w *worker)
		want   string
	}{
		{"spool", func(w *worker) { w.cfg.SpoolDir = filepath.Join(w.dir, "ca.crt") }, "open spool"},
		{"socket", func(w *worker) { w.cfg.Socket = filepath.Join(w.dir, "no", "s") }, "no such file"},
		{"port", func(w *worker) { w.cfg.Listen = "127.0.0.1:port" }, "port"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t)
			w.cfg.Server = "127.0.0.1:1"
			tt.change(w)
			w.startAgent()
			w.agent.exits(t, contract.ExitBroken)
			w.terminationSays(tt.want)
		})
	}
}

func TestTerminationIsNotOverwritten(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	if err := os.WriteFile(w.cfg.TerminationLog, []byte("the hook was here"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.run("true")
	w.ends(0)
	w.terminationSays("the hook was here")
}

func TestLinger(t *testing.T) {
	t.Parallel()
	t.Run("nobody comes", func(t *testing.T) {
		t.Parallel()
		w := newWorker(t)
		w.listenHere()
		w.cfg.Linger = 300 * time.Millisecond
		w.startAgent()
		w.launch("sh", "-c", "echo to nobody; exit 7")
		w.launcher.exits(t, 7)
		w.agent.exits(t, contract.ExitOK)
		r := w.termination()
		if r.Code != 7 || r.End != 10 || time.Since(r.Finished.AsTime()) < w.cfg.Linger {
			t.Errorf("exit record %v", r)
		}
	})
	t.Run("somebody comes in time", func(t *testing.T) {
		t.Parallel()
		w := newWorker(t)
		w.listenHere()
		w.startAgent()
		e := emission{"both", 200000}
		w.launch(e.command()...)
		w.launcher.exits(t, 0)
		begin := time.Now()
		w.tunnel()
		w.ends(0)
		w.printed(e)
		if waited := time.Since(begin); waited > w.cfg.Linger {
			t.Errorf("it lingered %s though all was stored", waited)
		}
	})
	t.Run("TERM and nobody there", func(t *testing.T) {
		t.Parallel()
		w := newWorker(t)
		w.listenHere()
		w.startAgent()
		w.launch("true")
		w.launcher.exits(t, 0)
		w.agent.signal(t, unix.SIGTERM)
		w.agent.exits(t, contract.ExitOK)
	})
	// A job may leave more than a slow path takes in the time of the linger.
	t.Run("slow but steady", func(t *testing.T) {
		t.Parallel()
		w := newWorker(t)
		w.cfg.Linger = time.Second
		const batches = 10
		over := make(chan struct{})
		release := sync.OnceFunc(func() { close(over) })
		defer release()
		pace := 3 * w.cfg.Linger / batches
		w.follower.output = func(*hodeipb.Batch) {
			<-over
			time.Sleep(pace) // the path, not a wait
		}
		e := emission{"random", batches << 16}
		w.run(e.command()...)
		w.launcher.exits(t, 0)
		release()
		w.ends(0)
		w.printed(e)
	})
	t.Run("attached and stuck", func(t *testing.T) {
		t.Parallel()
		w := newWorker(t)
		w.cfg.Linger = 300 * time.Millisecond
		over := make(chan struct{})
		defer close(over)
		w.follower.output = func(*hodeipb.Batch) { <-over }
		w.run("echo", "x")
		w.launcher.exits(t, 0)
		w.agent.signal(t, unix.SIGTERM) // without it, it would wait while somebody is there
		w.agent.exits(t, contract.ExitOK)
	})
}

// TestSlowAfterAllIsStored is about a second coordinator that gets nowhere: once
// the first has stored all, it has the linger and no more.
func TestSlowAfterAllIsStored(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.listenHere()
	w.cfg.Linger = 500 * time.Millisecond
	w.startAgent()
	slow := newFollower()
	stuck := make(chan struct{})
	defer close(stuck)
	slow.output = func(*hodeipb.Batch) { <-stuck }
	w.tunnelTo(&coordinator.Server{TLS: w.server.TLS, Namespace: w.server.Namespace, Job: w.server.Job, Follower: slow})
	slow.until(t, "an attachment", func() bool { return len(slow.attached) > 0 })
	w.tunnel()
	e := emission{"both", 200000}
	w.launch(e.command()...)
	w.ends(0)
	w.printed(e)
	if waited := time.Since(w.termination().Finished.AsTime()); waited < w.cfg.Linger {
		t.Errorf("it gave the slow one %s", waited)
	}
	if slow.end > 0 {
		t.Errorf("the slow one has %d bytes", slow.end)
	}
}

// TestOnlyLookedAt holds that output counts as stored by nobody when all of it,
// and the exit record, have only been looked at.
func TestOnlyLookedAt(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.listenHere()
	w.startAgent()
	looker, leave := w.looker()
	e := emission{"both", 200000}
	w.launch(e.command()...)
	r := looker.exited(t)
	if looker.end != r.End || looker.lost > 0 {
		t.Errorf("looked at up to %d, %d bytes lost, of %d", looker.end, looker.lost, r.End)
	}
	w.launcher.exits(t, 0)
	leave()
	select {
	case <-w.agent.ended:
		t.Fatal("the agent has ended, and nobody has stored the output")
	case <-time.After(500 * time.Millisecond): // nothing tells that nothing will happen
	}
	w.tunnel()
	w.ends(0)
	w.printed(e)
	if first := w.follower.attached[0]; first != 0 {
		t.Errorf("attached at %d", first)
	}
}

// TestOverflow is about what a full spool does when nobody has stored its output.
func TestOverflow(t *testing.T) {
	t.Parallel()
	const printed, spooled = 5 << 20, 1 << 20
	tests := []struct {
		name     string
		overflow Overflow
		detached bool
		looked   bool // somebody takes the output, and does not keep it
		waits    bool
	}{
		{"followed", OverflowAuto, false, false, true},
		{"detached", OverflowAuto, true, false, false},
		{"detached, but to wait", OverflowBlock, true, false, true},
		{"followed, but to drop", OverflowDrop, false, false, false},
		{"looked at", OverflowAuto, false, true, true},
		{"detached, looked at", OverflowAuto, true, true, false},
		{"detached, looked at, but to wait", OverflowBlock, true, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t)
			w.listenHere()
			w.cfg.SpoolBytes, w.cfg.Overflow, w.cfg.Detached = spooled, tt.overflow, tt.detached
			w.startAgent()
			if tt.looked {
				w.looker()
			}
			e := emission{"text", printed}
			w.launch(e.command()...)
			watcher := w.watcher()
			if tt.waits {
				watcher.until(t, "a blocked job", func() bool {
					n := len(watcher.states)
					return n > 0 && watcher.states[n-1].BlockedOnOutput
				})
			} else {
				watcher.exited(t)
			}
			w.tunnel()
			w.ends(0)
			if tt.waits {
				w.printed(e)
				return
			}
			f := w.follower
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.end < printed || f.lost < f.end-spooled || f.lost > f.end-spooled/2 {
				t.Errorf("%d bytes of %d lost", f.lost, f.end)
			}
		})
	}
}

// TestContainerLog checks that the log of the job's container gets all output,
// also where it is slower than the job, and that one that is closed harms nothing.
func TestContainerLog(t *testing.T) {
	t.Parallel()
	t.Run("all of it", func(t *testing.T) {
		t.Parallel()
		w := newWorker(t)
		w.cfg.ContainerLogs = true
		logs := [2]*os.File{}
		for i := range logs {
			f, err := os.Create(filepath.Join(w.dir, fmt.Sprint("log", i)))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			logs[i] = f
		}
		w.stdout, w.stderr = logs[0], logs[1]
		e := emission{"both", 5 << 20}
		w.run(e.command()...)
		w.ends(0)
		w.printed(e)
		var want [2]bytes.Buffer
		if err := e.write(&want[0], &want[1]); err != nil {
			t.Fatal(err)
		}
		for i, f := range logs {
			if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, want[i].Bytes()) {
				t.Errorf("%s has %d bytes (%v), want %d", f.Name(), len(got), err, want[i].Len())
			}
		}
	})
	t.Run("slow", func(t *testing.T) {
		t.Parallel()
		w := newWorker(t)
		w.cfg.ContainerLogs = true
		r, log, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		w.stdout = log
		e := emission{"text", 1 << 20}
		w.run(e.command()...)
		log.Close()
		w.follower.exited(t)
		select {
		case <-w.launcher.ended:
			t.Error("the launcher has ended, and its container with it, before the log has everything")
		case <-time.After(handover.DoneWait + waitEvery/2): // longer than it waits for an agent that says nothing
		}
		got, err := io.ReadAll(r)
		if err != nil {
			t.Error(err)
		}
		w.ends(0)
		if len(got) != 1<<20 {
			t.Errorf("%d bytes in the log", len(got))
		}
	})
	t.Run("closed", func(t *testing.T) {
		t.Parallel()
		w := newWorker(t)
		w.cfg.ContainerLogs = true
		r, log, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		defer log.Close()
		w.stdout = log
		e := emission{"text", 1 << 20}
		w.run(e.command()...)
		w.ends(0)
		w.printed(e)
		if !strings.Contains(w.agent.stderr.String(), "copy to the container's log ended") {
			t.Errorf("the agent says nothing of it:\n%s", w.agent.stderr.String())
		}
	})
}

// TestContainerLogIsKept is about a detached job's worker, which ends at once when the
// container's log has all output and is small enough to stay.
func TestContainerLogIsKept(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		e      emission
		linger time.Duration
		want   string // in the agent's log
	}{
		{"small", emission{"text", 1 << 20}, time.Hour, "inContainerLog=true"},
		{"large", emission{"text", keptLog + 1}, 10 * time.Millisecond, "inContainerLog=false"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t)
			w.listenHere()
			w.cfg.ContainerLogs, w.cfg.Detached, w.cfg.EndCopied, w.cfg.Linger = true, true, true, test.linger
			log, err := os.Create(filepath.Join(w.dir, "log"))
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			w.stdout = log
			w.startAgent()
			w.launch(test.e.command()...)
			<-w.agent.ended
			if !strings.Contains(w.agent.stderr.String(), test.want) {
				t.Errorf("the agent does not say %s:\n%s", test.want, w.agent.stderr.String())
			}
		})
	}
}

// TestLogSize counts more than the formats of logs take.
func TestLogSize(t *testing.T) {
	for _, test := range []struct {
		name  string
		text  string
		lines uint64
	}{
		{"a line", "a\n", 1},
		{"no newline", "a", 1},
		{"lines", strings.Repeat("a\n", 1000), 1000},
		{"a long line", strings.Repeat("a", 1<<20) + "\n", 64},
	} {
		r := &hodeipb.Record{Stream: hodeipb.Stream_STDOUT, Length: uint32(len(test.text))}
		got, holed := logSize(&hodeipb.Batch{Records: []*hodeipb.Record{r}}, mem.BufferSlice{mem.SliceBuffer(test.text)})
		least := uint64(len(test.text)) + test.lines*75
		if got < least || got > least+200+test.lines*10 || holed {
			t.Errorf("%s: %d, want %d or little more, holed %t", test.name, got, least, holed)
		}
	}
	if _, holed := logSize(&hodeipb.Batch{Records: []*hodeipb.Record{{Lost: 3}}}, nil); !holed {
		t.Error("what was lost is not missed")
	}
}

// TestUnread holds that what the runtime has not read is waited for.
func TestUnread(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := w.WriteString("abc"); err != nil || unread(w) != 3 {
		t.Errorf("%d bytes unread, %v", unread(w), err)
	}
	if _, err := r.Read(make([]byte, 3)); err != nil || unread(w) != 0 {
		t.Errorf("%d bytes unread, %v", unread(w), err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("abc"); err != nil || unread(f) != 0 {
		t.Errorf("%d bytes of a file unread, %v", unread(f), err)
	}
}

// TestFullSpool is about a job that has printed more than can be kept and whose
// output nobody takes: it waits, and ends all the same when it is told to.
func TestFullSpool(t *testing.T) {
	t.Parallel()
	t.Run("nobody comes", func(t *testing.T) {
		t.Parallel()
		w := newWorker(t)
		w.listenHere()
		w.cfg.SpoolBytes = 1 << 20
		// In the timeout the command has to print more than there is room for.
		w.cfg.Timeout, w.cfg.Grace, w.cfg.Linger = 3*time.Second, 100*time.Millisecond, 300*time.Millisecond
		w.startAgent()
		w.launch(emission{"text", 5 << 20}.command()...)
		w.launcher.exits(t, stoppedCode[contract.CauseDeadlineExceeded])
		w.agent.exits(t, contract.ExitOK)
		r := w.termination()
		if r.Cause != contract.CauseDeadlineExceeded || r.End < 1<<19 || r.End > 1<<20 ||
			!strings.Contains(r.Message, " bytes of output lost") {
			t.Errorf("exit record %v", r)
		}
	})
	t.Run("somebody comes", func(t *testing.T) {
		t.Parallel()
		w := newWorker(t)
		w.listenHere()
		w.cfg.SpoolBytes = 1 << 20
		w.startAgent()
		e := emission{"both", 5 << 20}
		w.launch(e.command()...)
		watcher := w.watcher()
		blocked := func(is bool) func() bool {
			return func() bool {
				n := len(watcher.states)
				return n > 0 && watcher.states[n-1].BlockedOnOutput == is
			}
		}
		watcher.until(t, "a blocked job", blocked(true))
		w.tunnel()
		watcher.until(t, "a job that goes on", blocked(false))
		r := w.ends(0)
		watcher.exited(t)
		w.printed(e)
		if r.PipesHeld || r.Message != "" {
			t.Errorf("exit record %v", r)
		}
	})
}

// TestReconnect cuts the connection again and again, at random moments: in the
// handshake, in a batch, before an ack.
func TestReconnect(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			const cuts = 7
			rnd := rand.New(rand.NewPCG(seed, 2))
			w := newWorker(t)
			n := 0
			p := newProxy(t, serveAt(t, w.server, listen(t)), func() int64 {
				if n++; n > cuts {
					return -1
				}
				return []int64{rnd.Int64N(5000), rnd.Int64N(2 << 20)}[rnd.IntN(2)]
			})
			w.cfg.Server = p.Addr().String()
			w.startAgent()
			e := emission{"both", 12 << 20}
			w.launch(e.command()...)
			w.ends(0)
			w.printed(e)
			if got := p.cuts.Load(); got != cuts {
				t.Errorf("%d cuts", got)
			}
			last := uint64(0)
			for _, offset := range w.follower.attached {
				if offset < last {
					t.Errorf("attached at %v", w.follower.attached)
				}
				last = offset
			}
		})
	}
}

// TestFlood is about the job that reaches its agent's port: what it can do is
// bounded, and a coordinator still gets in.
func TestFlood(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.listenHere()
	w.startAgent()
	const flood = 200
	closed := make(chan error, flood)
	begin := time.Now()
	for range flood {
		conn := w.dialAgent()
		t.Cleanup(func() { conn.Close() })
		go func() {
			_ = conn.SetReadDeadline(begin.Add(agenttest.Patience))
			buf := make([]byte, 4096)
			for {
				if _, err := conn.Read(buf); err != nil {
					closed <- err
					return
				}
			}
		}()
	}
	for range flood - maxStrangers {
		<-closed
	}
	dropped := time.Since(begin)
	w.tunnel()
	e := emission{"both", 200000}
	w.launch(e.command()...)
	w.follower.exited(t)
	w.ends(0)
	w.printed(e)
	if dropped > handshakeWait {
		t.Errorf("the oldest were dropped after %s", dropped)
	}
	for range maxStrangers { // the rest went with the agent, if not before
		<-closed
	}
}

func TestHandshakeIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.listenHere()
	w.startAgent()
	begin := time.Now()
	conn := w.dialAgent()
	defer conn.Close()
	_ = conn.SetReadDeadline(begin.Add(agenttest.Patience))
	buf := make([]byte, 4096)
	var err error
	for err == nil {
		_, err = conn.Read(buf)
	}
	if waited := time.Since(begin); waited < handshakeWait || waited > 2*handshakeWait {
		t.Errorf("closed after %s: %v", waited, err)
	}
	w.agent.signal(t, unix.SIGTERM)
	w.agent.exits(t, contract.ExitNeverStarted)
}
