package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodei-jobs/hodei/pkg/contract"
)

func mustIssueExec(t testing.TB, a *Authority, id ID) *JobCerts {
	t.Helper()
	c, err := a.IssueExec(id)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestIssueExec: the certificate is the job's own but for its URI, and there is none for an agent.
func TestIssueExec(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // for exact times
		a := mustAuthority(t)
		c := mustIssueExec(t, a, testID)
		if c.ClientCert != nil || c.ClientKey != nil || !bytes.Equal(c.CA, a.CAPEM()) {
			t.Errorf("client's certificate %q, CA %q", c.ClientCert, c.CA)
		}
		keyPair(t, c.ServerCert, c.ServerKey)
		got, own := parseCert(t, c.ServerCert), parseCert(t, mustIssueJob(t, a, testID).ServerCert)
		if len(got.URIs) != 1 || got.URIs[0].String() != contract.JobExecURI(testID.Namespace, testID.Job) {
			t.Errorf("URIs %v", got.URIs)
		}
		if !slices.Equal(got.DNSNames, own.DNSNames) || !slices.Equal(got.ExtKeyUsage, own.ExtKeyUsage) || got.KeyUsage != own.KeyUsage ||
			got.IsCA || !got.NotBefore.Equal(own.NotBefore) || !got.NotAfter.Equal(own.NotAfter) ||
			got.Subject.String() != own.Subject.String() {
			t.Errorf("got  %q %v %b %v to %v of %s\nwant %q %v %b %v to %v of %s",
				got.DNSNames, got.ExtKeyUsage, got.KeyUsage, got.NotBefore, got.NotAfter, got.Subject,
				own.DNSNames, own.ExtKeyUsage, own.KeyUsage, own.NotBefore, own.NotAfter, own.Subject)
		}
		// Whoever takes a certificate for a job's own must not take this one: what it is good for is more.
		if id, err := PeerID(got); err == nil {
			t.Errorf("it is taken for that of %+v", id)
		}
		time.Sleep(2 * DefaultValidity)
		if _, err := a.IssueExec(testID); !errors.Is(err, ErrExpired) {
			t.Errorf("after the CA's end: %v, want ErrExpired", err)
		}
	})
}

func TestIssueExecRefuses(t *testing.T) {
	a := mustAuthority(t)
	for _, id := range []ID{{}, {"ci/job/x", "y"}, {"ci", "a.b"}, {"ci", "x/exec"}, {"ci", ""}} {
		if _, err := a.IssueExec(id); err == nil {
			t.Errorf("%+v: no error", id)
		}
	}
}

// TestExecHandshake: an agent takes the certificate for that of its coordinator, and sees which one it is; of another job
// it takes none. Both certificates pass for a server alone.
func TestExecHandshake(t *testing.T) {
	a := mustAuthority(t)
	agent := agentFiles(t, t.TempDir(), mustIssueJob(t, a, testID))
	other := ID{Namespace: testID.Namespace, Job: "other"}
	for _, tt := range []struct {
		name  string
		certs *JobCerts
		uri   string // that the agent sees; empty: it refuses
	}{
		{"the job's own", mustIssueJob(t, a, testID), testID.URI()},
		{"for commands beside it", mustIssueExec(t, a, testID), testID.URI() + "/exec"},
		{"for commands beside another job", mustIssueExec(t, a, other), ""},
		{"of another authority", mustIssueExec(t, mustAuthority(t), testID), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config, err := tt.certs.ServerConfig()
			if err != nil {
				t.Fatal(err)
			}
			client, err := agent.ClientConfig(testID.ServerName())
			if err != nil {
				t.Fatal(err)
			}
			here, there := net.Pipe()
			defer here.Close()
			defer there.Close()
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = tls.Server(there, config).HandshakeContext(t.Context())
				there.Close()
			}()
			conn := tls.Client(here, client)
			err = conn.HandshakeContext(t.Context())
			here.Close()
			<-done
			var seen []string
			if err == nil {
				for _, uri := range conn.ConnectionState().PeerCertificates[0].URIs {
					seen = append(seen, uri.String())
				}
			}
			if got := strings.Join(seen, " "); got != tt.uri {
				t.Errorf("the agent sees %q, want %q (%v)", got, tt.uri, err)
			}
		})
	}
	exec := parseCert(t, mustIssueExec(t, a, testID).ServerCert)
	roots := x509.NewCertPool()
	roots.AddCert(a.Cert)
	if _, err := exec.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err == nil {
		t.Error("it passes for a client's certificate")
	}
}
