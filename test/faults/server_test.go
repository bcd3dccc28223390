package faults

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/test/program"
)

// TestServerRotation gives every rotation of certificates under a server and an agent
// that dials it, whose connections are torn all the while: what hodei logs then shows
// is what the job has printed.
func TestServerRotation(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	if err := program.Build(home, "hodei"); err != nil {
		t.Fatal(err)
	}
	hodei := func(args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(home, "hodei"), args...)
		cmd.Dir = home
		cmd.Env = []string{"HOME=" + home, "KUBECONFIG=none", "PATH=" + os.Getenv("PATH")}
		return cmd
	}
	must := func(args ...string) func() {
		return func() {
			t.Helper()
			if out, err := hodei(args...).CombinedOutput(); err != nil {
				t.Fatalf("%q: %v\n%s", args, err, out)
			}
		}
	}
	a := newAttempt(t)
	a.id.Namespace = "local" // whose jobs hodei logs shows without a cluster
	must("certs", "generate", "--san", a.id.ServerName())()
	worker := func() {
		t.Helper()
		authority, err := certs.LoadAuthority(filepath.Join(home, "certs"))
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
	worker()

	web, grpc := listen(t), listen(t)
	web.Close()
	grpc.Close() // to be taken by the server
	s := start(t, hodei("server", "--listen", web.Addr().String(), "--grpc-listen", grpc.Addr().String()), "")
	program.Until(t, "the server", func() bool {
		answer, err := http.Get("http://" + web.Addr().String() + "/healthz")
		if err != nil {
			return false
		}
		return answer.Body.Close() == nil
	})
	var over atomic.Bool
	p := newProxy(t, grpc.Addr().String(), func(*proxy) *fault {
		if over.Load() {
			return nil
		}
		return &fault{kind: torn, bytes: 1 << 20} // however slow the machine is, it gets on
	})
	a.server = p.Addr().String()
	a.startAgent()
	a.launch(fed, pattern{"steps", 0})
	stop := a.feed(5 * time.Millisecond)
	attached := func() int { return strings.Count(s.stderr.String(), `msg="agent attached"`) }
	for i, step := range []struct {
		name string
		do   func()
	}{
		{"nothing", func() {}},
		{"the leaves", must("certs", "rotate")},
		{"a new authority", must("certs", "rotate", "--ca")},
		{"the worker's, by the new one", worker},
		{"the old authority's end", must("certs", "rotate", "--finish", "--force")},
		{"the leaves again", must("certs", "rotate")},
	} {
		step.do()
		n := attached()
		program.Until(t, step.name, func() bool { return attached() > n+1 }) // one may have been under way
		t.Logf("%d: %s: attached again", i, step.name)
	}
	over.Store(true)
	steps := stop()
	a.ends()
	program.Until(t, "the job's end", func() bool { return strings.Contains(s.stderr.String(), `msg="job ended"`) })

	var want, got [2]bytes.Buffer
	printed := pattern{"steps", steps}
	if err := printed.write(&want[0], &want[1], printed.counted()); err != nil {
		t.Fatal(err)
	}
	logs := hodei("logs", a.id.Job)
	logs.Stdout, logs.Stderr = &got[0], &got[1]
	if err := logs.Run(); err != nil {
		said := got[1].String()
		t.Fatalf("%v: %q", err, said[max(0, len(said)-200):])
	}
	// Of hodei's own there is one line, before the rest.
	if line, err := got[1].ReadString('\n'); err != nil || !strings.HasPrefix(line, "this is what is stored here: ") {
		t.Errorf("stderr begins with %q", line[:min(len(line), 200)])
	}
	for i, name := range []string{"stdout", "stderr"} {
		if !bytes.Equal(want[i].Bytes(), got[i].Bytes()) {
			t.Errorf("%s: %d bytes are not the %d printed", name, got[i].Len(), want[i].Len())
		}
	}
	t.Logf("%d bytes, attached %d times; %s", want[0].Len()+want[1].Len(), attached(), p)
}
