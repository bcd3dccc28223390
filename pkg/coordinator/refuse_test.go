package coordinator

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// leaf is a certificate of the world's own authority that package certs would
// not issue.
func leaf(t testing.TB, w *world, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	ca, err := tls.LoadX509KeyPair(filepath.Join(w.caDir, "ca.crt"), filepath.Join(w.caDir, "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := url.Parse(testID.URI())
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), URIs: []*url.URL{id},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	change(cert)
	der, err := x509.CreateCertificate(rand.Reader, cert, w.authority.Cert, key.Public(), ca.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func pair(t testing.TB, c *certs.JobCerts) tls.Certificate {
	t.Helper()
	p, err := tls.X509KeyPair(c.ClientCert, c.ClientKey)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func issue(t testing.TB, a *certs.Authority, id certs.ID) *certs.JobCerts {
	t.Helper()
	c, err := a.IssueJob(id)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestRefusedByTLS is about who does not get as far as a hello.
func TestRefusedByTLS(t *testing.T) {
	w := newWorld(t, nil)
	other, err := certs.NewAuthority(0)
	if err != nil {
		t.Fatal(err)
	}
	clientCert, clientKey, err := w.authority.IssueClient("somebody", 0)
	if err != nil {
		t.Fatal(err)
	}
	somebody, err := tls.X509KeyPair(clientCert, clientKey)
	if err != nil {
		t.Fatal(err)
	}
	jobURI := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	wrongServer := bareTLS(t, w, pair(t, w.job))
	wrongServer.ServerName = certs.ID{Namespace: "jobs", Job: "other"}.ServerName()
	tls12 := bareTLS(t, w, pair(t, w.job))
	tls12.MaxVersion = tls.VersionTLS12

	tests := []struct {
		name  string
		creds credentials.TransportCredentials
	}{
		{"no certificate", credentials.NewTLS(bareTLS(t, w))},
		{"another authority's", credentials.NewTLS(bareTLS(t, w, pair(t, issue(t, other, testID))))},
		{"expired", credentials.NewTLS(bareTLS(t, w, leaf(t, w, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })))},
		{"not valid yet",
			credentials.NewTLS(bareTLS(t, w, leaf(t, w, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })))},
		{"for servers alone",
			credentials.NewTLS(bareTLS(t, w,
				leaf(t, w, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })))},
		{"of no job", credentials.NewTLS(bareTLS(t, w, somebody))},
		{"of two jobs", credentials.NewTLS(bareTLS(t, w, leaf(t, w, func(c *x509.Certificate) {
			c.URIs = append(c.URIs, jobURI("spiffe://hodei/ns/jobs/job/other"))
		})))},
		{"of another trust domain", credentials.NewTLS(bareTLS(t, w, leaf(t, w, func(c *x509.Certificate) {
			c.URIs = []*url.URL{jobURI("spiffe://other/ns/jobs/job/make-k3x9z")}
		})))},
		{"TLS 1.2", credentials.NewTLS(tls12)},
		{"plaintext", insecure.NewCredentials()},
		{"server of another name", credentials.NewTLS(wrongServer)},
		{"server of another authority", credentials.NewTLS(clientTLS(t, issue(t, other, testID)))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := w.dial(t, tt.creds)
			a.send(&hodeipb.FromAgent_Hello{Hello: hello(0)})
			if s := a.fails(); s.Code() != codes.Unavailable {
				t.Errorf("ended with %s: %s", s.Code(), s.Message())
			}
		})
	}
	if len(w.follower.attached) > 0 {
		t.Error("one was let in")
	}
	// It is the certificates that are refused: with a proper one it works.
	a := w.dial(t, credentials.NewTLS(bareTLS(t, w, leaf(t, w, func(*x509.Certificate) {}))))
	a.send(&hodeipb.FromAgent_Hello{Hello: hello(0)})
	a.welcome()
}

// TestRefusedWithoutVerification is about a tls.Config that was made too lax:
// the coordinator still lets nobody in whom nothing vouches for.
func TestRefusedWithoutVerification(t *testing.T) {
	w := newWorld(t, func(s *Server) {
		s.TLS.ClientAuth = tls.RequestClientCert
		s.TLS.VerifyConnection = nil
	})
	a := w.dial(t, credentials.NewTLS(bareTLS(t, w)))
	a.send(&hodeipb.FromAgent_Hello{Hello: hello(0)})
	a.failsWith(codes.Unauthenticated, "no verified certificate")
	b := w.dial(t, credentials.NewTLS(bareTLS(t, w, pair(t, w.job))))
	b.send(&hodeipb.FromAgent_Hello{Hello: hello(0)})
	b.failsWith(codes.Unauthenticated, "no verified certificate")
}

func TestRefusedAtHello(t *testing.T) {
	w := newWorld(t, nil)
	own := clientTLS(t, w.job)
	anothers := clientTLS(t, issue(t, w.authority, certs.ID{Namespace: testID.Namespace, Job: "other"}))
	namesake := clientTLS(t, issue(t, w.authority, certs.ID{Namespace: "elsewhere", Job: testID.Job}))
	lying := func(change func(*hodeipb.Hello)) *hodeipb.FromAgent_Hello {
		h := hello(0)
		change(h)
		return &hodeipb.FromAgent_Hello{Hello: h}
	}
	const notFollowed = "job jobs/other is not followed here"
	const anotherJob = "the certificate was issued for another job than jobs/make-k3x9z"
	const lacks = "the hello lacks attempt_uid, extent or state"
	tests := []struct {
		name    string
		tls     *tls.Config
		first   any
		code    codes.Code
		message string
	}{
		{"another job's certificate", anothers, lying(func(*hodeipb.Hello) {}), codes.PermissionDenied, anotherJob},
		{"another namespace's certificate", namesake, lying(func(*hodeipb.Hello) {}), codes.PermissionDenied, anotherJob},
		{"another job, honestly", anothers, lying(func(h *hodeipb.Hello) { h.Job = "other" }), codes.PermissionDenied, notFollowed},
		{"hello for another job", own, lying(func(h *hodeipb.Hello) { h.Job = "other" }), codes.PermissionDenied, notFollowed},
		{"hello for another namespace", own, lying(func(h *hodeipb.Hello) { h.Namespace = "x" }), codes.PermissionDenied,
			"job x/make-k3x9z is not followed here"},
		{"later protocol", own, lying(func(h *hodeipb.Hello) { h.Protocol = 2 }), codes.FailedPrecondition,
			"the agent speaks protocol 2, the coordinator 1: use the same version of both"},
		{"no protocol", own, lying(func(h *hodeipb.Hello) { h.Protocol = 0 }), codes.FailedPrecondition,
			"the agent speaks protocol 0, the coordinator 1: use the same version of both"},
		{"no attempt", own, lying(func(h *hodeipb.Hello) { h.AttemptUid = "" }), codes.InvalidArgument, lacks},
		{"no extent", own, lying(func(h *hodeipb.Hello) { h.Extent = nil }), codes.InvalidArgument, lacks},
		{"no state", own, lying(func(h *hodeipb.Hello) { h.State = nil }), codes.InvalidArgument, lacks},
		{"extent backwards", own, lying(func(h *hodeipb.Hello) { h.Extent = &hodeipb.Extent{First: 2, End: 1} }), codes.InvalidArgument,
			"the hello's extent ends before it begins"},
		{"a batch first", own, text(0, "x"), codes.InvalidArgument, "the first message is not a hello"},
		{"an exit record first", own, &hodeipb.ExitRecord{}, codes.InvalidArgument, "the first message is not a hello"},
		{"an empty message first", own, nil, codes.InvalidArgument, "the first message is not a hello"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := w.dial(t, credentials.NewTLS(tt.tls))
			a.send(tt.first)
			a.failsWith(tt.code, tt.message)
		})
	}
	if len(w.follower.attached)+len(w.follower.exits) > 0 {
		t.Error("one was let in")
	}
}

// TestGarbage sends what is not even TLS, and what ends in its middle.
func TestGarbage(t *testing.T) {
	w := newWorld(t, nil)
	for _, garbage := range []string{"", "GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\x00\xff",
		strings.Repeat("\x00", 1<<16)} {
		conn, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(garbage))
		_ = conn.(*net.TCPConn).CloseWrite()
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		for buf := make([]byte, 1024); err == nil; {
			_, err = conn.Read(buf)
		}
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			t.Errorf("%.20q keeps its connection", garbage)
		}
		conn.Close()
	}
	w.attach(t, 0).welcome()
}
