package local

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/certs"
)

// madeDir makes the directory of a job, as it was some minutes ago. Its socket is left, and answers only if alive.
func madeDir(t *testing.T, id *certs.JobCerts, name string, minutes int, alive bool) string {
	t.Helper()
	dir := jobDir(t)
	for file, text := range map[string][]byte{nameFile: []byte(name), caFile: id.CA, besideCert: id.ServerCert, besideKey: id.ServerKey} {
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, besideSocket)})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	t.Cleanup(func() { l.Close() })
	if !alive {
		l.Close()
	}
	at := time.Now().Add(-time.Duration(minutes) * time.Minute)
	if err := os.Chtimes(dir, at, at); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAttach(t *testing.T) {
	t.Setenv("TMPDIR", jobDir(t)) // t.TempDir is too long for a socket's path
	authority, err := certs.NewAuthority(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	id, err := authority.IssueExec(certs.ID{Namespace: Namespace, Job: "x"})
	if err != nil {
		t.Fatal(err)
	}
	attached := func(want string) {
		t.Helper()
		b, err := Attach("x")
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		conn, err := b.Listener().Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if got := conn.RemoteAddr().String(); filepath.Dir(got) != want {
			t.Errorf("connected to %s, want %s", got, want)
		}
	}
	madeDir(t, id, "other", 0, true)
	if _, err := Attach("x"); err == nil || !strings.HasPrefix(err.Error(), `no job "x" runs`) {
		t.Errorf("without one: %v", err)
	}
	madeDir(t, id, "x", 1, false) // its process was killed
	if _, err := Attach("x"); err == nil || !strings.HasPrefix(err.Error(), `no job "x" runs`) {
		t.Errorf("without one that is alive: %v", err)
	}
	first := madeDir(t, id, "x", 9, true)
	attached(first)
	second := madeDir(t, id, "x", 5, true)
	attached(second)
	open := madeDir(t, id, "x", 2, true)
	if err := os.Chmod(open, 0o755); err != nil { // anybody could have made it
		t.Fatal(err)
	}
	attached(second)
}
