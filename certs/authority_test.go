package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestNewAuthority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // for exact times
		now := time.Now()
		tests := []struct {
			name     string
			validity time.Duration
			want     time.Time
		}{
			{"default", 0, now.Add(DefaultValidity)},
			{"an hour", time.Hour, now.Add(time.Hour)},
		}
		for _, tt := range tests {
			a, err := NewAuthority(tt.validity)
			if err != nil {
				t.Fatal(err)
			}
			if !a.Cert.NotBefore.Equal(now.Add(-5*time.Minute)) || !a.Cert.NotAfter.Equal(tt.want) {
				t.Errorf("%s: valid from %v to %v, want to %v", tt.name, a.Cert.NotBefore, a.Cert.NotAfter, tt.want)
			}
			if err := checkCA(a.Cert, now); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			if key, ok := a.Cert.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
				t.Errorf("%s: public key is %T, want ECDSA P-256", tt.name, a.Cert.PublicKey)
			}
			if got := parseCert(t, a.CAPEM()); !got.Equal(a.Cert) {
				t.Errorf("%s: CAPEM is not Cert", tt.name)
			}
		}
		if _, err := NewAuthority(-1); err == nil {
			t.Error("negative validity: no error")
		}
	})
}

func TestIssueJob(t *testing.T) {
	day := 24 * time.Hour
	tests := []struct {
		name     string
		validity time.Duration // of the CA
		want     time.Duration // of the leaves
	}{
		{"long CA", 365 * day, 30 * day},
		{"short CA", 7 * day, 7 * day},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, err := NewAuthority(tt.validity)
				if err != nil {
					t.Fatal(err)
				}
				c := mustIssueJob(t, a, testID)
				client, server := parseCert(t, c.ClientCert), parseCert(t, c.ServerCert)
				for name, cert := range map[string]*x509.Certificate{"client": client, "server": server} {
					if want := time.Now().Add(-5 * time.Minute); !cert.NotBefore.Equal(want) {
						t.Errorf("%s begins at %v, want %v", name, cert.NotBefore, want)
					}
					if want := time.Now().Add(tt.want); !cert.NotAfter.Equal(want) {
						t.Errorf("%s ends at %v, want %v", name, cert.NotAfter, want)
					}
					if id, err := PeerID(cert); id != testID || err != nil {
						t.Errorf("%s: PeerID() = %+v, %v", name, id, err)
					}
					if cert.IsCA || cert.KeyUsage != x509.KeyUsageDigitalSignature {
						t.Errorf("%s: IsCA %v, key usage %b", name, cert.IsCA, cert.KeyUsage)
					}
				}
				if want := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}; !slices.Equal(client.ExtKeyUsage, want) {
					t.Errorf("client's usage is %v", client.ExtKeyUsage)
				}
				if want := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}; !slices.Equal(server.ExtKeyUsage, want) {
					t.Errorf("server's usage is %v", server.ExtKeyUsage)
				}
				if len(client.DNSNames) != 0 || !slices.Equal(server.DNSNames, []string{testID.ServerName()}) {
					t.Errorf("DNS names: client %q, server %q", client.DNSNames, server.DNSNames)
				}
				if client.SerialNumber.Cmp(server.SerialNumber) == 0 || bytes.Equal(c.ClientKey, c.ServerKey) {
					t.Error("client and server share a serial number or key")
				}
				if !bytes.Equal(c.CA, a.CAPEM()) {
					t.Error("CA is not the authority's")
				}
			})
		})
	}
}

func TestIssueAfterCAEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := NewAuthority(time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		if _, err := a.IssueJob(testID); !errors.Is(err, ErrExpired) {
			t.Errorf("IssueJob after the CA's end: %v, want ErrExpired", err)
		}
	})
}

func TestIssueRefuses(t *testing.T) {
	a := mustAuthority(t)
	server := func(names ...string) func() error {
		return func() error { _, _, err := a.IssueServer(names, 0); return err }
	}
	client := func(name string, validity time.Duration) func() error {
		return func() error { _, _, err := a.IssueClient(name, validity); return err }
	}
	job := func(id ID) func() error {
		return func() error { _, err := a.IssueJob(id); return err }
	}
	tests := []struct {
		name string
		do   func() error
	}{
		{"zero ID", job(ID{})},
		{"namespace that would change the URI", job(ID{"ci/job/x", "y"})},
		{"job with a dot", job(ID{"ci", "a.b"})},
		{"no server name", server()},
		{"empty server name", server("")},
		{"URL as server name", server("https://example.com")},
		{"port in server name", server("example.com:443")},
		{"mistyped address", server("10.0.0.256")},
		{"bare wildcard", server("*.")},
		{"inner wildcard", server("a.*.example.com")},
		{"empty client name", client("", 0)},
		{"long client name", client(strings.Repeat("a", 65), 0)},
		{"negative validity", client("x", -time.Second)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.do() == nil {
				t.Error("no error")
			}
		})
	}
}

