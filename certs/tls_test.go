package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestHandshake(t *testing.T) {
	c := mustIssueJob(t, mustAuthority(t), testID)
	f := agentFiles(t, t.TempDir(), c)
	r := handshake(t, mustServerConfig(t, c), mustClientConfig(t, f, testID.ServerName()))
	if r.server != nil || r.client != nil {
		t.Fatalf("server: %v, client: %v", r.server, r.client)
	}
	for side, state := range map[string]tls.ConnectionState{"server": r.serverState, "client": r.clState} {
		if state.Version != tls.VersionTLS13 || state.NegotiatedProtocol != "h2" {
			t.Errorf("%s: version %x, protocol %q", side, state.Version, state.NegotiatedProtocol)
		}
		if id, err := PeerID(state.PeerCertificates[0]); id != testID || err != nil {
			t.Errorf("%s: PeerID() = %+v, %v", side, id, err)
		}
	}
}

// The files of "hodei certs generate", as a server of the user's own makes use
// of them.
func TestHandshakeGenerated(t *testing.T) {
	dir := t.TempDir()
	if _, err := Generate(GenerateOptions{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	pair, err := tls.LoadX509KeyPair(path("server.crt"), path("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := LoadAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.Cert)
	server := &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots}
	f := Files{CA: path("ca.crt"), Cert: path("client.crt"), Key: path("client.key")}
	for _, name := range DefaultSANs() {
		t.Run(name, func(t *testing.T) {
			r := handshake(t, server, mustClientConfig(t, f, name))
			if r.server != nil || r.client != nil {
				t.Errorf("server: %v, client: %v", r.server, r.client)
			}
		})
	}
}

// Another job's certificate is of the same CA: TLS lets it in, and the
// coordinator, comparing PeerID, doesn't.
func TestPeerIDOfAnotherJob(t *testing.T) {
	a := mustAuthority(t)
	other := ID{Namespace: testID.Namespace, Job: "other-00000"}
	c, o := mustIssueJob(t, a, testID), mustIssueJob(t, a, other)
	f := agentFiles(t, t.TempDir(), o)
	r := handshake(t, mustServerConfig(t, c), mustClientConfig(t, f, testID.ServerName()))
	if r.server != nil || r.client != nil {
		t.Fatalf("server: %v, client: %v", r.server, r.client)
	}
	if id, err := PeerID(r.serverState.PeerCertificates[0]); id != other || err != nil {
		t.Errorf("PeerID() = %+v, %v, want %+v", id, err, other)
	}
}

// Who refuses must do so for the right reason; these say whether an error is it.

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func invalid(reason x509.InvalidReason) func(error) bool {
	return func(err error) bool {
		e, ok := errors.AsType[x509.CertificateInvalidError](err)
		return ok && e.Reason == reason
	}
}

func says(text string) func(error) bool {
	return func(err error) bool { return err != nil && strings.Contains(err.Error(), text) }
}

func TestServerRefuses(t *testing.T) {
	now := time.Now()
	a := mustAuthority(t)
	c := mustIssueJob(t, a, testID)
	stranger := mustIssueJob(t, mustAuthority(t), testID)
	pair := func(from, to time.Time, usage x509.ExtKeyUsage) tls.Certificate {
		certPEM, keyPEM := signed(t, a, from, to, usage)
		return keyPair(t, certPEM, keyPEM)
	}
	anonPEM, anonKey, err := a.IssueClient("hodei-client", 0)
	if err != nil {
		t.Fatal(err)
	}
	good := keyPair(t, c.ClientCert, c.ClientKey)
	old := rawClient(good)
	old.MaxVersion = tls.VersionTLS12
	tests := []struct {
		name   string
		client *tls.Config
		want   func(error) bool
	}{
		{"no certificate", rawClient(), says("didn't provide a certificate")},
		{"wrong CA", rawClient(keyPair(t, stranger.ClientCert, stranger.ClientKey)), isA[x509.UnknownAuthorityError]},
		{"expired", rawClient(pair(now.Add(-2*time.Hour), now.Add(-time.Hour), x509.ExtKeyUsageClientAuth)), invalid(x509.Expired)},
		{"not yet valid", rawClient(pair(now.Add(time.Hour), now.Add(2*time.Hour), x509.ExtKeyUsageClientAuth)), invalid(x509.Expired)},
		{"server certificate", rawClient(keyPair(t, c.ServerCert, c.ServerKey)), invalid(x509.IncompatibleUsage)},
		{"certificate of no job", rawClient(keyPair(t, anonPEM, anonKey)), says("0 URI names")},
		{"TLS 1.2", old, says("unsupported versions")},
	}
	server := mustServerConfig(t, c)
	if r := handshake(t, server, rawClient(good)); r.server != nil || r.client != nil {
		t.Fatalf("a good client: server: %v, client: %v", r.server, r.client)
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

func TestServerRefusesPlaintext(t *testing.T) {
	server := mustServerConfig(t, mustIssueJob(t, mustAuthority(t), testID))
	serverErr, _ := connect(t, func(c net.Conn) error {
		return tls.Server(c, server).Handshake()
	}, func(c net.Conn) error {
		_, err := io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, c)
		return err
	})
	if _, ok := errors.AsType[tls.RecordHeaderError](serverErr); !ok {
		t.Errorf("error is %v, want a RecordHeaderError", serverErr)
	}
}

func TestClientRefuses(t *testing.T) {
	now := time.Now()
	a := mustAuthority(t)
	c := mustIssueJob(t, a, testID)
	stranger := mustIssueJob(t, mustAuthority(t), testID)
	f := agentFiles(t, t.TempDir(), c)
	server := func(certPEM, keyPEM []byte) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{keyPair(t, certPEM, keyPEM)}, ClientAuth: tls.RequestClientCert}
	}
	old := server(c.ServerCert, c.ServerKey)
	old.MaxVersion = tls.VersionTLS12
	tests := []struct {
		name       string
		server     *tls.Config
		serverName string
		want       func(error) bool
	}{
		{"wrong CA", server(stranger.ServerCert, stranger.ServerKey), testID.ServerName(), isA[x509.UnknownAuthorityError]},
		{"expired", server(signed(t, a, now.Add(-2*time.Hour), now.Add(-time.Hour), x509.ExtKeyUsageServerAuth)),
			testID.ServerName(), invalid(x509.Expired)},
		{"client certificate", server(signed(t, a, now.Add(-time.Hour), now.Add(time.Hour), x509.ExtKeyUsageClientAuth)),
			testID.ServerName(), invalid(x509.IncompatibleUsage)},
		{"another job's name", server(c.ServerCert, c.ServerKey), ID{testID.Namespace, "other-00000"}.ServerName(),
			isA[x509.HostnameError]},
		{"address in place of a name", server(c.ServerCert, c.ServerKey), "127.0.0.1", isA[x509.HostnameError]},
		{"TLS 1.2", old, testID.ServerName(), says("protocol version")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client := mustClientConfig(t, f, tt.serverName)
			shown, get := false, client.GetClientCertificate
			client.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
				shown = true
				return get(r)
			}
			r := handshake(t, tt.server, client)
			if !tt.want(r.client) {
				t.Errorf("the client says %v", r.client)
			}
			if shown {
				t.Error("the client showed its certificate to a server that it refuses")
			}
		})
	}
}

