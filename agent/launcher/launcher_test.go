package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/agent/agenttest"
	"github.com/hodei-jobs/hodei/agent/handover"
	"github.com/hodei-jobs/hodei/agent/probe"
)

// TestOpenCgroupOutside: a launcher that is not process 1 shares its cgroup with
// others, whose figures are not the command's.
func TestOpenCgroupOutside(t *testing.T) {
	if os.Getpid() == 1 {
		t.Skip("the test is process 1 itself")
	}
	dir, _, err := openCgroup()
	if err == nil {
		dir.Close()
		t.Fatal("a cgroup was opened")
	}
	if want := "not in a container"; !strings.Contains(err.Error(), want) {
		t.Errorf("openCgroup() = %v, want %q", err, want)
	}
}

// TestTellCgroup: the launcher answers what the agent asks before the start, as often
// as it asks, and starts only when it is told to.
func TestTellCgroup(t *testing.T) {
	launcher, agent := agenttest.SocketPair(t)
	defer launcher.Close()
	defer agent.Close()
	started := make(chan error, 1)
	go func() { started <- awaitStart(t.Context(), launcher, nil) }()
	want, err := probe.OwnCgroup() // 0 before Linux 6.13
	for range 2 {
		if got := handover.AskCgroup(agent); got != want {
			t.Errorf("the launcher says %d, want %d, %v", got, want, err)
		}
	}
	if len(started) > 0 {
		t.Fatalf("the command may start, %v", <-started)
	}
	if err := handover.Send(agent, handover.FromAgent{Start: true}); err != nil {
		t.Fatal(err)
	}
	if err := <-started; err != nil {
		t.Error(err)
	}
	launcher.Close()
	if got := handover.AskCgroup(agent); got != 0 {
		t.Errorf("a launcher that has gone says %d", got)
	}
}

// TestAwaitStartUntil: a launcher that must end before the command has started does.
func TestAwaitStartUntil(t *testing.T) {
	launcher, agent := agenttest.SocketPair(t)
	defer agent.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	if err := awaitStart(ctx, launcher, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestHandover(t *testing.T) {
	before := agenttest.OpenFiles(t)
	for _, merge := range []bool{false, true} {
		launcher, agent := agenttest.SocketPair(t)
		p, err := Config{MergeOutput: merge, Stdin: !merge}.makePipes()
		if err != nil {
			t.Fatal(err)
		}
		if err := sayHello(launcher, p); err != nil {
			t.Fatal(err)
		}
		got, err := handover.AcceptHello(agent)
		if err != nil {
			t.Fatal(err)
		}
		files := got.Files
		if (files[handover.FDStderr] == nil) != merge || files[handover.FDContainerOut] == nil || files[handover.FDContainerErr] == nil {
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
		if n, err := files[handover.FDStdout].Read(buf); err != nil || string(buf[:n]) != "abc" {
			t.Errorf("read %q, %v", buf[:n], err)
		}
		if _, err := unix.Read(int(files[handover.FDStdout].Fd()), buf); err != unix.EAGAIN {
			t.Errorf("read from an empty pipe: %v, want EAGAIN", err)
		}
		p.close()
		files.Close()
		launcher.Close()
		agent.Close()
	}
	if after := agenttest.OpenFiles(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

// TestAwaitDone is about a launcher whose agent still copies to the container's
// log, by a clock of its own.
func TestAwaitDone(t *testing.T) {
	const step = handover.DoneWait * 3 / 4
	tests := []struct {
		name   string
		orders []handover.FromAgent // a step after each other
		gone   bool                 // the agent is, after another step
		want   time.Duration
	}{
		{"no word", nil, false, handover.DoneWait},
		{"done", []handover.FromAgent{{Done: true}}, false, step},
		{"wait, and no more", []handover.FromAgent{{Wait: true}}, false, step + handover.DoneWait},
		{"wait and wait, then done", []handover.FromAgent{{Wait: true}, {Wait: true}, {Wait: true}, {Done: true}}, false, 4 * step},
		{"another order gives no more time", []handover.FromAgent{{Signal: 15}}, false, handover.DoneWait},
		{"gone", nil, true, step},
		{"wait, then gone", []handover.FromAgent{{Wait: true}}, true, 2 * step},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				orders, over := make(chan order, len(tt.orders)), make(chan struct{})
				go func() {
					for _, m := range tt.orders {
						time.Sleep(step)
						orders <- order{FromAgent: m}
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

// TestNotExecutable: what stands where a program was holds nobody up.
func TestNotExecutable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	readAhead(path)
	if got := notExecutable(path); got != "it is no program" {
		t.Errorf("a FIFO: %s", got)
	}
}
