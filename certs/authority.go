package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hodei-jobs/hodei/pkg/contract"
)

// DefaultValidity is how long a CA lives when nobody says otherwise: ten
// years, as mkcert's. Nothing renews a CA by itself and its end cuts off every
// job at once, so that a shorter life is an outage with a date; a longer one
// only lengthens what a stolen ca.key is good for.
const DefaultValidity = 10 * 365 * 24 * time.Hour

const (
	// jobValidity bounds a job's certificates. They are made when the job is
	// submitted and nothing renews them by itself, so it has to cover queueing,
	// running and lingering: less would cut long jobs off, more would leave a
	// Secret that somebody copied good for longer.
	jobValidity = 30 * 24 * time.Hour

	// clockSkew is how far back a certificate's start is set. A Pod's node may
	// be behind the machine that signed; without this its first handshake says
	// "not yet valid". Kubernetes' own signer backdates by the same amount.
	clockSkew = 5 * time.Minute

	// maxCommonName is X.509's bound (ub-common-name in RFC 5280); other TLS
	// libraries refuse more.
	maxCommonName = 64
)

// Authority is a certificate authority: it issues certificates that are
// verified against its own. Make one with [NewAuthority] or [LoadAuthority];
// the zero Authority can't issue. It is safe for concurrent use.
type Authority struct {
	// Cert is the certificate that issued ones are signed with. Not to be
	// modified.
	Cert *x509.Certificate
	// Dir is the directory that [LoadAuthority] has read it from; empty: none.
	Dir string

	key     crypto.Signer
	caPEM   []byte
	exposed string // see Exposed
}

// Names of CAs, for people, and for [InMemory].
const (
	caName       = "hodei CA"
	memoryCAName = "hodei CA in memory"
)

// NewAuthority makes an authority with a new ECDSA P-256 key, in memory only,
// which its name says: "hodei CA in memory". It is valid from five minutes ago for the given time; zero means
// [DefaultValidity]. It signs leaf certificates, no further CAs.
func NewAuthority(validity time.Duration) (*Authority, error) {
	return makeAuthority(memoryCAName, validity)
}

// InMemory tells whether the first of some PEM certificates is that of a CA that
// [NewAuthority] made, whose key was on no disk. The error is [ErrMalformed].
func InMemory(caPEM []byte) (bool, error) {
	bundle, err := parseCertificates(caPEM)
	return err == nil && bundle[0].Subject.CommonName == memoryCAName, err
}

func makeAuthority(name string, validity time.Duration) (*Authority, error) {
	if validity < 0 {
		return nil, fmt.Errorf("validity %v is negative", validity)
	}
	if validity == 0 {
		validity = DefaultValidity
	}
	now := time.Now()
	return newAuthority(name, now.Add(-clockSkew), now.Add(validity))
}

func newAuthority(name string, notBefore, notAfter time.Time) (*Authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign CA certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse new CA certificate: %w", err)
	}
	return &Authority{Cert: cert, key: key, caPEM: encodeCert(der)}, nil
}

// LoadAuthority reads the authority of dir from its files ca.crt and ca.key.
// The first certificate of ca.crt is the one that signs; any behind it are
// only handed on as trusted, which is how a CA is replaced while jobs run. The
// key may be of any type that Go can sign with.
//
// Each error is a [FileError] with the file's path: it is [fs.ErrNotExist],
// [ErrMalformed], [ErrKeyMismatch], [ErrExpired], [ErrNotYetValid] or
// [ErrNotCA], or another error of the file system.
func LoadAuthority(dir string) (*Authority, error) {
	a, err := loadAuthority(filepath.Join(dir, caCertFile), filepath.Join(dir, caKeyFile))
	if err != nil {
		return nil, err
	}
	a.Dir = dir
	return a, nil
}

func loadAuthority(certPath, keyPath string) (*Authority, error) {
	now := time.Now()
	pair, err := loadPair(certPath, keyPath, now)
	if err != nil {
		return nil, err
	}
	if err := checkCA(pair.Leaf, now); err != nil {
		return nil, fileError(certPath, err)
	}
	a := &Authority{Cert: pair.Leaf, key: pair.PrivateKey.(crypto.Signer)}
	if info, err := os.Stat(keyPath); err == nil {
		a.exposed = exposed(keyPath, info.Mode())
	}
	for _, der := range pair.Certificate {
		a.caPEM = append(a.caPEM, encodeCert(der)...)
	}
	return a, nil
}

// CAPEM returns the PEM certificates that a peer has to trust: the authority's
// own, then those that stood behind it in the file that it was loaded from.
// The caller owns the slice.
func (a *Authority) CAPEM() []byte { return bytes.Clone(a.caPEM) }

// Exposed says that others than its owner have rights to the file of a's key, by
// its mode; else it is "".
func (a *Authority) Exposed() string { return a.exposed }

// JobCerts are the certificates of one job and their private keys, all PEM.
// CA, ClientCert and ClientKey go to the agent; CA, ServerCert and ServerKey
// are for whoever coordinates that job.
type JobCerts struct {
	CA         []byte // of the authority, see [Authority.CAPEM]
	ClientCert []byte // URI SAN [ID.URI], client authentication only
	ClientKey  []byte // PKCS#8
	ServerCert []byte // DNS SAN [ID.ServerName] and URI SAN [ID.URI], server authentication only
	ServerKey  []byte // PKCS#8
}