func TestIssueServer(t *testing.T) {
	a := mustAuthority(t)
	certPEM, keyPEM, err := a.IssueServer(append(DefaultSANs(), "*.Example.com"), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	keyPair(t, certPEM, keyPEM)
	cert := parseCert(t, certPEM)
	for _, name := range append(DefaultSANs(), "a.example.com") {
		if err := cert.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if cert.NotAfter.After(time.Now().Add(time.Hour)) {
		t.Errorf("ends at %v, want within the hour", cert.NotAfter)
	}
	certPEM, _, err = a.IssueServer([]string{"x"}, 2*DefaultValidity)
	if err != nil {
		t.Fatal(err)
	}
	if got := parseCert(t, certPEM).NotAfter; !got.Equal(a.Cert.NotAfter) {
		t.Errorf("ends at %v, after the CA's end %v", got, a.Cert.NotAfter)
	}
}

// writeAuthority is an authority's directory with the given CA certificate.
func writeAuthority(t *testing.T, caPEM []byte, a *Authority) string {
	t.Helper()
	dir := t.TempDir()
	keyPEM, err := encodeKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "ca.crt"), caPEM)
	writeFile(t, filepath.Join(dir, "ca.key"), keyPEM)
	return dir
}

func TestLoadAuthority(t *testing.T) {
	a, old := mustAuthority(t), mustAuthority(t)
	bundle := append(a.CAPEM(), old.CAPEM()...)
	dir := writeAuthority(t, slices.Concat([]byte("# a comment\n"), bundle), a)
	loaded, err := LoadAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !loaded.Cert.Equal(a.Cert) {
		t.Error("Cert is not the first of ca.crt")
	}
	if !bytes.Equal(loaded.CAPEM(), bundle) {
		t.Errorf("CAPEM() is not the bundle of ca.crt:\n%s", loaded.CAPEM())
	}
	c := mustIssueJob(t, loaded, testID)
	if err := parseCert(t, c.ServerCert).CheckSignatureFrom(a.Cert); err != nil {
		t.Error(err)
	}
}

