package faults

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/certs"
)

// TestRotation replaces the certificates of a server, of a worker and of their
// authority while the job prints and its connection is cut all the time: after each
// step the agent is attached again, and in the end the output is whole.
func TestRotation(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(newSeed(t), 5))
	a := newAttempt(t)
	dir := t.TempDir()
	if _, err := certs.Generate(certs.GenerateOptions{Dir: dir, SANs: []string{a.id.ServerName()}}); err != nil {
		t.Fatal(err)
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	// worker gives the agent files of the authority as it is now.
	worker := func() {
		t.Helper()
		authority, err := certs.LoadAuthority(dir)
		if err != nil {
			t.Fatal(err)
		}
		c, err := authority.IssueJob(a.id)
		if err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string][]byte{"ca.crt": c.CA, "client.crt": c.ClientCert, "client.key": c.ClientKey} {
			if err := os.WriteFile(filepath.Join(a.dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	server := func(rotate func(certs.RotateOptions) ([]string, error)) func() {
		return func() {
			if _, err := rotate(certs.RotateOptions{Dir: dir}); err != nil {
				t.Fatal(err)
			}
		}
	}
	worker()
	var err error
	if a.tls, err = (certs.ServerFiles{CA: path("ca.crt"), Cert: path("server.crt"), Key: path("server.key")}).ServerConfig(); err != nil {
		t.Fatal(err)
	}
	f := newFollower()
	l := listen(t)
	a.serve(f, l, false)
	over := make(chan struct{})
	p := newProxy(t, l.Addr().String(), func(*proxy) *fault {
		select {
		case <-over:
			return nil
		default:
			return &fault{kind: reset, after: 30*time.Millisecond + time.Duration(rnd.Int64N(int64(100*time.Millisecond)))}
		}
	})
	a.server = p.Addr().String()
	a.startAgent()
	a.launch(fed, pattern{"steps", 0})
	stop := a.feed(3 * time.Millisecond)
	for i, step := range []struct {
		name string
		do   func()
	}{
		{"the server's certificate", server(certs.Rotate)},
		{"the worker's", worker},
		{"a new authority", server(certs.RotateCA)},
		{"the worker's, by the new one", worker},
		{"the old authority's end", server(certs.FinishCA)},
		{"the worker's, without the old one", worker},
		{"the server's again", server(certs.Rotate)},
	} {
		step.do()
		f.mu.Lock()
		n := len(f.attached)
		f.mu.Unlock()
		f.until(t, step.name, func() bool { return len(f.attached) > n+1 }) // one may have been under way
		t.Logf("%d: %s: attached again", i+1, step.name)
	}
	close(over)
	steps := stop()
	r := f.exited(t)
	a.ends()
	f.whole(t, pattern{"steps", steps}, false)
	t.Logf("%d bytes, attached %d times; %s", r.End, len(f.attached), p)
}
