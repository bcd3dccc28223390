package certs

import (
	"crypto/x509"
	"net/url"
	"strings"
	"testing"
)

func TestID(t *testing.T) {
	if got, want := testID.URI(), "spiffe://hodei/ns/hodei-jobs-workers/job/make-k3x9z"; got != want {
		t.Errorf("URI() = %q, want %q", got, want)
	}
	if got, want := testID.ServerName(), "make-k3x9z.hodei-jobs-workers.hodei"; got != want {
		t.Errorf("ServerName() = %q, want %q", got, want)
	}
	if got, want := testID.url().String(), testID.URI(); got != want {
		t.Errorf("url() = %q, want %q", got, want)
	}
}

func TestParseID(t *testing.T) {
	long := strings.Repeat("a", 63)
	tests := []struct {
		name, uri string
		want      ID // zero: refused
	}{
		{"usual", "spiffe://hodei/ns/ci/job/make-k3x9z", ID{"ci", "make-k3x9z"}},
		{"digits first", "spiffe://hodei/ns/1/job/2", ID{"1", "2"}},
		{"longest", "spiffe://hodei/ns/" + long + "/job/" + long, ID{long, long}},
		{"called job", "spiffe://hodei/ns/job/job/job", ID{"job", "job"}},
		{"empty", "", ID{}},
		{"too long", "spiffe://hodei/ns/ci/job/a" + long, ID{}},
		{"no job", "spiffe://hodei/ns/ci", ID{}},
		{"empty job", "spiffe://hodei/ns/ci/job/", ID{}},
		{"empty namespace", "spiffe://hodei/ns//job/x", ID{}},
		{"trailing slash", "spiffe://hodei/ns/ci/job/x/", ID{}},
		{"more behind", "spiffe://hodei/ns/ci/job/x/job/y", ID{}},
		{"dot", "spiffe://hodei/ns/ci/job/a.b", ID{}},
		{"dot-dot", "spiffe://hodei/ns/ci/job/..", ID{}},
		{"upper case", "spiffe://hodei/ns/ci/job/Make", ID{}},
		{"upper-case scheme", "SPIFFE://hodei/ns/ci/job/x", ID{}},
		{"escape", "spiffe://hodei/ns/ci/job/%78", ID{}},
		{"other domain", "spiffe://hodei.example/ns/ci/job/x", ID{}},
		{"port", "spiffe://hodei:1/ns/ci/job/x", ID{}},
		{"user", "spiffe://u@hodei/ns/ci/job/x", ID{}},
		{"query", "spiffe://hodei/ns/ci/job/x?y", ID{}},
		{"fragment", "spiffe://hodei/ns/ci/job/x#y", ID{}},
		{"hyphen first", "spiffe://hodei/ns/ci/job/-x", ID{}},
		{"hyphen last", "spiffe://hodei/ns/ci-/job/x", ID{}},
		{"newline", "spiffe://hodei/ns/ci/job/x\n", ID{}},
		{"NUL", "spiffe://hodei/ns/ci/job/x\x00", ID{}},
		{"not ASCII", "spiffe://hodei/ns/ci/job/é", ID{}},
		{"service account", "spiffe://hodei/ns/ci/sa/default", ID{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseID(tt.uri)
			if got != tt.want || (err == nil) != (tt.want != ID{}) {
				t.Errorf("ParseID(%q) = %+v, %v, want %+v", tt.uri, got, err, tt.want)
			}
		})
	}
}

// FuzzParseID holds ParseID to its promise: it takes what URI writes and
// nothing else. The corpus is in testdata/fuzz.
func FuzzParseID(f *testing.F) {
	f.Add(testID.URI())
	f.Fuzz(func(t *testing.T, uri string) {
		id, err := ParseID(uri)
		if err != nil {
			if id != (ID{}) {
				t.Fatalf("ParseID(%q) = %+v together with %v", uri, id, err)
			}
			return
		}
		if id.URI() != uri {
			t.Fatalf("ParseID(%q).URI() = %q", uri, id.URI())
		}
		u, err := url.Parse(uri)
		if err != nil || u.String() != uri {
			t.Fatalf("%q is no plain URL: %v, %v", uri, u, err)
		}
		cert := &x509.Certificate{DNSNames: []string{id.ServerName()}, URIs: []*url.URL{u}}
		if err := cert.VerifyHostname(id.ServerName()); err != nil {
			t.Fatalf("server name of %+v: %v", id, err)
		}
		if peer, err := PeerID(cert); peer != id || err != nil {
			t.Fatalf("PeerID() = %+v, %v, want %+v", peer, err, id)
		}
	})
}

func TestPeerID(t *testing.T) {
	uri := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	tests := []struct {
		name string
		uris []*url.URL
		want ID
	}{
		{"one", []*url.URL{uri("spiffe://hodei/ns/ci/job/x")}, ID{"ci", "x"}},
		{"none", nil, ID{}},
		{"two jobs", []*url.URL{uri("spiffe://hodei/ns/ci/job/x"), uri("spiffe://hodei/ns/ci/job/y")}, ID{}},
		{"a job and another", []*url.URL{uri("spiffe://hodei/ns/ci/job/x"), uri("https://example.com")}, ID{}},
		{"another", []*url.URL{uri("https://example.com")}, ID{}},
		{"escaped", []*url.URL{uri("spiffe://hodei/ns/ci/job/%78")}, ID{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := PeerID(&x509.Certificate{URIs: tt.uris})
			if got != tt.want || (err == nil) != (tt.want != ID{}) {
				t.Errorf("PeerID() = %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}