func TestServerConfigErrors(t *testing.T) {
	now := time.Now()
	a := mustAuthority(t)
	good := mustIssueJob(t, a, testID)
	if _, err := (&JobCerts{CA: good.CA, ServerCert: good.ServerCert, ServerKey: good.ServerKey}).ServerConfig(); err != nil {
		t.Errorf("without the client's half: %v", err)
	}
	tests := []struct {
		name   string
		change func(c *JobCerts)
		want   error
	}{
		{"empty CA", func(c *JobCerts) { c.CA = nil }, ErrMalformed},
		{"leaf as CA", func(c *JobCerts) { c.CA = c.ClientCert }, ErrNotCA},
		{"torn certificate", func(c *JobCerts) { c.ServerCert = c.ServerCert[:100] }, ErrMalformed},
		{"torn key", func(c *JobCerts) { c.ServerKey = c.ServerKey[:60] }, ErrMalformed},
		{"client's key", func(c *JobCerts) { c.ServerKey = c.ClientKey }, ErrKeyMismatch},
		{"expired", func(c *JobCerts) {
			c.ServerCert, c.ServerKey = signed(t, a, now.Add(-2*time.Hour), now.Add(-time.Hour), x509.ExtKeyUsageServerAuth)
		}, ErrExpired},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := *good
			tt.change(&c)
			if _, err := c.ServerConfig(); !errors.Is(err, tt.want) {
				t.Errorf("error is %v, want %v", err, tt.want)
			}
		})
	}
}

