package certs

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var testID = ID{Namespace: "hodei-jobs-workers", Job: "make-k3x9z"}

func mustAuthority(t testing.TB) *Authority {
	t.Helper()
	a, err := NewAuthority(0)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func mustIssueJob(t testing.TB, a *Authority, id ID) *JobCerts {
	t.Helper()
	c, err := a.IssueJob(id)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// signed is a leaf of testID with the times and usage asked for.
func signed(t testing.TB, a *Authority, notBefore, notAfter time.Time, usage x509.ExtKeyUsage) (certPEM, keyPEM []byte) {
	t.Helper()
	certPEM, keyPEM, err := a.sign(x509.Certificate{
		Subject:     pkix.Name{CommonName: testID.Job},
		DNSNames:    []string{testID.ServerName()},
		URIs:        []*url.URL{testID.url()},
		NotBefore:   notBefore,
		NotAfter:    notAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{usage},
	})
	if err != nil {
		t.Fatal(err)
	}
	return certPEM, keyPEM
}

func parseCert(t testing.TB, certPEM []byte) *x509.Certificate {
	t.Helper()
	chain, err := parseCertificates(certPEM)
	if err != nil {
		t.Fatal(err)
	}
	return chain[0]
}

func keyPair(t testing.TB, certPEM, keyPEM []byte) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// agentFiles writes what the agent of a job has mounted.
func agentFiles(t testing.TB, dir string, c *JobCerts) Files {
	t.Helper()
	f := Files{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, "client.crt"), Key: filepath.Join(dir, "client.key")}
	writeFile(t, f.CA, c.CA)
	writeFile(t, f.Cert, c.ClientCert)
	writeFile(t, f.Key, c.ClientKey)
	return f
}

func mustServerConfig(t testing.TB, c *JobCerts) *tls.Config {
	t.Helper()
	config, err := c.ServerConfig()
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func mustClientConfig(t testing.TB, f Files, serverName string) *tls.Config {
	t.Helper()
	config, err := f.ClientConfig(serverName)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// rawClient is a client that sends what it is given and believes any server.
func rawClient(pairs ...tls.Certificate) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true,
		NextProtos:         []string{alpn},
		// Not Certificates: from those crypto/tls picks by the server's CAs.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(pairs) == 0 {
				return &tls.Certificate{}, nil
			}
			return &pairs[0], nil
		},
	}
}

// result is how one connection went, on both sides. In TLS 1.3 a client has
// shaken hands before the server has seen its certificate, so each side's error
// also covers one byte from the server to the client.
type result struct {
	server, client       error
	serverState, clState tls.ConnectionState
}

func handshake(t testing.TB, server, client *tls.Config) result {
	t.Helper()
	var r result
	r.server, r.client = connect(t, func(c net.Conn) error {
		conn := tls.Server(c, server)
		if err := conn.Handshake(); err != nil {
			return err
		}
		r.serverState = conn.ConnectionState()
		_, err := conn.Write([]byte{1})
		return err
	}, func(c net.Conn) error {
		conn := tls.Client(c, client)
		if err := conn.Handshake(); err != nil {
			return err
		}
		r.clState = conn.ConnectionState()
		_, err := conn.Read(make([]byte, 1))
		return err
	})
	return r
}

// connect runs both ends of a loopback connection to their end.
func connect(t testing.TB, server, client func(net.Conn) error) (serverErr, clientErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		defer close(done)
		defer l.Close()
		c, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer c.Close()
		done <- server(c)
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		l.Close()
		<-done
		t.Fatal(err)
	}
	clientErr = client(c)
	c.Close()
	return <-done, clientErr
}