func TestLoadAuthorityErrors(t *testing.T) {
	now := time.Now()
	a := mustAuthority(t)
	keyPEM, err := encodeKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	authority := func(from, to time.Time) *Authority {
		a, err := newAuthority(caName, from, to)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	expired := authority(now.Add(-48*time.Hour), now.Add(-24*time.Hour))
	early := authority(now.Add(time.Hour), now.Add(2*time.Hour))
	leaf, leafKey := signed(t, a, now.Add(-time.Hour), now.Add(time.Hour), x509.ExtKeyUsageServerAuth)

	good := func() string { return writeAuthority(t, a.CAPEM(), a) }
	with := func(name string, data []byte) string {
		dir := good()
		writeFile(t, filepath.Join(dir, name), data)
		return dir
	}
	without := func(name string) string {
		dir := good()
		os.Remove(filepath.Join(dir, name))
		return dir
	}
	leafDir := with("ca.crt", leaf)
	writeFile(t, filepath.Join(leafDir, "ca.key"), leafKey)

	tests := []struct {
		name, dir, file string
		want            error
		text            []string
	}{
		{"no certificate", without("ca.crt"), "ca.crt", fs.ErrNotExist, nil},
		{"no key", without("ca.key"), "ca.key", fs.ErrNotExist, nil},
		{"no directory", filepath.Join(t.TempDir(), "none"), "ca.crt", fs.ErrNotExist, nil},
		{"empty certificate", with("ca.crt", nil), "ca.crt", ErrMalformed, []string{"not PEM"}},
		{"garbage certificate", with("ca.crt", []byte("\x00\xff garbage")), "ca.crt", ErrMalformed, []string{"not PEM"}},
		{"torn certificate", with("ca.crt", a.CAPEM()[:200]), "ca.crt", ErrMalformed, []string{"0 of its 1"}},
		{"torn bundle", with("ca.crt", append(a.CAPEM(), a.CAPEM()[:200]...)), "ca.crt", ErrMalformed, []string{"1 of its 2"}},
		{"garbage in PEM", with("ca.crt", encodeCert([]byte("garbage"))), "ca.crt", ErrMalformed, nil},
		{"key as certificate", with("ca.crt", keyPEM), "ca.crt", ErrMalformed, []string{"private key"}},
		{"torn key", with("ca.key", keyPEM[:60]), "ca.key", ErrMalformed, nil},
		{"certificate as key", with("ca.key", a.CAPEM()), "ca.key", ErrMalformed, []string{"certificate"}},
		{"garbage in key", with("ca.key", []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")), "ca.key",
			ErrMalformed, nil},
		{"encrypted key", with("ca.key", []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")),
			"ca.key", ErrMalformed, []string{"encrypted"}},
		{"other key", with("ca.key", leafKey), "ca.key", ErrKeyMismatch, []string{"ca.crt"}},
		{"expired", writeAuthority(t, expired.CAPEM(), expired), "ca.crt", ErrExpired,
			[]string{expired.Cert.NotAfter.Format(time.DateOnly)}},
		{"not yet valid", writeAuthority(t, early.CAPEM(), early), "ca.crt", ErrNotYetValid,
			[]string{"begins at " + early.Cert.NotBefore.Format(time.RFC3339), "clock says 20"}},
		{"not a CA", leafDir, "ca.crt", ErrNotCA, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := LoadAuthority(tt.dir)
			if !errors.Is(err, tt.want) {
				t.Fatalf("error is %v, want %v", err, tt.want)
			}
			fe, ok := errors.AsType[*FileError](err)
			if !ok || fe.Path != filepath.Join(tt.dir, tt.file) {
				t.Fatalf("error %#v is not of the file %s", err, tt.file)
			}
			for _, text := range append(tt.text, fe.Path) {
				if strings.Count(err.Error(), text) != 1 {
					t.Errorf("error %q should say %q once", err, text)
				}
			}
		})
	}
}

func TestCheckPair(t *testing.T) {
	dir := t.TempDir()
	a := mustAuthority(t)
	now := time.Now()
	from, to := now.Add(-time.Hour), now.Add(time.Hour)
	certPEM, keyPEM := signed(t, a, from, to, x509.ExtKeyUsageClientAuth)
	_, otherKey := signed(t, a, from, to, x509.ExtKeyUsageClientAuth)
	path := func(name string) string { return filepath.Join(dir, name) }
	writeFile(t, path("x.crt"), certPEM)
	writeFile(t, path("x.key"), keyPEM)
	writeFile(t, path("y.key"), otherKey)

	tests := []struct {
		name, cert, key string
		now             time.Time
		want            error
	}{
		{"good", "x.crt", "x.key", now, nil},
		{"first second", "x.crt", "x.key", from, nil},
		{"last moment", "x.crt", "x.key", to.Truncate(time.Second), nil},
		{"expired", "x.crt", "x.key", to.Add(time.Second), ErrExpired},
		{"not yet valid", "x.crt", "x.key", from.Add(-time.Second), ErrNotYetValid},
		{"other key", "x.crt", "y.key", now, ErrKeyMismatch},
		{"swapped", "x.key", "x.crt", now, ErrMalformed},
		{"missing", "x.crt", "z.key", now, fs.ErrNotExist},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := CheckPair(path(tt.cert), path(tt.key), tt.now); !errors.Is(err, tt.want) {
				t.Errorf("error is %v, want %v", err, tt.want)
			}
		})
	}
}

// Keys of other tools, as OpenSSL and cert-manager write them.
func TestParseKey(t *testing.T) {
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(label string, der []byte) []byte {
		s := strings.Replace(string(encodeCert(der)), "CERTIFICATE", label, 2)
		return []byte(s)
	}
	parameters := block("EC PARAMETERS", []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7})
	got, err := parseKey(append(parameters, block("EC PRIVATE KEY", sec1)...))
	if err != nil || !key.Equal(got) {
		t.Errorf("SEC 1 behind parameters: %v", err)
	}
	if _, err := parseKey(block("RSA PRIVATE KEY", sec1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("EC key said to be RSA: %v, want ErrMalformed", err)
	}
}

func ExampleAuthority_IssueJob() {
	authority, err := NewAuthority(0)
	if err != nil {
		fmt.Println(err)
		return
	}
	job, err := authority.IssueJob(ID{Namespace: "hodei-jobs-workers", Job: "make-k3x9z"})
	if err != nil {
		fmt.Println(err)
		return
	}
	config, err := job.ServerConfig()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(config.Certificates[0].Leaf.DNSNames)
	// Output: [make-k3x9z.hodei-jobs-workers.hodei]
}
