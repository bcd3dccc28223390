package kubernetes

import (
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/hodei-jobs/hodei/certs"
)

func testCerts(t testing.TB, namespace, name string) *certs.JobCerts {
	t.Helper()
	authority, err := certs.NewAuthority(0)
	if err != nil {
		t.Fatal(err)
	}
	id, err := authority.IssueJob(certs.ID{Namespace: namespace, Job: name})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// quiet is the log of servers whose clients hang up on purpose.
var quiet = log.New(io.Discard, "", 0)

// closedPort is the URL of a port on which nobody listens.
func closedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

// pemOf is the certificate of a TLS server.
func pemOf(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// configOf is the way to a fake API server, which understands JSON only.
func configOf(s *httptest.Server) *rest.Config {
	return &rest.Config{Host: s.URL, TLSClientConfig: rest.TLSClientConfig{CAData: pemOf(s)},
		ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
}