// IssueJob makes the certificates of one job, each with a new key. They are
// valid from five minutes ago for 30 days, or until the authority's own end if
// that is sooner. The error is [ErrExpired] when the authority's end is past.
func (a *Authority) IssueJob(id ID) (*JobCerts, error) {
	if err := id.check(); err != nil {
		return nil, err
	}
	c := &JobCerts{CA: a.CAPEM()}
	var err error
	c.ClientCert, c.ClientKey, err = a.issue(x509.Certificate{
		Subject:     pkix.Name{CommonName: id.Job},
		URIs:        []*url.URL{id.url()},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, jobValidity)
	if err != nil {
		return nil, err
	}
	c.ServerCert, c.ServerKey, err = a.issue(x509.Certificate{
		Subject:     pkix.Name{CommonName: id.Job},
		DNSNames:    []string{id.ServerName()},
		URIs:        []*url.URL{id.url()},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, jobValidity)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// IssueExec makes the certificate of who may have commands run beside the job's: its JobCerts have CA, ServerCert and
// ServerKey alone, and the certificate differs from that of [Authority.IssueJob] in its URI SAN, [contract.JobExecURI].
func (a *Authority) IssueExec(id ID) (*JobCerts, error) {
	if err := id.check(); err != nil {
		return nil, err
	}
	uri := id.url()
	uri.Path += contract.ExecPath
	c := &JobCerts{CA: a.CAPEM()}
	var err error
	c.ServerCert, c.ServerKey, err = a.issue(x509.Certificate{
		Subject:     pkix.Name{CommonName: id.Job},
		DNSNames:    []string{id.ServerName()},
		URIs:        []*url.URL{uri},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, jobValidity)
	return c, err
}

// IssueServer makes a server certificate for the names, of which there is at
// least one: IP addresses, and DNS names with or without a leading "*.". It is
// valid from five minutes ago for the given time, but not longer than the
// authority; zero means as long as the authority. The key is PKCS#8.
func (a *Authority) IssueServer(names []string, validity time.Duration) (certPEM, keyPEM []byte, err error) {
	if len(names) == 0 {
		return nil, nil, errors.New("server certificate without a name")
	}
	template := x509.Certificate{
		// For people; clients check the SANs.
		Subject:     pkix.Name{CommonName: "hodei-server"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		if !isDNSName(name) {
			return nil, nil, fmt.Errorf("server name %q is neither a DNS name nor an IP address", name)
		}
		template.DNSNames = append(template.DNSNames, name)
	}
	return a.issue(template, validity)
}

// IssueClient makes a client certificate with the name, of 1 to 64 bytes, as
// its common name. It carries no job, so that [PeerID] and with it
// [JobCerts.ServerConfig] refuse it. Its validity is as for
// [Authority.IssueServer]. The key is PKCS#8.
func (a *Authority) IssueClient(name string, validity time.Duration) (certPEM, keyPEM []byte, err error) {
	if len(name) == 0 || len(name) > maxCommonName {
		return nil, nil, fmt.Errorf("client name %q has %d bytes, not 1 to %d", name, len(name), maxCommonName)
	}
	return a.issue(x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, validity)
}

// issue signs a leaf for the time from now, zero meaning until the CA's end.
func (a *Authority) issue(template x509.Certificate, validity time.Duration) (certPEM, keyPEM []byte, err error) {
	now := time.Now()
	if err := checkTime(a.Cert, now); err != nil {
		return nil, nil, fmt.Errorf("issue with %q: %w", a.Cert.Subject.CommonName, err)
	}
	if validity < 0 {
		return nil, nil, fmt.Errorf("validity %v is negative", validity)
	}
	template.NotBefore = now.Add(-clockSkew)
	template.NotAfter = now.Add(validity)
	if validity == 0 || template.NotAfter.After(a.Cert.NotAfter) {
		template.NotAfter = a.Cert.NotAfter
	}
	return a.sign(template)
}

// sign makes a leaf with a new key and the times that the template has.
func (a *Authority) sign(template x509.Certificate) (certPEM, keyPEM []byte, err error) {
	key, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	if template.SerialNumber, err = newSerial(); err != nil {
		return nil, nil, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.BasicConstraintsValid = true
	der, err := x509.CreateCertificate(rand.Reader, &template, a.Cert, key.Public(), a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("sign certificate of %q: %w", template.Subject.CommonName, err)
	}
	keyPEM, err = encodeKey(key)
	if err != nil {
		return nil, nil, err
	}
	return encodeCert(der), keyPEM, nil
}

// newKey makes an ECDSA P-256 key: every TLS library verifies it, and a
// handshake costs a fraction of RSA's, which matters when many agents return
// at once.
func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	return key, nil
}

// newSerial draws 128 random bits: unique without a counter to keep, and
// within the 20 bytes that RFC 5280 allows.
func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, fmt.Errorf("draw serial number: %w", err)
	}
	return serial, nil
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// isDNSName also takes upper case, because people type it, and one wildcard.
// A number as the last label is a mistyped address: no domain ends so.
func isDNSName(name string) bool {
	if len(name) > 253 {
		return false
	}
	last := ""
	for label := range strings.SplitSeq(strings.TrimPrefix(strings.ToLower(name), "*."), ".") {
		if !isLabel(label) {
			return false
		}
		last = label
	}
	return strings.Trim(last, "0123456789") != ""
}
