package local

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/tunnel"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// Files in a job's directory by which another process finds it: the job's name. If the job allows commands beside
// its own, there are also the socket on which the agent waits, and the certificate for it with its key.
const (
	nameFile     = "job"
	besideSocket = "exec.sock"
	besideCert   = "exec.crt"
	besideKey    = "exec.key"
	caFile       = "ca.crt"
)

// Beside is a job of another process, beside whose command others can be run.
type Beside struct {
	tls    *tls.Config
	tunnel *tunnel.Tunnel
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// Attach finds the job by its name among those that processes of the same user have started here, and connects to its
// agent. Of several the latest counts.
func Attach(name string) (*Beside, error) {
	for _, dir := range findDirs(name) {
		b, err := attach(name, dir)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) { // it has ended, or its process was killed
			continue
		}
		return b, err
	}
	if Running(name) != 0 {
		return nil, &job.Hinted{
			Err:  fmt.Errorf("job %q was made without --exec: no command may be run beside it", name),
			Hint: "allow it for the next one: {hodei} run --provider local --exec --name " + shell.Quote(name) + " -- COMMAND",
		}
	}
	return nil, &job.Hinted{
		Err:  fmt.Errorf("no job %q runs on this machine", name),
		Hint: "run one: {hodei} run --provider local --exec --name " + shell.Quote(name) + " -- COMMAND",
	}
}

// attach connects to the agent of the job whose directory is given.
func attach(name, dir string) (_ *Beside, err error) {
	id := &certs.JobCerts{}
	for file, to := range map[string]*[]byte{caFile: &id.CA, besideCert: &id.ServerCert, besideKey: &id.ServerKey} {
		if *to, err = os.ReadFile(filepath.Join(dir, file)); err != nil {
			return nil, err
		}
	}
	config, err := id.ServerConfig()
	if err != nil {
		return nil, fmt.Errorf("certificate of job %s: %w", name, err)
	}
	conn, err := net.Dial("unix", filepath.Join(dir, besideSocket))
	if err != nil {
		return nil, fmt.Errorf("the agent of job %s is not reached: %w", name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b := &Beside{tls: config, tunnel: tunnel.New(), cancel: cancel}
	b.work.Go(func() {
		b.tunnel.Deliver(ctx, attemptConn{conn, &attemptListener{name: name, uid: filepath.Base(dir)}})
	})
	return b, nil
}

// findDirs returns the directories of the jobs of that name, the latest first.
// Others may write to the directory that they are in, so each has to be ours, and for us alone.
func findDirs(name string) []string {
	made := map[string]time.Time{}
	for _, path := range dirs() {
		info, err := os.Lstat(path)
		if err != nil || !info.IsDir() || info.Mode().Perm()&0o077 != 0 || info.Sys().(*syscall.Stat_t).Uid != uint32(os.Getuid()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(path, nameFile))
		if err == nil && string(text) == name {
			made[path] = info.ModTime()
		}
	}
	return slices.SortedFunc(maps.Keys(made), func(a, b string) int { return made[b].Compare(made[a]) })
}

// Listener is where the connection to the agent arrives.
func (b *Beside) Listener() net.Listener { return b.tunnel }

// TLS is our side of it.
func (b *Beside) TLS() *tls.Config { return b.tls }

// Watch waits for ctx: the agent tells when the job ends.
func (b *Beside) Watch(ctx context.Context, _ job.Observer) (*job.Outcome, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// Close ends the connection.
func (b *Beside) Close() {
	b.cancel()
	b.tunnel.Close()
	b.work.Wait()
}
