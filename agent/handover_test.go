package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hodei-jobs/hodei/agent/agenttest"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// null is a descriptor to give away.
func null(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// sendRaw sends any bytes with n descriptors.
func sendRaw(t testing.TB, c *net.UnixConn, packet []byte, f *os.File, n int) {
	t.Helper()
	var oob []byte
	if n > 0 {
		fds := make([]int, n)
		for i := range fds {
			fds[i] = int(f.Fd())
		}
		oob = unix.UnixRights(fds...)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var sendErr error
	if err := raw.Write(func(fd uintptr) bool {
		if len(packet) > 0 || n == 0 {
			sendErr = unix.Sendmsg(int(fd), packet, oob, nil, 0)
			return true
		}
		// unix.Sendmsg would put a byte into the empty packet.
		h := unix.Msghdr{Control: &oob[0]}
		h.SetControllen(len(oob))
		if _, _, errno := unix.Syscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&h)), 0); errno != 0 {
			sendErr = errno
		}
		return true
	}); err != nil || sendErr != nil {
		t.Fatal(err, sendErr)
	}
}

func TestHandover(t *testing.T) {
	before := agenttest.OpenFiles(t)
	for _, merge := range []bool{false, true} {
		launcher, agent := agenttest.SocketPair(t)
		p, err := makePipes(merge)
		if err != nil {
			t.Fatal(err)
		}
		if err := sayHello(launcher, p); err != nil {
			t.Fatal(err)
		}
		files, _, err := acceptHello(agent)
		if err != nil {
			t.Fatal(err)
		}
		if (files[fdStderr] == nil) != merge || files[fdContainerOut] == nil || files[fdContainerErr] == nil {
			t.Errorf("merge %t: got %v", merge, files)
		}
		for name, f := range files {
			flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
			if err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("%s stays open in children: %v", name, err)
			}
		}
		// The pipes are the launcher's, and reading them never blocks.
		if _, err := p.outW.WriteString("abc"); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 10)
		if n, err := files[fdStdout].Read(buf); err != nil || string(buf[:n]) != "abc" {
			t.Errorf("read %q, %v", buf[:n], err)
		}
		if _, err := unix.Read(int(files[fdStdout].Fd()), buf); err != unix.EAGAIN {
			t.Errorf("read from an empty pipe: %v, want EAGAIN", err)
		}
		p.close()
		files.close()
		launcher.Close()
		agent.Close()
	}
	if after := agenttest.OpenFiles(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

func TestHostileHello(t *testing.T) {
	hello := func(fds ...string) []byte {
		b, err := json.Marshal(launcherMsg{Hello: &helloMsg{Version: handoverVersion, FDs: fds}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	many := make([]string, 9)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	many[0] = fdStdout
	tests := []struct {
		name   string
		packet []byte
		fds    int
		want   string // of the error
	}{
		{"garbage", []byte("\x00\xff{"), 2, "invalid character"},
		{"cut", hello(fdStdout)[:20], 1, "unexpected end of JSON input"},
		{"two objects", append(hello(fdStdout), hello(fdStdout)...), 1, "invalid character '{' after top-level value"},
		{"another type", []byte(`[1]`), 1, "cannot unmarshal array"},
		{"null", []byte(`null`), 1, "the first message is not a hello"},
		{"another message", []byte(`{"exit":{"code":0}}`), 1, "the first message is not a hello"},
		{"version", []byte(`{"hello":{"version":2,"fds":["stdout"]}}`), 1, "handover version 2, want 1"},
		{"no names", hello(), 2, "2 descriptors came for 0 names"},
		{"too few", hello(fdStdout, fdStderr), 1, "1 descriptors came for 2 names"},
		{"none", hello(fdStdout), 0, "0 descriptors came for 1 names"},
		{"too many", hello(fdStdout), 8, "8 descriptors came for 1 names"},
		{"far too many", hello(many...), 9, "message of more than 4096 bytes or 8 descriptors"},
		{"as many as can be", hello(many...), 253, "message of more than 4096 bytes or 8 descriptors"},
		{"wrong names", hello("stdin", "cwd"), 2, "no stdout pipe came"},
		{"twice", hello(fdStdout, fdStdout), 2, `descriptor "stdout" came twice`},
		{"oversized", []byte(`{"hello":{"version":1,"fds":["stdout","` + strings.Repeat("x", 5000) + `"]}}`), 2,
			"message of more than 4096 bytes or 8 descriptors"},
		{"nothing but descriptors", nil, 3, "EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := null(t)
			before := agenttest.OpenFiles(t)
			launcher, agent := agenttest.SocketPair(t)
			sendRaw(t, launcher, tt.packet, f, tt.fds)
			files, _, err := acceptHello(agent)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if files != nil {
				t.Errorf("got %v", files)
			}
			launcher.Close()
			agent.Close()
			if after := agenttest.OpenFiles(t); after != before {
				t.Errorf("%d descriptors, %d before", after, before)
			}
		})
	}
}

// FuzzHello sends any packet with some descriptors over a real socket.
func FuzzHello(f *testing.F) {
	f.Add([]byte(`{"hello":{"version":1,"fds":["stdout","stderr"]}}`), uint8(2))
	f.Add([]byte(`{"hello":{"version":1,"fds":["stdout"],"FDS":["a"]},"exit":{}}`), uint8(1))
	f.Add([]byte(`{"hello":null}`), uint8(0))
	f.Add([]byte{}, uint8(9))
	f.Fuzz(func(t *testing.T, packet []byte, n uint8) {
		if len(packet) > 2*maxPacket {
			t.Skip("longer finds no more")
		}
		n %= 12
		file := null(t)
		before := agenttest.OpenFiles(t)
		launcher, agent := agenttest.SocketPair(t)
		sendRaw(t, launcher, packet, file, int(n))
		files, _, err := acceptHello(agent)
		if err == nil && (len(files) != int(n) || files[fdStdout] == nil) {
			t.Errorf("%d descriptors accepted as %v", n, files)
		}
		if err != nil && files != nil {
			t.Errorf("error %v with %v", err, files)
		}
		files.close()
		launcher.Close()
		agent.Close()
		if after := agenttest.OpenFiles(t); after != before {
			t.Errorf("%d descriptors, %d before", after, before)
		}
	})
}

func TestSendIsBounded(t *testing.T) {
	launcher, agent := agenttest.SocketPair(t)
	defer launcher.Close()
	defer agent.Close()
	if err := send(launcher, launcherMsg{Exit: &exitMsg{Error: strings.Repeat("x", maxPacket)}}); err == nil {
		t.Error("a message was sent that the other side refuses")
	}
}

// lonely is an agent whose launcher and coordinators are the test.
func lonely(t testing.TB) *agent {
	t.Helper()
	return &agent{
		Config: Config{Grace: time.Hour, Linger: time.Hour, Log: slog.New(slog.NewTextHandler(io.Discard, nil))},
		spool:  testSpool(t, 1<<20),
		orders: make(chan *hodeipb.Control, 16), changed: make(chan struct{}),
		state: &hodeipb.State{Phase: hodeipb.Phase_WAITING}, samples: newSampler(),
	}
}

func (a *agent) phase() hodeipb.Phase {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state.Phase
}

// TestConversation plays the launcher against supervise.
func TestConversation(t *testing.T) {
	exit := func(code, signal int) launcherMsg {
		return launcherMsg{Exit: &exitMsg{Code: code, Signal: signal, Finished: time.Now()}}
	}
	started := launcherMsg{Started: &startedMsg{Time: time.Now()}}
	tests := []struct {
		name   string
		orders []*hodeipb.Control
		says   []any
		code   int32
		cause  string
		ran    bool
	}{
		{"as it should be", nil, []any{started, exit(0, 0)}, 0, contract.CauseCompleted, true},
		{"never ran", nil, []any{exit(127, 0)}, 127, contract.CauseError, false},
		{"goes without a word", nil, nil, 137, "", false},
		{"goes in the middle", nil, []any{started}, 137, "", true},
		{"starts twice", nil, []any{started, started, exit(1, 0)}, 1, contract.CauseError, true},
		{"talks nonsense", nil, []any{started, "nonsense", exit(0, 0)}, 137, "", true},
		{"says hello again", nil, []any{launcherMsg{Hello: &helloMsg{}}, started, exit(143, 15)}, 143, contract.CauseSignaled, true},
		{"says nothing", nil, []any{launcherMsg{}, exit(3, 0)}, 3, contract.CauseError, false},
		{"cancelled before it started",
			[]*hodeipb.Control{{Order: &hodeipb.Control_Cancel{Cancel: &hodeipb.Cancel{Grace: durationpb.New(time.Hour)}}}},
			[]any{started, exit(0, 0)}, 0, contract.CauseCancelled, true},
		{"a signal before it started", []*hodeipb.Control{{Order: &hodeipb.Control_Signal{Signal: 10}}}, []any{started, exit(0, 0)}, 0,
			contract.CauseCompleted, true},
		{"empty orders",
			[]*hodeipb.Control{{}, {Order: &hodeipb.Control_Signal{}}, {Order: &hodeipb.Control_Signal{Signal: 65}},
				{Order: &hodeipb.Control_Signal{Signal: -1}}},
			[]any{started, exit(0, 0)}, 0, contract.CauseCompleted, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := lonely(t)
			a.orders = make(chan *hodeipb.Control) // one that is sent has been taken
			launcher, conn := agenttest.SocketPair(t)
			defer conn.Close()
			result := make(chan *hodeipb.ExitRecord, 1)
			go func() {
				record, err := a.supervise(t.Context(), &handover{conn: conn}, &meter{})
				if err != nil {
					t.Error(err)
				}
				result <- record
			}()
			hear := func(what string) agentMsg {
				t.Helper()
				var m agentMsg
				if _, err := receive(launcher, &m); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				return m
			}
			if !hear("start").Start {
				t.Fatal("the first message is not to start")
			}
			for _, order := range tt.orders {
				a.orders <- order
				if order.GetCancel() != nil {
					if m := hear("cancel"); m.Signal != int(unix.SIGTERM) {
						t.Fatalf("got %+v, want SIGTERM", m)
					}
					if phase := a.phase(); phase != hodeipb.Phase_STOPPING {
						t.Errorf("told to stop, it is %s", phase)
					}
				}
			}
			for _, m := range tt.says {
				_ = send(launcher, m)
			}
			if n := len(tt.says); n > 0 && tt.code != 137 {
				if !hear("done").Done {
					t.Error("the last message is not done")
				}
			}
			launcher.Close()
			r := <-result
			if phase := a.phase(); r.Code != tt.code || r.Cause != tt.cause || (r.Started != nil) != tt.ran ||
				phase != hodeipb.Phase_ENDED {
				t.Errorf("exit record %v in phase %s", r, phase)
			}
		})
	}
}

// TestAwaitDone is about a launcher whose agent still copies to the container's
// log, by a clock of its own.
func TestAwaitDone(t *testing.T) {
	const step = doneWait * 3 / 4
	tests := []struct {
		name   string
		orders []agentMsg // a step after each other
		gone   bool       // the agent is, after another step
		want   time.Duration
	}{
		{"no word", nil, false, doneWait},
		{"done", []agentMsg{{Done: true}}, false, step},
		{"wait, and no more", []agentMsg{{Wait: true}}, false, step + doneWait},
		{"wait and wait, then done", []agentMsg{{Wait: true}, {Wait: true}, {Wait: true}, {Done: true}}, false, 4 * step},
		{"another order gives no more time", []agentMsg{{Signal: 15}}, false, doneWait},
		{"gone", nil, true, step},
		{"wait, then gone", []agentMsg{{Wait: true}}, true, 2 * step},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				orders, over := make(chan agentMsg, len(tt.orders)), make(chan struct{})
				go func() {
					for _, m := range tt.orders {
						time.Sleep(step)
						orders <- m
					}
					if tt.gone {
						time.Sleep(step)
						close(orders)
					}
					close(over)
				}()
				begin := time.Now()
				(&launched{}).awaitDone(orders)
				if waited := time.Since(begin); waited != tt.want {
					t.Errorf("waited %s, want %s", waited, tt.want)
				}
				<-over
			})
		})
	}
}

