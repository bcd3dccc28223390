package certs

import (
	"bytes"
	"crypto/x509"
	"errors"
	"path/filepath"
	"slices"
	"time"
)

// Errors of a rotation, in a [FileError] with the path of ca.crt.
var (
	// ErrOverlap says that a rotation of the CA has begun and not been finished.
	ErrOverlap = errors.New("the rotation of its CA has not been finished")
	// ErrNoOverlap says that there is no rotation of the CA to finish.
	ErrNoOverlap = errors.New("no rotation of its CA is under way")
)

// RotateOptions says which certificates to replace.
type RotateOptions struct {
	// Dir is a directory that [Generate] has written, its ca.key included.
	Dir string
	// Validity is that of what is made. Zero means as long as what it replaces was
	// made for, and as long as the CA that signs where that was cut short by its own
	// CA's end; a leaf never outlives its CA.
	Validity time.Duration
}

// Rotate replaces the server and the client certificate of a directory and their
// keys by new ones of the same CA; the server's names stay. What was made before
// is good until its own end. It returns the paths written, in their order; files
// change over as with [Generate]. The error is a [FileError], of [LoadAuthority]
// or of a file to write, or [ErrOverlap].
func Rotate(opts RotateOptions) ([]string, error) { return changing(opts.Dir, opts.leaves) }

func (opts RotateOptions) leaves() ([]file, error) {
	d, err := loadDirectory(opts.Dir)
	if err != nil {
		return nil, err
	}
	if len(d.outgoing()) > 0 {
		return nil, d.error(ErrOverlap)
	}
	server, err := d.newServer(d.authority, opts.Validity)
	if err != nil {
		return nil, err
	}
	client, err := d.newClient(d.authority, opts.Validity)
	if err != nil {
		return nil, err
	}
	return append(server, client...), nil
}

// RotateCA begins to replace the CA of a directory: a new one signs from then on
// the client's certificate and those of jobs. So that workers that were made
// before stay connected, ca.crt holds both CAs, the new one first, and the
// server's certificate is once more signed by the old CA, which workers of both
// kinds trust; the old CA's key is then gone. [FinishCA] ends this overlap.
// It returns paths and errors as [Rotate] does.
func RotateCA(opts RotateOptions) ([]string, error) { return changing(opts.Dir, opts.overlap) }

func (opts RotateOptions) overlap() ([]file, error) {
	d, err := loadDirectory(opts.Dir)
	if err != nil {
		return nil, err
	}
	if len(d.outgoing()) > 0 {
		return nil, d.error(ErrOverlap)
	}
	old := d.authority
	validity := opts.Validity
	if validity == 0 {
		validity = lifetime(old.Cert)
	}
	a, err := makeAuthority(caName, validity)
	if err != nil {
		return nil, err
	}
	key, err := encodeKey(a.key)
	if err != nil {
		return nil, err
	}
	server, err := d.newServer(old, opts.Validity)
	if err != nil {
		return nil, err
	}
	client, err := d.newClient(a, opts.Validity)
	if err != nil {
		return nil, err
	}
	files := []file{{caCertFile, append(a.CAPEM(), encodeCert(old.Cert.Raw)...), 0o644}, {caKeyFile, key, 0o600}}
	return append(append(files, server...), client...), nil
}

// FinishCA ends the overlap that [RotateCA] began: the server's certificate is
// signed by the new CA, which ca.crt then holds alone, and so is the client's, if it
// was not yet. Workers that know only the old one can't connect any more. It returns
// paths and errors as [Rotate] does, and [ErrNoOverlap].
func FinishCA(opts RotateOptions) ([]string, error) { return changing(opts.Dir, opts.finish) }

func (opts RotateOptions) finish() ([]file, error) {
	d, err := loadDirectory(opts.Dir)
	if err != nil {
		return nil, err
	}
	if len(d.outgoing()) == 0 {
		return nil, d.error(ErrNoOverlap)
	}
	server, err := d.newServer(d.authority, opts.Validity)
	if err != nil {
		return nil, err
	}
	files := append([]file{{caCertFile, encodeCert(d.authority.Cert.Raw), 0o644}}, server...)
	if d.client.CheckSignatureFrom(d.authority.Cert) == nil {
		return files, nil
	}
	client, err := d.newClient(d.authority, opts.Validity)
	return append(files, client...), err
}

// Outgoing returns the CAs that a directory's ca.crt still trusts and that sign no
// more: there are some from [RotateCA] to [FinishCA]. It first does what a crash has
// left of a rotation. Errors are those of [Rotate].
func Outgoing(dir string) (cas []*x509.Certificate, err error) {
	_, err = changing(dir, func() ([]file, error) {
		d, err := loadDirectory(dir)
		if err == nil {
			cas = d.outgoing()
		}
		return nil, err
	})
	return cas, err
}

// IssuedBy tells whether one of cas has signed the first certificate of a PEM
// file. The error is [ErrMalformed].
func IssuedBy(certPEM []byte, cas []*x509.Certificate) (bool, error) {
	chain, err := parseCertificates(certPEM)
	if err != nil {
		return false, err
	}
	for _, ca := range cas {
		if verifiedBy(chain, ca) {
			return true, nil
		}
	}
	return false, nil
}

