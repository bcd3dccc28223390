package certs

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// serverFiles writes what a server reads. Its certificate is issued for the
// name under which agents of testID look for it.
func serverFiles(t testing.TB, dir string, a *Authority, trusted []byte) ServerFiles {
	t.Helper()
	f := ServerFiles{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, "server.crt"), Key: filepath.Join(dir, "server.key")}
	certPEM, keyPEM, err := a.IssueServer([]string{testID.ServerName()}, 0)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, f.CA, trusted)
	writeFile(t, f.Cert, certPEM)
	writeFile(t, f.Key, keyPEM)
	return f
}

// One server config outlives its certificate and its CA.
func TestServerFilesRotation(t *testing.T) {
	first, second := mustAuthority(t), mustAuthority(t)
	dir := t.TempDir()
	f := serverFiles(t, dir, first, first.CAPEM())
	server, err := f.ServerConfig()
	if err != nil {
		t.Fatal(err)
	}
	agentOf := func(a *Authority, trusted []byte) *tls.Config {
		c := mustIssueJob(t, a, testID)
		c.CA = trusted
		return mustClientConfig(t, agentFiles(t, t.TempDir(), c), testID.ServerName())
	}
	both := append(second.CAPEM(), first.CAPEM()...)
	before, during, after := agentOf(first, first.CAPEM()), agentOf(second, both), agentOf(second, second.CAPEM())
	expect := func(step string, client *tls.Config, ok bool) {
		t.Helper()
		if r := handshake(t, server, client); (r.client == nil && r.server == nil) != ok {
			t.Errorf("%s: server: %v, client: %v", step, r.server, r.client)
		}
	}
	expect("first CA", before, true)
	expect("first CA, agent of the second", during, false)
	serverFiles(t, dir, first, first.CAPEM())
	expect("another certificate of the same CA", before, true)
	serverFiles(t, dir, first, both)
	expect("overlap, agent of the first", before, true)
	expect("overlap, agent of the second", during, true)
	serverFiles(t, dir, second, second.CAPEM())
	expect("second CA, agent of the first", before, false)
	expect("second CA, agent that knows both", during, true)
	expect("second CA, agent of the second", after, true)
}

func TestServerFilesRefuse(t *testing.T) {
	a := mustAuthority(t)
	f := serverFiles(t, t.TempDir(), a, a.CAPEM())
	server, err := f.ServerConfig()
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM, err := a.IssueClient("hodei-client", 0)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		client *tls.Config
		want   func(error) bool
	}{
		{"no certificate", rawClient(), says("didn't provide a certificate")},
		{"certificate of no job", rawClient(keyPair(t, certPEM, keyPEM)), says("0 URI names")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := handshake(t, server, tt.client)
			if !tt.want(r.server) {
				t.Errorf("the server says %v", r.server)
			}
			if r.client == nil {
				t.Error("the client got through")
			}
		})
	}
}

func TestServerFilesErrors(t *testing.T) {
	a := mustAuthority(t)
	_, otherKey, err := a.IssueServer([]string{"x"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(f ServerFiles)
		want   error
	}{
		{"no CA", func(f ServerFiles) { os.Remove(f.CA) }, fs.ErrNotExist},
		{"no certificate", func(f ServerFiles) { os.Remove(f.Cert) }, fs.ErrNotExist},
		{"torn CA", func(f ServerFiles) { writeFile(t, f.CA, a.CAPEM()[:100]) }, ErrMalformed},
		{"other key", func(f ServerFiles) { writeFile(t, f.Key, otherKey) }, ErrKeyMismatch},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := serverFiles(t, t.TempDir(), a, a.CAPEM())
			before, err := f.ServerConfig()
			if err != nil {
				t.Fatal(err)
			}
			tt.change(f)
			if _, err := f.ServerConfig(); !errors.Is(err, tt.want) {
				t.Errorf("at once: error is %v, want %v", err, tt.want)
			}
			client := mustClientConfig(t, agentFiles(t, t.TempDir(), mustIssueJob(t, a, testID)), testID.ServerName())
			if r := handshake(t, before, client); !errors.Is(r.server, tt.want) || r.client == nil {
				t.Errorf("at the next handshake: server: %v, client: %v, want %v", r.server, r.client, tt.want)
			}
		})
	}
}