func TestClientConfigErrors(t *testing.T) {
	now := time.Now()
	a := mustAuthority(t)
	good := mustIssueJob(t, a, testID)
	tests := []struct {
		name   string
		change func(f Files)
		want   error
	}{
		{"no CA", func(f Files) { os.Remove(f.CA) }, fs.ErrNotExist},
		{"no certificate", func(f Files) { os.Remove(f.Cert) }, fs.ErrNotExist},
		{"no key", func(f Files) { os.Remove(f.Key) }, fs.ErrNotExist},
		{"torn CA", func(f Files) { writeFile(t, f.CA, good.CA[:100]) }, ErrMalformed},
		{"leaf as CA", func(f Files) { writeFile(t, f.CA, good.ClientCert) }, ErrNotCA},
		{"other key", func(f Files) { writeFile(t, f.Key, good.ServerKey) }, ErrKeyMismatch},
		{"expired", func(f Files) {
			certPEM, keyPEM := signed(t, a, now.Add(-2*time.Hour), now.Add(-time.Hour), x509.ExtKeyUsageClientAuth)
			writeFile(t, f.Cert, certPEM)
			writeFile(t, f.Key, keyPEM)
		}, ErrExpired},
	}
	server := mustServerConfig(t, good)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := agentFiles(t, t.TempDir(), good)
			before := mustClientConfig(t, f, testID.ServerName())
			tt.change(f)
			if _, err := f.ClientConfig(testID.ServerName()); !errors.Is(err, tt.want) {
				t.Errorf("at once: error is %v, want %v", err, tt.want)
			}
			if r := handshake(t, server, before); !errors.Is(r.client, tt.want) {
				t.Errorf("at the next handshake: error is %v, want %v", r.client, tt.want)
			}
		})
	}
	t.Run("no server name", func(t *testing.T) {
		f := agentFiles(t, t.TempDir(), good)
		if _, err := f.ClientConfig(""); err == nil {
			t.Error("no error")
		}
	})
}

// One client config outlives its CA and its certificate.
func TestRotation(t *testing.T) {
	first, second := mustAuthority(t), mustAuthority(t)
	c1, c2 := mustIssueJob(t, first, testID), mustIssueJob(t, second, testID)
	dir := t.TempDir()
	f := agentFiles(t, dir, c1)
	client := mustClientConfig(t, f, testID.ServerName())
	server1, server2 := mustServerConfig(t, c1), mustServerConfig(t, c2)

	expect := func(step string, server *tls.Config, ok bool) {
		t.Helper()
		if r := handshake(t, server, client); (r.client == nil && r.server == nil) != ok {
			t.Errorf("%s: server: %v, client: %v", step, r.server, r.client)
		}
	}
	expect("old server, old files", server1, true)
	expect("new server, old files", server2, false)
	agentFiles(t, dir, c2)
	expect("new server, new files", server2, true)
	expect("old server, new files", server1, false)

	// Both CAs in one file, as long as there are servers of both.
	writeFile(t, f.CA, append(second.CAPEM(), first.CAPEM()...))
	both := *c1
	both.CA = append(second.CAPEM(), first.CAPEM()...)
	expect("new server, both CAs", server2, true)
	expect("old server that knows both CAs, both CAs", mustServerConfig(t, &both), true)
}

// An expired CA beside its successor is no reason to stop, alone it is.
func TestExpiryUnderOneConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		day := 24 * time.Hour
		a, err := NewAuthority(10 * day)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		c := mustIssueJob(t, a, testID)
		f := agentFiles(t, dir, c)
		client, server := mustClientConfig(t, f, testID.ServerName()), mustServerConfig(t, c)
		time.Sleep(9 * day)
		if r := handshake(t, server, client); r.server != nil || r.client != nil {
			t.Errorf("before the end: server: %v, client: %v", r.server, r.client)
		}
		time.Sleep(2 * day)
		if r := handshake(t, server, client); !errors.Is(r.client, ErrExpired) {
			t.Errorf("after the end: %v, want ErrExpired", r.client)
		}

		next, err := NewAuthority(10 * day)
		if err != nil {
			t.Fatal(err)
		}
		c = mustIssueJob(t, next, testID)
		c.CA = append(a.CAPEM(), next.CAPEM()...)
		agentFiles(t, dir, c)
		if r := handshake(t, mustServerConfig(t, c), client); r.server != nil || r.client != nil {
			t.Errorf("renewed: server: %v, client: %v", r.server, r.client)
		}
	})
}

// Neither side resumes, even if the other is willing: a resumed session would
// go by files that may have been replaced since.
func TestNoResumption(t *testing.T) {
	c := mustIssueJob(t, mustAuthority(t), testID)
	f := agentFiles(t, t.TempDir(), c)
	strictServer, strictClient := mustServerConfig(t, c), mustClientConfig(t, f, testID.ServerName())

	server := mustServerConfig(t, c)
	server.SessionTicketsDisabled = false
	client := mustClientConfig(t, f, testID.ServerName())
	client.ClientSessionCache = tls.NewLRUClientSessionCache(8)

	tests := []struct {
		name           string
		server, client *tls.Config
		want           bool
	}{
		{"both willing", server, client, true}, // else the other two show nothing
		{"our server", strictServer, client, false},
		{"our client", server, strictClient, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.client != strictClient {
				tt.client.ClientSessionCache = tls.NewLRUClientSessionCache(8)
			}
			handshake(t, tt.server, tt.client)
			r := handshake(t, tt.server, tt.client)
			if r.server != nil || r.client != nil {
				t.Fatalf("server: %v, client: %v", r.server, r.client)
			}
			if r.clState.DidResume != tt.want {
				t.Errorf("resumed: %v, want %v", r.clState.DidResume, tt.want)
			}
		})
	}
}