func TestRecord(t *testing.T) {
	finished := time.Now()
	const oom = "memory reached its limit and the kernel killed a process of the job"
	tests := []struct {
		name    string
		stopped string
		podEnds bool
		exit    *exitMsg
		oom     string
		code    int32
		signal  int32
		cause   string
		message string
	}{
		{"success", "", false, &exitMsg{}, "", 0, 0, contract.CauseCompleted, ""},
		{"failure", "", false, &exitMsg{Code: 7}, "", 7, 0, contract.CauseError, ""},
		{"signal", "", false, &exitMsg{Code: 137, Signal: 9}, "", 137, 9, contract.CauseSignaled, ""},
		{"out of memory", "", false, &exitMsg{Code: 137, Signal: 9}, oom, 137, 9, contract.CauseOOMKilled, oom},
		{"out of memory, swallowed", "", false, &exitMsg{}, oom, 0, 0, contract.CauseOOMKilled, oom},
		{"out of memory, the launcher too", "", false, nil, oom, 137, 9, contract.CauseOOMKilled, oom},
		{"launcher killed", "", false, nil, "", 137, 9, "", "the job's first process was killed"},
		{"timeout", contract.CauseDeadlineExceeded, false, &exitMsg{Code: 143, Signal: 15}, "", 143, 15, contract.CauseDeadlineExceeded,
			"the job ran longer than its timeout of 1m0s"},
		{"cancelled", contract.CauseCancelled, false, &exitMsg{}, oom, 0, 0, contract.CauseCancelled, ""},
		{"cancelled, launcher killed", contract.CauseCancelled, false, nil, "", 137, 9, contract.CauseCancelled,
			"the job's first process was killed"},
		{"the Pod's end", "", true, &exitMsg{Code: 143, Signal: 15}, "", 143, 15, "", "the Pod was told to end"},
		{"the Pod's end, in a hurry", "", true, &exitMsg{Code: 137, Signal: 9}, "", 137, 9, "", "the Pod was told to end"},
		{"the Pod's end, heard", "", true, &exitMsg{Code: 9}, "", 9, 0, contract.CauseError, ""},
		{"the Pod's end, another signal", "", true, &exitMsg{Code: 139, Signal: 11}, "", 139, 11, contract.CauseSignaled, ""},
		{"the Pod's end, cancelled before", contract.CauseCancelled, true, &exitMsg{Code: 143, Signal: 15}, "", 143, 15,
			contract.CauseCancelled, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.exit != nil {
				tt.exit.Finished = finished
			}
			synctest.Test(t, func(t *testing.T) {
				s := &supervisor{agent: &agent{Config: Config{Timeout: time.Minute, InPod: true}}, stopped: tt.stopped}
				ctx, deleted := context.WithCancel(t.Context())
				defer deleted()
				if tt.podEnds {
					deleted()
				}
				r := s.record(ctx, tt.exit, tt.oom)
				if r.Code != tt.code || r.Signal != tt.signal || r.Cause != tt.cause || r.Message != tt.message || r.Started != nil {
					t.Errorf("exit record %v", r)
				}
				if tt.exit != nil && !r.Finished.AsTime().Equal(finished) {
					t.Errorf("finished at %v", r.Finished)
				}
			})
		})
	}
}

