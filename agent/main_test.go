package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/agent/agenttest"
	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/contract"
)

// roles are what this test binary is besides: the two programs under test, and
// commands that do on purpose what commands do by accident. Their name is the
// first argument.
var roles = map[string]func(args []string) int{
	"test-agent":    runAgent,
	"test-launch":   runLauncher,
	"test-copy":     runCopy,
	"test-emit":     runEmit,
	"test-stubborn": runStubborn,
	"test-orphan":   runOrphan,
	"test-late":     runLate,
	"test-call":     runCall,
	"test-burn":     runBurn,
	"test-parent":   runParent,

	"test-contained": runContained,
	"test-transfer":  runTransfer,
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if role := roles[os.Args[1]]; role != nil {
			os.Exit(role(os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

// broken is the exit status of a role that could not do its part.
const broken = 99

func fail(args ...any) int {
	fmt.Fprintln(os.Stderr, args...)
	return broken
}

// agentConfig is a Config as text.
type agentConfig struct {
	Config
	Files      certs.Files
	ServerName string
}

func runAgent(args []string) int {
	var c agentConfig
	if err := json.Unmarshal([]byte(args[0]), &c); err != nil {
		return fail(err)
	}
	var err error
	if c.TLS, err = c.Files.ClientConfig(c.ServerName); err != nil {
		return fail(err)
	}
	go endWithTest()
	c.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	err = Run(ctx, c.Config)
	if err != nil {
		c.Log.Error("agent ends", "error", err)
	}
	switch { // as cmd/hodei-worker
	case err == nil:
		return contract.ExitOK
	case errors.Is(err, ErrNeverStarted):
		return contract.ExitNeverStarted
	case errors.Is(err, ErrNoEBPF):
		return contract.ExitNoEBPF
	case errors.Is(err, ErrStartTimeout):
		return contract.ExitStartTimeout
	}
	return contract.ExitBroken
}

// endWithTest ends this process when the test's has ended, however it has: the
// other end of the pipe is closed then. The launcher ends with the agent.
func endWithTest() {
	_, _ = io.Copy(io.Discard, os.NewFile(3, "alive"))
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
}

func runLauncher(args []string) int {
	unix.CloseOnExec(3)
	var c LaunchConfig
	if err := json.Unmarshal([]byte(args[0]), &c); err != nil {
		return fail(err)
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGUSR2) // for TestLaunchUntil
	defer stop()
	status, err := Launch(ctx, c, signals)
	switch { // as cmd/hodei-worker
	case errors.Is(err, ErrAgentGone):
		return contract.ExitAgentGone
	case err != nil:
		fmt.Fprintf(os.Stderr, "%s%v\n", contract.LaunchPrefix, err)
		return contract.ExitAgentGone
	}
	return status
}

func runCopy(args []string) int {
	if len(args) > 1 { // no file may grow beyond so many bytes
		limit, err := strconv.ParseUint(args[1], 10, 64)
		if err != nil {
			return fail(err)
		}
		signal.Ignore(unix.SIGXFSZ)
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
			return fail(err)
		}
	}
	if err := Copy(args[0]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// emission is output that a command prints and a test expects.
type emission struct {
	kind string
	size int
}

// write prints it. It is the same each time.
func (e emission) write(stdout, stderr io.Writer) error {
	rnd := rand.New(rand.NewPCG(1, uint64(e.size)))
	chunk := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return b
	}
	switch e.kind {
	case "random":
		return write(stdout, chunk(e.size))
	case "line":
		return write(stdout, []byte(strings.Repeat("x", e.size)+"\n"))
	case "text":
		out := bufio.NewWriterSize(stdout, 32<<10)
		for n, i := 0, 0; n < e.size; i++ {
			k, err := fmt.Fprintf(out, "line %d of a job that has much to say\n", i)
			if err != nil {
				return err
			}
			n += k
		}
		return out.Flush()
	case "both":
		for n := 0; n < e.size; {
			b := chunk(1 + rnd.IntN(9000))
			n += len(b)
			if err := write([]io.Writer{stdout, stderr}[rnd.IntN(2)], b); err != nil {
				return err
			}
		}
		return nil
	case "turns": // small writes, one here and one there
		for i := range e.size {
			if _, err := fmt.Fprintf([]io.Writer{stdout, stderr}[i%2], "%d,", i); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("no such kind %q", e.kind)
}

func write(w io.Writer, b []byte) error {
	_, err := w.Write(b)
	return err
}

// command is the command that prints it.
func (e emission) command() []string { return self("test-emit", e.kind, strconv.Itoa(e.size)) }

func self(args ...string) []string {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return append([]string{path}, args...)
}

func runEmit(args []string) int {
	size, err := strconv.Atoi(args[1])
	if err != nil {
		return fail(err)
	}
	if err := (emission{args[0], size}).write(os.Stdout, os.Stderr); err != nil {
		return fail(err)
	}
	return 0
}

// runStubborn says what signals it gets, and goes on until its standard input ends.
func runStubborn([]string) int {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGTERM, unix.SIGUSR1)
	go func() {
		for s := range signals {
			fmt.Println(s)
		}
	}()
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// runOrphan leaves a process behind that ends, and waits until somebody has
// reaped it: that of a zombie stays in /proc.
func runOrphan([]string) int {
	out, err := exec.Command("sh", "-c", "true & echo $!").Output()
	if err != nil {
		return fail(err)
	}
	stat := "/proc/" + strings.TrimSpace(string(out)) + "/stat"
	for deadline := time.Now().Add(agenttest.Patience); ; {
		text, err := os.ReadFile(stat)
		if os.IsNotExist(err) || err == unix.ESRCH {
			return 0
		}
		if time.Now().After(deadline) {
			return fail("still there:", string(text))
		}
		time.Sleep(time.Millisecond) // nothing tells
	}
}

// runLate ends at once and leaves a process behind that writes after that.
func runLate(args []string) int {
	parent := os.Getpid()
	if len(args) == 0 {
		child := exec.Command(self()[0], "test-late", strconv.Itoa(parent))
		child.Stdout = os.Stdout
		ready, err := child.StderrPipe()
		if err != nil {
			return fail(err)
		}
		if err := child.Start(); err != nil {
			return fail(err)
		}
		if _, err := io.Copy(io.Discard, ready); err != nil { // it is up
			return fail(err)
		}
		fmt.Println("early")
		return 3
	}
	first, err := strconv.Atoi(args[0])
	if err != nil {
		return fail(err)
	}
	os.Stderr.Close()
	pidfd, err := unix.PidfdOpen(first, 0)
	if err == nil {
		for err = unix.EINTR; err == unix.EINTR; {
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, -1)
		}
	}
	fmt.Println("late")
	return 0
}

// burnBytes is what runBurn holds in memory besides: more than a launcher with the race
// detector in it.
const burnBytes = 128 << 20

// runBurn uses so much CPU time, with some memory in hand.
func runBurn(args []string) int {
	want, err := time.ParseDuration(args[0])
	if err != nil {
		return fail(err)
	}
	if _, err := unix.Mmap(-1, 0, burnBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_POPULATE); err != nil {
		return fail(err)
	}
	for n := 0; ; {
		var used unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
			return fail(err)
		}
		if time.Duration(used.Utime.Nano()+used.Stime.Nano()) >= want {
			return 0
		}
		for i := range 1 << 20 {
			n += i
		}
	}
}

// runParent runs runBurn, prints what the kernel says that it has used, and goes on
// until its standard input ends.
func runParent(args []string) int {
	cmd := exec.Command(self()[0], "test-burn", args[0])
	if err := cmd.Run(); err != nil {
		return fail(err)
	}
	fmt.Println(int64(cmd.ProcessState.UserTime()), int64(cmd.ProcessState.SystemTime()))
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}
