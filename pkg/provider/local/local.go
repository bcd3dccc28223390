// Package local runs jobs as processes of this machine: the same agent and
// launcher as in a Pod, the same protocol over mTLS, on loopback. It is for
// trying out and for tests; it isolates nothing. Start with [Provider.Submit].
package local

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

// Namespace stands in certificates and hellos where a cluster has one.
const Namespace = "local"

// closeWait is how long the processes are given to end by themselves.
const closeWait = 5 * time.Second

// deleteWait is what is left of it when the job is given up.
const deleteWait = 100 * time.Millisecond

// Provider runs jobs with the worker program at Worker, a path.
type Provider struct{ Worker string }

// FindWorker looks for hodei-worker beside the running program and on PATH.
func FindWorker() (string, error) {
	if self, err := os.Executable(); err == nil {
		path := filepath.Join(filepath.Dir(self), "hodei-worker")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath("hodei-worker")
	if err != nil {
		return "", &job.Failure{Cause: job.ConfigError, Err: err,
			Message: "the program hodei-worker is neither beside hodei nor on PATH",
			Hint:    "make build, or put it there from the same release"}
	}
	return path, nil
}

// Describe says in a few words where jobs go.
func (p *Provider) Describe() string { return "this machine" }

// Namespace is where jobs go.
func (p *Provider) Namespace() string { return Namespace }

// SetDefaults fills in what is zero in spec, and has a default.
func (p *Provider) SetDefaults(spec *job.Spec) { spec.SetDefaults() }

// MayTunnel is true: the agent dials us.
func (p *Provider) MayTunnel(context.Context) (bool, error) { return true, nil }

// EBPFHint is empty: the agent does not ask for eBPF here.
func (p *Provider) EBPFHint(*job.Outcome) string { return "" }

// Check refuses what only a cluster can do, and a directory that is not there, with a
// [job.FieldError].
func Check(spec *job.Spec) error {
	for _, f := range []struct {
		path string
		set  bool
	}{
		{"image", spec.Image != ""}, {"user", spec.User != ""}, {"retries", spec.Retries != 0},
		{"envFrom", len(spec.EnvFrom) > 0}, {"cpu", spec.CPU != nil}, {"cpuLimit", spec.CPULimit != nil},
		{"memory", spec.Memory != nil}, {"memoryLimit", spec.MemoryLimit != nil},
		{"ephemeralStorage", spec.EphemeralStorage != nil}, {"gpu", spec.GPU != 0}, {"containerLogs", spec.ContainerLogs},
	} {
		if f.set {
			return job.WrongField(f.path, "needs a cluster; provider local runs processes of this machine")
		}
	}
	if spec.Workdir != "" {
		if info, err := os.Stat(spec.Workdir); err != nil || !info.IsDir() {
			return job.InvalidField("workdir", spec.Workdir, "there is no such directory")
		}
	}
	return nil
}

// Run is a job that was started.
type Run struct {
	name            string
	uid             string
	tls             *tls.Config
	listener        *attemptListener
	dir             string
	lock            *flock.Flock // of lockFile
	agent, launcher *process
	close           sync.Once
}

// Submit starts the agent and the launcher. With beside, whoever finds the job by its name can run commands beside its own:
// see [Attach]. A name that a running job has is refused. An error leaves nothing behind.
func (p *Provider) Submit(_ context.Context, spec *job.Spec, id, beside *certs.JobCerts) (*Run, error) {
	if err := Check(spec); err != nil {
		return nil, err
	}
	parent := parentDir()
	config, err := id.ServerConfig()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(parent, dirPrefix)
	if err != nil {
		return nil, failure("no place for the job's files", err)
	}
	r := &Run{name: spec.Name, uid: rand.Text(), tls: config, dir: dir}
	err = r.claim()
	if err == nil {
		err = r.start(p.Worker, spec, id, beside)
	}
	if err != nil {
		r.Close()
		return nil, failure("start the job's processes", err)
	}
	return r, nil
}

// dirPrefix begins the name of each job's directory.
const dirPrefix = "hodei-"

// parentDir is where the directories of jobs are.
func parentDir() string {
	if parent := os.TempDir(); len(parent) <= 64 { // the path of a unix socket is 107 bytes at most
		return parent
	}
	return "/tmp"
}

// dirs are the directories of jobs, and maybe others of such names.
func dirs() []string {
	paths, _ := filepath.Glob(filepath.Join(parentDir(), dirPrefix+"*")) // an unreadable directory has none
	return paths
}

func failure(what string, err error) error {
	if f, ok := errors.AsType[*job.Failure](err); ok {
		return f
	}
	return &job.Failure{Cause: job.ConfigError, Err: err, Message: fmt.Sprintf("%s: %v", what, err),
		Hint: "check TMPDIR, and that hodei-worker is beside hodei: {hodei} version"}
}

func (r *Run) start(worker string, spec *job.Spec, id, beside *certs.JobCerts) error {
	path := func(name string) string { return filepath.Join(r.dir, name) }
	files, socket := map[string][]byte{caFile: id.CA, "client.crt": id.ClientCert, "client.key": id.ClientKey}, ""
	if beside != nil {
		files[besideCert], files[besideKey] = beside.ServerCert, beside.ServerKey
		socket = path(besideSocket)
	}
	for name, content := range files {
		if err := os.WriteFile(path(name), content, 0o600); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	r.listener = &attemptListener{l, spec.Name, filepath.Base(r.dir)}
	agent := exec.Command(worker, contract.CommandAgent)
	for _, v := range [][2]string{
		{contract.EnvNamespace, Namespace},
		{contract.EnvJob, spec.Name},
		{contract.EnvAttempt, r.listener.name},
		{contract.EnvAttemptUID, r.listener.uid},
		{contract.EnvSocket, path("agent.sock")},
		{contract.EnvSpoolDir, path("spool")},
		{contract.EnvSpoolBytes, strconv.FormatInt(spec.LogSpool.Value(), 10)},
		{contract.EnvLogOverflow, spec.LogOverflow},
		{contract.EnvServerAddress, r.listener.Addr().String()},
		{contract.EnvServerName, certs.ID{Namespace: Namespace, Job: spec.Name}.ServerName()},
		{contract.EnvCACertPath, path(caFile)},
		{contract.EnvClientCertPath, path("client.crt")},
		{contract.EnvClientKeyPath, path("client.key")},
		{contract.EnvStartTimeout, spec.StartTimeout.String()},
		{contract.EnvTimeout, spec.Timeout.String()},
		{contract.EnvGrace, spec.Grace.String()},
		{contract.EnvLinger, spec.Linger.String()},
		{contract.EnvTerminationLog, path("termination")},
		{contract.EnvStdin, trueIf(spec.Stdin)},
		{contract.EnvTTY, trueIf(spec.TTY)},
		{contract.EnvExec, trueIf(beside != nil)},
		{contract.EnvExecSocket, socket},
	} {
		agent.Env = append(agent.Env, v[0]+"="+v[1])
	}
	if r.agent, err = startProcess(agent); err != nil {
		return err
	}
	args := []string{
		contract.CommandLaunch,
		"--" + contract.FlagSocket + "=" + path("agent.sock"), "--" + contract.FlagGrace + "=" + spec.Grace.String(),
	}
	switch {
	case spec.TTY:
		args = append(args, "--"+contract.FlagTTY)
	case spec.Stdin:
		args = append(args, "--"+contract.FlagStdin)
	}
	if spec.MergeOutput {
		args = append(args, "--"+contract.FlagMergeOutput)
	}
	if spec.Workdir != "" {
		args = append(args, "--"+contract.FlagWorkdir+"="+spec.Workdir)
	}
	launcher := exec.Command(worker, append(append(args, "--"), spec.Command...)...)
	launcher.Env = environment(os.Environ(), spec)
	r.launcher, err = startProcess(launcher)
	return err
}

// trueIf is the value of a variable that is true or false.
func trueIf(on bool) string {
	if on {
		return contract.True
	}
	return ""
}

// attemptListener is where the agent of one attempt arrives.
type attemptListener struct {
	net.Listener
	name, uid string
}

func (l *attemptListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return attemptConn{c, l}, nil
}

// attemptConn implements coordinator.Dialled.
type attemptConn struct {
	net.Conn
	from *attemptListener
}

func (c attemptConn) Attempt() (name, uid string) { return c.from.name, c.from.uid }

// environment is ours without what is meant for hodei, and with the job's. Of one name
// the last one counts.
func environment(own []string, spec *job.Spec) []string {
	var env []string
	for _, v := range own {
		if !strings.HasPrefix(v, contract.EnvPrefix) {
			env = append(env, v)
		}
	}
	env = append(env, contract.EnvJob+"="+spec.Name, contract.EnvAttempt+"="+spec.Name)
	for _, v := range spec.Env {
		env = append(env, v.Name+"="+v.Value)
	}
	return env
}

// process is a child in a session of its own: a Ctrl-C at the terminal is for
// hodei, which passes it on in order.
type process struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	ended  chan struct{}
}

func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, ended: make(chan struct{})}
	cmd.Stderr = &head{buf: &p.stderr}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// What the command leaves behind may hold its stderr; we don't wait for it.
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = cmd.Wait() // its state tells the rest
		close(p.ended)
	}()
	return p, nil
}

