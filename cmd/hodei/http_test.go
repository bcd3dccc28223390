package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hodei-jobs/hodei/certs"
)

// serverWait is how long a server that was started is given to listen.
const serverWait = 20 * time.Second

// serverPoll leaves the machine to the server meanwhile.
const serverPoll = 20 * time.Millisecond

// freePort NAME... sets variables to ports on which nothing listens.
func freePort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: freeport NAME...")
	}
	for _, name := range args {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		defer l.Close() // the next one is to be another
		_, port, err := net.SplitHostPort(l.Addr().String())
		ts.Check(err)
		ts.Setenv(name, port)
	}
}

// request STATUS METHOD URL [FILE] is curl for a machine without one: it sends the
// file as JSON, wants that status, and shows the answer on stdout. A server that does
// not listen yet is waited for.
func request(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 || len(args) > 4 {
		ts.Fatalf("usage: request STATUS METHOD URL [FILE]")
	}
	body := ""
	if len(args) == 4 {
		body = ts.ReadFile(args[3])
	}
	deadline := time.Now().Add(serverWait)
	again := time.NewTicker(serverPoll)
	defer again.Stop()
	for {
		r, err := http.NewRequest(args[1], args[2], strings.NewReader(body))
		ts.Check(err)
		r.Header.Set("Content-Type", "application/json")
		answer, err := http.DefaultClient.Do(r)
		if errors.Is(err, syscall.ECONNREFUSED) && time.Now().Before(deadline) {
			<-again.C
			continue
		}
		ts.Check(err)
		defer answer.Body.Close()
		_, err = io.Copy(ts.Stdout(), answer.Body)
		ts.Check(err)
		if got, _, _ := strings.Cut(answer.Status, " "); got != args[0] {
			ts.Fatalf("%s %s: %s, want %s", args[1], args[2], answer.Status, args[0])
		}
		return
	}
}

// jobCert CERTS NAMESPACE JOB DIR issues a job's certificate from the authority in
// CERTS, as a provider does, and writes what its agent reads to DIR.
func jobCert(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: jobcert CERTS NAMESPACE JOB DIR")
	}
	authority, err := certs.LoadAuthority(ts.MkAbs(args[0]))
	ts.Check(err)
	c, err := authority.IssueJob(certs.ID{Namespace: args[1], Job: args[2]})
	ts.Check(err)
	dir := ts.MkAbs(args[3])
	ts.Check(os.MkdirAll(dir, 0o700))
	for name, content := range map[string][]byte{"ca.crt": c.CA, "client.crt": c.ClientCert, "client.key": c.ClientKey} {
		ts.Check(os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
}