// TestPodEnds waits for word of the Pod's end only of a signal that may be its.
func TestPodEnds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name       string
		inPod      bool
		told, last unix.Signal
		heard      bool          // the launcher a signal
		after      time.Duration // of our own signal; 0: there is none
		want       bool
		took       time.Duration
	}{
		{"at once", true, 0, unix.SIGTERM, false, 1, true, 1},
		{"a moment later", true, 0, unix.SIGKILL, false, podEndsWait / 2, true, podEndsWait / 2},
		{"never", true, 0, unix.SIGKILL, false, 0, false, podEndsWait},
		{"another signal", true, 0, unix.SIGSEGV, false, 1, false, 0},
		{"by our order", true, unix.SIGTERM, unix.SIGTERM, false, 1, false, 0},
		{"not by our order", true, unix.SIGUSR1, unix.SIGTERM, false, 1, true, 1},
		{"by itself", true, 0, 0, false, 1, false, 0},
		{"by itself, in answer to a signal", true, 0, 0, true, podEndsWait / 2, true, podEndsWait / 2},
		{"by itself, after a signal of the job's own", true, 0, 0, true, 0, false, podEndsWait},
		{"no Pod", false, 0, unix.SIGTERM, true, 1, false, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &supervisor{agent: &agent{Config: Config{InPod: test.inPod}}, told: test.told}
				ctx, deleted := context.WithCancel(t.Context())
				defer deleted()
				if test.after > 0 {
					time.AfterFunc(test.after, deleted)
				}
				began := time.Now()
				if got := s.podEnds(ctx, &exitMsg{Signal: int(test.last), Told: test.heard}); got != test.want ||
					time.Since(began) != test.took {
					t.Errorf("%t after %s, want %t after %s", got, time.Since(began), test.want, test.took)
				}
			})
		})
	}
}

