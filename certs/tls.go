package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// alpn is what gRPC speaks. grpc-go's credentials add it by themselves, but a
// config that is used without them must offer it too.
const alpn = "h2"

// ServerConfig returns the coordinator's side of the connection to this job's
// agent: TLS 1.3 only, with ServerCert, to clients that present a certificate
// of CA for client authentication and for some job. Which job is not checked:
// compare [PeerID] of the verified certificate with the job that is expected.
//
// Only CA, ServerCert and ServerKey are read, once. The error wraps one of
// [ErrMalformed], [ErrKeyMismatch], [ErrExpired], [ErrNotYetValid] and
// [ErrNotCA].
func (c *JobCerts) ServerConfig() (*tls.Config, error) {
	now := time.Now()
	roots, err := parseRoots(c.CA, now)
	if err != nil {
		return nil, fmt.Errorf("CA of the job: %w", err)
	}
	chain, err := parseCertificates(c.ServerCert)
	if err != nil {
		return nil, fmt.Errorf("server certificate of the job: %w", err)
	}
	key, err := parseKey(c.ServerKey)
	if err != nil {
		return nil, fmt.Errorf("server key of the job: %w", err)
	}
	if !matches(key, chain[0]) {
		return nil, fmt.Errorf("server key of the job: %w", ErrKeyMismatch)
	}
	if err := checkTime(chain[0], now); err != nil {
		return nil, fmt.Errorf("server certificate of the job: %w", err)
	}
	return serverConfig(tlsCertificate(chain, key), roots), nil
}

// serverConfig is the side of a coordinator that shows pair.
func serverConfig(pair tls.Certificate, roots *x509.CertPool) *tls.Config {
	return &tls.Config{
		MinVersion:       tls.VersionTLS13,
		NextProtos:       []string{alpn},
		Certificates:     []tls.Certificate{pair},
		ClientAuth:       tls.RequireAndVerifyClientCert,
		ClientCAs:        roots,
		VerifyConnection: verifyJob,
		// An agent keeps one long connection, so that tickets would save next
		// to nothing; and a resumed session takes over the identity of the
		// first one without the certificate being shown again.
		SessionTicketsDisabled: true,
	}
}

// verifyJob refuses a client that the CA knows but that isn't a job's.
func verifyJob(cs tls.ConnectionState) error {
	_, err := PeerID(cs.PeerCertificates[0])
	return err
}

// JobServer is the coordinator's side of the connections to one job's agents,
// with certificates that may be replaced while it serves. Make one with
// [NewJobServer]. It is safe for concurrent use.
type JobServer struct {
	current atomic.Pointer[tls.Config]
}

// NewJobServer returns a JobServer that has c, with the errors of
// [JobCerts.ServerConfig].
func NewJobServer(c *JobCerts) (*JobServer, error) {
	s := &JobServer{}
	return s, s.Replace(c)
}

// Replace has c count from the next connection on. With an error, which is one of
// [JobCerts.ServerConfig], the old certificates stay.
func (s *JobServer) Replace(c *JobCerts) error {
	config, err := c.ServerConfig()
	if err != nil {
		return err
	}
	s.current.Store(config)
	return nil
}

// Config is as that of [JobCerts.ServerConfig], with the certificates that s has
// at each handshake.
func (s *JobServer) Config() *tls.Config {
	return renewable(func() (*tls.Config, error) { return s.current.Load(), nil })
}

// Certificate is the one that s shows at the next handshake. Not to be modified.
func (s *JobServer) Certificate() *x509.Certificate { return s.current.Load().Certificates[0].Leaf }

// Files are the paths of an agent's PEM files. CA may hold several
// certificates, one of which must be usable.
type Files struct {
	CA   string // certificates that the server may answer to
	Cert string // client certificate, with its chain behind it if it has one
	Key  string // private key of Cert
}

// ClientConfig returns the agent's side of the connection: TLS 1.3 only, with
// the certificate of f, to a server whose certificate is signed by f.CA, meant
// for server authentication and has serverName, a DNS name or IP address,
// among its SANs. Use [ID.ServerName] in a tunnel.
//
// The files are checked now, with the errors of [CheckPair] and, for f.CA,
// [ErrNotCA]; and they are read again at every handshake, so that replaced
// ones count from the next connection on. A handshake amid the replacement may
// fail, with the same errors; the next one won't.
func (f Files) ClientConfig(serverName string) (*tls.Config, error) {
	if serverName == "" {
		// crypto/x509 takes an empty name as "any name".
		return nil, errors.New("no server name to check")
	}
	now := time.Now()
	if _, err := loadRoots(f.CA, now); err != nil {
		return nil, err
	}
	if err := CheckPair(f.Cert, f.Key, now); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{alpn},
		ServerName: serverName,
		// RootCAs is fixed for the life of a config, but the CA's file may be
		// replaced under a running agent. So crypto/tls is told not to verify
		// the chain and name, and VerifyConnection does all of it against the
		// file as it is now. Never take one of these two lines without the
		// other. crypto/tls still checks that the server holds the key of the
		// certificate it shows.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			return f.verifyServer(cs.PeerCertificates, serverName)
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := loadPair(f.Cert, f.Key, time.Now())
			if err != nil {
				return nil, err
			}
			return &pair, nil
		},
		// With no cache no session is resumed: each handshake is a full one in
		// which the server shows its certificate and asks for ours.
		ClientSessionCache: nil,
	}, nil
}

// verifyServer is what crypto/tls does with RootCAs and ServerName, down to
// the type of the error.
func (f Files) verifyServer(chain []*x509.Certificate, serverName string) error {
	now := time.Now()
	roots, err := loadRoots(f.CA, now)
	if err != nil {
		return err
	}
	intermediates := x509.NewCertPool()
	for _, cert := range chain[1:] {
		intermediates.AddCert(cert)
	}
	_, err = chain[0].Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		DNSName:       serverName,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		CurrentTime:   now,
	})
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: chain, Err: err}
	}
	return nil
}
