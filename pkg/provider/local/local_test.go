package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/mem"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// patience bounds what a test waits for; only a failing one comes near.
const patience = 30 * time.Second

func TestCheck(t *testing.T) {
	one := resource.MustParse("1")
	tests := []struct {
		path   string // "none": nothing is refused
		change func(*job.Spec)
	}{
		{"none", func(*job.Spec) {}},
		{"none", func(s *job.Spec) {
			s.Env, s.Workdir, s.Timeout, s.Grace, s.MergeOutput = []job.EnvVar{{Name: "A"}}, "/", 1, 1, true
			s.LogSpool, s.LogOverflow = &one, job.OverflowDrop
		}},
		{"image", func(s *job.Spec) { s.Image = "busybox" }},
		{"user", func(s *job.Spec) { s.User = "0" }},
		{"retries", func(s *job.Spec) { s.Retries = 1 }},
		{"envFrom", func(s *job.Spec) { s.EnvFrom = []job.EnvSource{{Secret: "a"}} }},
		{"cpu", func(s *job.Spec) { s.CPU = &one }},
		{"cpuLimit", func(s *job.Spec) { s.CPULimit = &one }},
		{"memory", func(s *job.Spec) { s.Memory = &one }},
		{"memoryLimit", func(s *job.Spec) { s.MemoryLimit = &one }},
		{"ephemeralStorage", func(s *job.Spec) { s.EphemeralStorage = &one }},
		{"containerLogs", func(s *job.Spec) { s.ContainerLogs = true }},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			s := &job.Spec{Name: "a", Command: []string{"true"}}
			tt.change(s)
			err := Check(s)
			want := tt.path + ": needs a cluster"
			if tt.path == "none" && err != nil || tt.path != "none" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
				t.Errorf("error %v, want %q", err, want)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	tests := []struct {
		name  string
		own   []string
		added []job.EnvVar
		want  []string
	}{
		{"ours is passed on", []string{"A=1", "B=", "C=x=y"}, nil, []string{"A=1", "B=", "C=x=y", "HODEI_JOB=x", "HODEI_ATTEMPT=x"}},
		{"but what is hodei's", []string{"HODEI_K8S_NAMESPACE=x", "HODEI_=", "HODEIX=1", "XHODEI_=2"}, nil,
			[]string{"HODEIX=1", "XHODEI_=2", "HODEI_JOB=x", "HODEI_ATTEMPT=x"}},
		{"the job's comes last and counts", []string{"A=1"}, []job.EnvVar{{Name: "A"}, {Name: contract.EnvJob, Value: "3"}},
			[]string{"A=1", "HODEI_JOB=x", "HODEI_ATTEMPT=x", "A=", "HODEI_JOB=3"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := environment(tt.own, &job.Spec{Name: "x", Env: tt.added}); fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// worker is the path of the program that jobs run with.
var worker string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "h")
	if err != nil {
		panic(err)
	}
	worker = filepath.Join(dir, "hodei-worker")
	build := exec.Command("go", "build", "-o", worker, "../../../cmd/hodei-worker")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%v\n%s", err, out))
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// printed is a follower that keeps what a job prints.
type printed struct {
	mu    sync.Mutex
	text  bytes.Buffer
	wrote chan struct{} // gets a value for each batch
}

func (p *printed) Attached(*hodeipb.Hello) (coordinator.Resume, error) {
	return coordinator.Resume{Offset: uint64(len(p.String()))}, nil
}
func (p *printed) Metrics(string, *hodeipb.Metrics) {}

func (p *printed) State(string, *hodeipb.State)             {}
func (p *printed) Exited(string, *hodeipb.ExitRecord) error { return nil }
func (p *printed) Output(_ context.Context, _ string, _ *hodeipb.Batch, data mem.BufferSlice) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text.Write(data.Materialize())
	select {
	case p.wrote <- struct{}{}:
	default:
	}
	return nil
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// line waits for a whole line.
func (p *printed) line(t *testing.T) string {
	t.Helper()
	timeout := time.After(patience)
	for {
		if line, _, ok := strings.Cut(p.String(), "\n"); ok {
			return line
		}
		select {
		case <-p.wrote:
		case <-timeout:
			t.Fatal("nothing was printed")
		}
	}
}

// submit starts a job with a coordinator, in a directory for temporary files of
// the test's own.
func submit(t *testing.T, spec *job.Spec) (*Run, *printed) {
	t.Helper()
	// The path of a socket has at most 108 bytes, which t.TempDir() may exceed.
	tmp, err := os.MkdirTemp("", "h") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	t.Setenv("TMPDIR", tmp)
	spec.SetDefaults()
	r, err := (&Provider{Worker: worker}).Submit(t.Context(), spec, issue(t, spec.Name), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	p := &printed{wrote: make(chan struct{}, 1)}
	server := &coordinator.Server{TLS: r.TLS(), Namespace: Namespace, Job: spec.Name, Follower: p}
	served := make(chan struct{})
	go func() {
		_ = server.Serve(r.Listener()) // fails when Close closes the listener
		close(served)
	}()
	t.Cleanup(func() { server.Close(); <-served })
	return r, p
}

// gone checks that a run has left nothing behind.
func gone(t *testing.T, r *Run) {
	t.Helper()
	if _, err := os.Stat(r.dir); !os.IsNotExist(err) {
		t.Errorf("%s is there: %v", r.dir, err)
	}
	for _, p := range []*process{r.agent, r.launcher} {
		if p != nil && p.cmd.ProcessState == nil {
			t.Errorf("%v runs", p.cmd.Args)
		}
	}
	if _, err := r.listener.Accept(); err == nil {
		t.Error("the listener is open")
	}
}

func TestRun(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HODEI_SECRET", "not for the job")
	r, p := submit(t, &job.Spec{
		Command: []string{"sh", "-c", "pwd; echo $A-$HODEI_SECRET-; exit 7"}, Workdir: dir, Env: []job.EnvVar{{Name: "A", Value: "b"}},
	})
	var phases []job.Phase
	outcome, err := r.Watch(t.Context(), job.Observer{Report: func(e job.Event) { phases = append(phases, e.Phase) }})
	if err != nil || outcome.Cause != job.Error || outcome.ExitCode() != 7 {
		t.Errorf("outcome %+v, %v", outcome, err)
	}
	if got, want := p.String(), dir+"\nb--\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	if len(phases) == 0 || phases[0] != job.Submitted {
		t.Errorf("phases %v", phases)
	}
	r.Close()
	gone(t, r)
	r.Close() // again
	if again, _ := submit(t, &job.Spec{Command: []string{"true"}}); again.UID() == "" || again.UID() == r.UID() {
		t.Errorf("two runs of one name have the UIDs %q and %q", r.UID(), again.UID())
	}
}

// TestClose ends a job in its middle that does not want to.
func TestClose(t *testing.T) {
	r, p := submit(t,
		&job.Spec{Command: []string{"sh", "-c", "trap '' TERM; echo $$; while :; do sleep 1; done"}, Grace: 100 * time.Millisecond})
	pid, err := strconv.Atoi(p.line(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Close()
	gone(t, r)
	for deadline := time.Now().Add(patience); ; {
		// Whoever inherits it may take a moment to reap it.
		if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
			break
		}
		if time.Now().After(deadline) {
			_ = syscall.Kill(-pid, syscall.SIGKILL)
			t.Fatal("the command runs")
		}
		time.Sleep(time.Millisecond) // nothing tells
	}
}

func TestWatchEnds(t *testing.T) {
	r, p := submit(t, &job.Spec{Command: []string{"sh", "-c", "echo up; exec sleep 1000"}})
	p.line(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Watch(ctx, job.Observer{Report: func(job.Event) {}}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if err := r.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	r.Close()
	gone(t, r)
}

func TestAgentLost(t *testing.T) {
	r, p := submit(t, &job.Spec{Command: []string{"sh", "-c", "echo up; exec sleep 1000"}})
	p.line(t)
	if err := r.agent.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, err := r.Watch(t.Context(), job.Observer{Report: func(job.Event) {}})
	failure, ok := errors.AsType[*job.Failure](err)
	if !ok || failure.Cause != job.AgentLost || !strings.Contains(failure.Message, "signal: killed") {
		t.Errorf("error %v", err)
	}
	r.Close()
	gone(t, r)
}

// TestLauncherEnds: that it has is told, and how. An agent that it never came to can't know.
func TestLauncherEnds(t *testing.T) {
	r, p := submit(t, &job.Spec{Command: []string{"sh", "-c", "echo up; exec sleep 1000"}})
	p.line(t)
	ctx, cancel := context.WithCancel(t.Context())
	told := ""
	tell := job.Observer{Report: func(job.Event) {}, JobEnded: func(attempt, how string) {
		told = attempt + ": " + how
		cancel()
	}}
	// The agent would end with it, at the same time.
	if err := r.agent.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := r.launcher.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Watch(ctx, tell); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if want := r.name + ": signal: killed"; told != want {
		t.Errorf("told %q, want %q", told, want)
	}
	if err := r.agent.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	r.Close()
	gone(t, r)
}

// issue makes a job's certificates.
func issue(t *testing.T, name string) *certs.JobCerts {
	t.Helper()
	authority, err := certs.NewAuthority(0)
	if err != nil {
		t.Fatal(err)
	}
	id, err := authority.IssueJob(certs.ID{Namespace: Namespace, Job: name})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestSubmitFails holds that an error leaves nothing behind.
func TestSubmitFails(t *testing.T) {
	good := issue(t, "x")
	tests := []struct {
		name, worker, want string
		spec               job.Spec
		id                 *certs.JobCerts
	}{
		{"needs a cluster", worker, "image: needs a cluster", job.Spec{Image: "busybox"}, good},
		{"no worker program", "/no/hodei-worker", "/no/hodei-worker", job.Spec{}, good},
		{"no such directory", worker, `workdir: "/no/where": there is no such directory`, job.Spec{Workdir: "/no/where"}, good},
		{"no certificates", worker, "CA of the job: malformed", job.Spec{}, &certs.JobCerts{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tmp := t.TempDir()
			t.Setenv("TMPDIR", tmp)
			tt.spec.Command = []string{"true"}
			tt.spec.SetDefaults()
			_, err := (&Provider{Worker: tt.worker}).Submit(t.Context(), &tt.spec, tt.id, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %s", err, tt.want)
			}
			left, err := os.ReadDir(tmp)
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}