func TestCopy(t *testing.T) {
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	names := func(dir string) []string {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, e := range entries {
			all = append(all, e.Name())
		}
		return all
	}
	t.Run("copies", func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "launcher")
		for range 2 { // over an earlier one, which may be running
			if err := Copy(path); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(path)
			if err != nil || info.Mode() != 0o555 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			got, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(got, exe) {
				t.Errorf("%d bytes of %d, %v", len(got), len(exe), err)
			}
			if all := names(dir); len(all) != 1 {
				t.Errorf("there are %v", all)
			}
		}
		start(t, nil, path, "test-copy", filepath.Join(dir, "again")).exits(t, 0)
	})
	t.Run("no directory", func(t *testing.T) {
		if err := Copy(filepath.Join(t.TempDir(), "no", "launcher")); !os.IsNotExist(err) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a directory in its place", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "launcher"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := Copy(filepath.Join(dir, "launcher")); err == nil {
			t.Error("no error")
		}
		if all := names(dir); len(all) != 1 {
			t.Errorf("there are %v", all)
		}
	})
	t.Run("no room", func(t *testing.T) {
		dir := t.TempDir()
		p := start(t, nil, self("test-copy", filepath.Join(dir, "launcher"), "100000")...)
		p.exits(t, 1)
		if !strings.Contains(p.stderr.String(), "file too large") {
			t.Errorf("error %q", p.stderr.String())
		}
		if all := names(dir); len(all) > 0 {
			t.Errorf("there are %v", all)
		}
	})
	t.Run("full disk", func(t *testing.T) {
		dir := agenttest.SmallDisk(t)
		if err := Copy(filepath.Join(dir, "launcher")); err == nil || !strings.Contains(err.Error(), "no space left on device") {
			t.Errorf("error %v", err)
		}
		if all := names(dir); len(all) > 0 {
			t.Errorf("there are %v", all)
		}
	})
	t.Run("never seen in part", func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "launcher")
		done := make(chan error, 1)
		go func() { done <- Copy(path) }()
		for {
			info, err := os.Stat(path)
			if err == nil && (info.Size() != int64(len(exe)) || info.Mode() != 0o555) {
				t.Fatalf("seen with %d bytes of %d, mode %v", info.Size(), len(exe), info.Mode())
			}
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
				return
			default:
			}
		}
	})
}

// TestPatiently: what the kernel has no room for is tried again, for a while, and then
// told by its name; another error is told at once.
func TestPatiently(t *testing.T) {
	full := os.NewSyscallError("sendmsg", unix.ETOOMANYREFS)
	for _, tt := range []struct {
		name  string
		sends func(tries int) error
		took  time.Duration
		want  string
	}{
		{"at once", func(int) error { return nil }, 0, ""},
		{"another error", func(int) error { return unix.EPIPE }, 0, "broken pipe"},
		{"room is made", func(tries int) error {
			if tries < 10 {
				return full
			}
			return nil
		}, 10 * flightPause, ""},
		{"no room", func(int) error { return full }, flightWait + flightPause, fmt.Sprintf("processes of uid %d on this node, "+
			"of this job or of others, have too many descriptors in flight: sendmsg: too many references: cannot splice", os.Getuid())},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, tries := time.Now(), -1
				err := patiently(func() error {
					tries++
					return tt.sends(tries)
				})
				if took := time.Since(began); took != tt.took {
					t.Errorf("after %s, want %s", took, tt.took)
				}
				if err == nil && tt.want != "" || err != nil && err.Error() != tt.want {
					t.Errorf("got %v, want %q", err, tt.want)
				}
			})
		})
	}
}