// directory is what is to be rotated.
type directory struct {
	path           string
	authority      *Authority
	bundle         []*x509.Certificate // of ca.crt
	server, client *x509.Certificate
}

func loadDirectory(path string) (*directory, error) {
	d := &directory{path: path}
	var err error
	if d.authority, err = LoadAuthority(path); err != nil {
		return nil, err
	}
	if d.bundle, err = parseCertificates(d.authority.caPEM); err != nil {
		return nil, err
	}
	for _, leaf := range []struct {
		name string
		to   **x509.Certificate
	}{{serverCertFile, &d.server}, {clientCertFile, &d.client}} {
		file := filepath.Join(path, leaf.name)
		data, err := readSmall(file)
		if err != nil {
			return nil, fileError(file, err)
		}
		chain, err := parseCertificates(data)
		if err != nil {
			return nil, fileError(file, err)
		}
		*leaf.to = chain[0]
	}
	return d, nil
}

// outgoing are the CAs of an overlap, in which the one that signs has not signed
// the server's certificate. A bundle by itself may also be a CA's own chain.
func (d *directory) outgoing() []*x509.Certificate {
	if d.server.CheckSignatureFrom(d.bundle[0]) == nil {
		return nil
	}
	return d.bundle[1:]
}

func (d *directory) error(err error) error {
	return &FileError{Path: filepath.Join(d.path, caCertFile), Err: err}
}

// newServer makes a server's certificate with the names of the one that is there.
func (d *directory) newServer(a *Authority, validity time.Duration) ([]file, error) {
	certPEM, keyPEM, err := a.IssueServer(serverNames(d.server), d.validity(d.server, validity))
	if err != nil {
		return nil, err
	}
	return []file{{serverCertFile, certPEM, 0o644}, {serverKeyFile, keyPEM, 0o600}}, nil
}

func (d *directory) newClient(a *Authority, validity time.Duration) ([]file, error) {
	certPEM, keyPEM, err := a.IssueClient(clientName, d.validity(d.client, validity))
	if err != nil {
		return nil, err
	}
	return []file{{clientCertFile, certPEM, 0o644}, {clientKeyFile, keyPEM, 0o600}}, nil
}

// validity is that of a leaf's successor: the one chosen, else as long as the leaf
// was made for. That is not known of a leaf that its CA cut short: 0, until the end
// of the CA that signs, is what it says.
func (d *directory) validity(leaf *x509.Certificate, chosen time.Duration) time.Duration {
	if chosen != 0 {
		return chosen
	}
	for _, ca := range d.bundle {
		if leaf.NotAfter.Equal(ca.NotAfter) && leaf.CheckSignatureFrom(ca) == nil {
			return 0
		}
	}
	return lifetime(leaf)
}

func serverNames(cert *x509.Certificate) []string {
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// lifetime is what a certificate was made for.
func lifetime(cert *x509.Certificate) time.Duration {
	return cert.NotAfter.Sub(cert.NotBefore.Add(clockSkew))
}

// Renewal replaces the certificates of a job that runs.
type Renewal struct {
	// Overlap, if not nil, comes first: agents with the old certificates and
	// agents with the new ones connect to a coordinator that has it. Final may
	// follow once every agent of the job has its files.
	Overlap *JobCerts
	Final   *JobCerts
}

// RenewJob makes new certificates for a job that has old ones, whose CA need not
// be a: with another, the old server certificate stays in use until the agents
// know a, since only the old CA's key could make one that they know already.
// The errors are those of [Authority.IssueJob], and [ErrMalformed] where old is
// not what a job has.
func (a *Authority) RenewJob(id ID, old *JobCerts) (*Renewal, error) {
	trusted, err := parseCertificates(old.CA)
	if err != nil {
		return nil, err
	}
	// What the agents know is told by whom they take for their coordinator, not by
	// old.CA: that one is new already where a renewal was interrupted.
	known, err := IssuedBy(old.ServerCert, []*x509.Certificate{a.Cert})
	if err != nil {
		return nil, err
	}
	fresh, err := a.IssueJob(id)
	if err != nil {
		return nil, err
	}
	both := append(fresh.CA, outlast(trusted, fresh.CA, time.Now())...)
	if known {
		fresh.CA = both
		return &Renewal{Final: fresh}, nil
	}
	overlap := *fresh
	overlap.CA, overlap.ServerCert, overlap.ServerKey = both, old.ServerCert, old.ServerKey
	r := &Renewal{Final: fresh}
	if _, err := overlap.ServerConfig(); err == nil { // else its end is past: no agent takes it
		r.Overlap = &overlap
	}
	return r, nil
}

// outlast encodes those of cas that are still good and not among the PEM
// certificates of known.
func outlast(cas []*x509.Certificate, known []byte, now time.Time) []byte {
	var out []byte
	for _, ca := range cas {
		block := encodeCert(ca.Raw)
		if !bytes.Contains(known, block) && checkCA(ca, now) == nil {
			out = append(out, block...)
		}
	}
	return out
}
