package launcher

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/agent/agenttest"
	"github.com/hodei-jobs/hodei/agent/handover"
)

// TestBesideHangs: commands that are looked for without end, as on a dead network file system, hold up neither others,
// nor the job's signals, nor its end. They are bounded.
func TestBesideHangs(t *testing.T) {
	conn, agent := agenttest.SocketPair(t)
	defer agent.Close()
	if err := agent.SetDeadline(time.Now().Add(agenttest.Patience)); err != nil {
		t.Fatal(err)
	}
	ends, err := Config{}.makePipes()
	if err != nil {
		t.Fatal(err)
	}
	defer ends.close()
	if ends.inR, err = os.Open(os.DevNull); err != nil {
		t.Fatal(err)
	}
	found := surroundings{path: "/bin/sleep", env: os.Environ()}
	pid, err := found.start([]string{"sleep", "1000"}, ends, false)
	if err != nil {
		t.Fatal(err)
	}
	l := &launched{child: child{pid: pid}, conn: conn, grace: time.Minute, beside: newBeside(conn, found)}
	hang, hanging := make(chan struct{}), make(chan struct{}, handover.MaxExecs)
	defer close(hang)
	turns := make(chan bool, handover.MaxExecs+1)
	l.beside.look = func([]int) ([]string, surroundings, error) {
		if <-turns {
			hanging <- struct{}{}
			<-hang
		}
		return nil, surroundings{}, errors.New("no such thing")
	}
	ended := make(chan error, 1)
	go func() {
		_, err := l.supervise(t.Context())
		ended <- err
	}()
	id := uint64(0)
	begin := func(hangs bool) {
		id++
		turns <- hangs
		if err := handover.Send(agent, handover.FromAgent{Exec: &handover.Exec{ID: id}}); err != nil {
			t.Fatal(err)
		}
	}
	hears := func() (m handover.FromLauncher) {
		if _, err := handover.Receive(agent, &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	refused := func(want string) {
		if m := hears(); m.ExecExit == nil || m.ExecExit.ID != id || m.ExecExit.Error != want {
			t.Errorf("got %+v, want the end of %d: %s", m.ExecExit, id, want)
		}
	}
	for range handover.MaxExecs - 1 {
		begin(true)
		<-hanging
	}
	begin(false)
	refused("no such thing")
	begin(true)
	<-hanging
	begin(true)
	refused("16 other commands are still being looked for")
	if err := handover.Send(agent, handover.FromAgent{Signal: int(unix.SIGTERM)}); err != nil {
		t.Fatal(err)
	}
	if m := hears(); m.Exit == nil || m.Exit.Signal != int(unix.SIGTERM) {
		t.Errorf("got %+v, want the job's end", m)
	}
	if err := handover.Send(agent, handover.FromAgent{Done: true}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestBesideWaiting: orders for a command that is being looked for wait, a bounded number of them, and the last counts.
func TestBesideWaiting(t *testing.T) {
	b := newBeside(nil, surroundings{})
	b.preparing[1] = nil
	for n := range maxWaiting + 5 {
		b.obey(&handover.ExecOrder{ID: 1, Signal: n + 1})
	}
	b.obey(&handover.ExecOrder{ID: 2, Signal: 9}) // of nobody
	got := b.preparing[1]
	if len(b.preparing) != 1 || len(got) != maxWaiting || got[0].Signal != 1 || got[maxWaiting-1].Signal != maxWaiting+5 {
		t.Errorf("%d orders wait, for %d commands: %v", len(got), len(b.preparing), got)
	}
}