// stop ends a process that has not ended by itself.
func (p *process) stop(patience time.Duration) {
	if p == nil {
		return
	}
	for _, s := range []syscall.Signal{0, syscall.SIGTERM, syscall.SIGKILL} {
		if s != 0 {
			_ = p.cmd.Process.Signal(s)
		}
		select {
		case <-p.ended:
			return
		case <-time.After(patience):
		}
	}
	<-p.ended
}

// head keeps the first 4 KiB: enough to explain an end, and bounded.
type head struct{ buf *bytes.Buffer }

func (h *head) Write(p []byte) (int, error) {
	if room := 4096 - h.buf.Len(); room > 0 {
		h.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// UID is made up for each run, so that two of one name are two jobs.
func (r *Run) UID() string { return r.uid }

// Listener is where the agent arrives.
func (r *Run) Listener() net.Listener { return r.listener }

// TLS is the coordinator's side of the agent's connections.
func (r *Run) TLS() *tls.Config { return r.tls }

// Watch reports the phases of the start and returns how the job ended, by its
// agent's last message. It tells that the job's container has ended when the launcher has. A
// command that never started is the failure that Watch returns, so NeverStarted is not called.
func (r *Run) Watch(ctx context.Context, tell job.Observer) (*job.Outcome, error) {
	tell.Report(job.Event{Phase: job.Submitted, Time: time.Now(), Detail: "this machine", Here: true})
	launched := r.launcher.ended
	for running := true; running; {
		select {
		case <-r.agent.ended:
			running = false
		case <-launched:
			launched = nil
			if said := r.launcher.stderr.String(); strings.HasPrefix(said, contract.LaunchPrefix) {
				return nil, &job.Failure{Cause: job.AgentLost, Message: lastLine(said),
					Hint: "check that hodei-worker is of this version: {hodei} version"}
			}
			if tell.JobEnded != nil {
				tell.JobEnded(r.name, r.launcher.cmd.ProcessState.String())
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	text, err := os.ReadFile(filepath.Join(r.dir, "termination"))
	if err != nil {
		return nil, &job.Failure{Cause: job.AgentLost, Err: err,
			Message: fmt.Sprintf("the agent ended (%s): %s", r.agent.cmd.ProcessState, lastLine(r.agent.stderr.String())),
			Hint:    "check that hodei-worker is of this version: {hodei} version"}
	}
	record := &hodeipb.ExitRecord{}
	if err := protojson.Unmarshal(text, record); err != nil {
		return nil, &job.Failure{Cause: job.AgentLost, Err: err, Message: "the command never started: " + string(text), NeverStarted: true,
			Hint: "it can safely be run again"}
	}
	return wire.Outcome(record), nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// Notes is nil: there is nothing to say of a job that was started.
func (r *Run) Notes() []string { return nil }

// Keeps is empty: nobody adds anything to the job that could keep it from completing.
func (r *Run) Keeps() string { return "" }

// Unhold does nothing: nobody but the agent keeps the time of a held start.
func (r *Run) Unhold(context.Context) <-chan error {
	done := make(chan error, 1)
	done <- nil
	return done
}

// StopRetrying does nothing: there is one attempt.
func (r *Run) StopRetrying(context.Context) error { return nil }

// Delete ends the job's processes at once: a launcher that is told twice kills
// the command's process group.
func (r *Run) Delete(context.Context) error {
	if r.launcher != nil {
		_ = r.launcher.cmd.Process.Signal(syscall.SIGTERM)
	}
	r.launcher.stop(deleteWait)
	r.agent.stop(deleteWait)
	return nil
}

// Close waits a moment for the processes, ends those that are left, and removes
// the job's files.
func (r *Run) Close() {
	r.close.Do(func() {
		var errs []error
		if r.listener != nil {
			errs = append(errs, r.listener.Close())
		}
		if r.launcher == nil { // it never came to a job
			r.agent.stop(0)
		}
		r.agent.stop(closeWait)
		r.launcher.stop(closeWait)
		errs = append(errs, os.RemoveAll(r.dir))
		if r.lock != nil {
			errs = append(errs, r.lock.Close())
		}
		_ = errors.Join(errs...) // a temporary directory that stays harms nobody
	})
}
