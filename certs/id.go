package certs

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"

	"github.com/hodei-jobs/hodei/pkg/contract"
)

// ID names one job of one namespace. Both parts are RFC 1123 labels: 1 to 63
// of a-z, 0-9 and '-', with no '-' at either end. The zero ID names no job.
type ID struct {
	Namespace string
	Job       string
}

// URI returns the ID as the URI SAN of the job's certificates:
// spiffe://hodei/ns/<namespace>/job/<job>.
func (id ID) URI() string {
	return contract.JobURI(id.Namespace, id.Job)
}

// ServerName returns the DNS SAN of the job's own server certificate,
// <job>.<namespace>.hodei. It is what an agent expects of whoever reaches it
// through a tunnel, and is never looked up. Labels hold no dot, so that no two
// IDs have the same name.
func (id ID) ServerName() string {
	return id.Job + "." + id.Namespace + ".hodei"
}

// ParseID reads what [ID.URI] writes and nothing else: no other case or trust
// domain, no escapes, port, query, fragment or trailing slash.
func ParseID(uri string) (ID, error) {
	rest, ok := strings.CutPrefix(uri, contract.JobURIPrefix)
	if !ok {
		return ID{}, fmt.Errorf("%q is not a job's URI", uri)
	}
	ns, name, ok := strings.Cut(rest, contract.JobURIMiddle)
	if !ok {
		return ID{}, fmt.Errorf("%q is not a job's URI", uri)
	}
	id := ID{Namespace: ns, Job: name}
	if err := id.check(); err != nil {
		return ID{}, fmt.Errorf("job's URI %q: %w", uri, err)
	}
	return id, nil
}

// PeerID returns the job that a certificate was issued for. The certificate
// must have exactly one URI SAN, of the form of [ID.URI]; with two, which one
// counts would depend on the reader. PeerID doesn't verify the certificate:
// take one whose handshake has succeeded.
func PeerID(cert *x509.Certificate) (ID, error) {
	if n := len(cert.URIs); n != 1 {
		return ID{}, fmt.Errorf("certificate of %q has %d URI names, a job's has one", cert.Subject.CommonName, n)
	}
	return ParseID(cert.URIs[0].String())
}

func (id ID) check() error {
	if !isLabel(id.Namespace) {
		return fmt.Errorf("namespace %q is not a DNS label", id.Namespace)
	}
	if !isLabel(id.Job) {
		return fmt.Errorf("job name %q is not a DNS label", id.Job)
	}
	return nil
}

func (id ID) url() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: "hodei", Path: "/ns/" + id.Namespace + "/job/" + id.Job}
}

// isLabel is RFC 1123's label as Kubernetes has it, in lower case.
func isLabel(s string) bool {
	if len(s) == 0 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
