package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/agent/agenttest"
)

// TestJobIsRefused has a job in another container than the agent's, of another user
// than who forwards a port, connect to the agent.
func TestJobIsRefused(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root, to be two users in two process namespaces")
	}
	w := newWorker(t)
	if err := os.Chmod(w.dir, 0o755); err != nil { // the job finds the socket there
		t.Fatal(err)
	}
	program := filepath.Join(w.dir, "test") // where nobody may execute it
	if err := Copy(program); err != nil {
		t.Fatal(err)
	}
	w.program = program
	w.agentAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	w.launcherAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	w.listenHere()
	w.startAgent()
	w.tunnel()
	w.launch(program, "test-call", w.cfg.Listen)
	w.ends(0)
	if got := string(w.follower.head); got != "connection reset by peer\n" {
		t.Errorf("the agent's answer to its job: %q", got)
	}
}

// runCall connects to a port and prints what comes of it.
func runCall(args []string) int {
	conn, err := net.Dial("tcp", args[0])
	if err == nil {
		_ = conn.SetReadDeadline(time.Now().Add(agenttest.Patience))
		_, err = conn.Read(make([]byte, 1))
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		err = errno
	}
	fmt.Println(err)
	return 0
}
