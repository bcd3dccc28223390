package certs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// The files of a certificate directory, which are also the keys of the
// Secrets.
const (
	caCertFile     = "ca.crt"
	caKeyFile      = "ca.key"
	serverCertFile = "server.crt"
	serverKeyFile  = "server.key"
	clientCertFile = "client.crt"
	clientKeyFile  = "client.key"
)

// clientName is for people: the certificate of no job is good for none.
const clientName = "hodei-client"

// DefaultSANs returns the names of a server certificate for which none were
// chosen: this machine, and the Service hodei-server of the namespace
// hodei-system by each of its names. The caller owns the slice.
func DefaultSANs() []string {
	return []string{
		"localhost",
		"127.0.0.1",
		"::1",
		"hodei-server",
		"hodei-server.hodei-system",
		"hodei-server.hodei-system.svc",
		"hodei-server.hodei-system.svc.cluster.local",
	}
}

// GenerateOptions says what [Generate] writes, and where.
type GenerateOptions struct {
	// Dir gets the files; made with mode 0700 if it isn't there.
	Dir string
	// SANs are the names of the server certificate, in place of
	// [DefaultSANs], which are used when there are none.
	SANs []string
	// Validity is that of the CA and of both leaves, since nothing renews the
	// one sooner than the other. Zero means [DefaultValidity], and as long as
	// their CA for leaves of one that is there already.
	Validity time.Duration
	// CACert and CAKey are the files of a CA that is there already and signs the
	// leaves. Both empty: a new one is made.
	CACert, CAKey string
	// Force replaces files that exist, the CA among them: whatever the old
	// one signed is no longer trusted by who reads the new ca.crt.
	Force bool
}

// Generate makes a CA, a server and a client certificate and writes them to
// ca.crt, ca.key, server.crt, server.key, client.crt and client.key of
// opts.Dir: keys with mode 0600, certificates with 0644. It returns the paths
// in that order; with an error, those that have been written.
//
// With the CA of opts.CACert, ca.crt is a copy of that file's certificates, and
// no ca.key is written: the key stays where it is, since each copy is one more
// to be stolen. A ca.key that is in opts.Dir already has to be that CA's, or the
// error is [ErrKeyMismatch].
//
// If any of them exists and opts.Force is not set, nothing is written and
// the error is [ErrExists] in a [FileError] with the first such path; it is
// [ErrBusy] while somebody else changes them. What is replaced hands its owner and
// mode on, but for a key that all could read. A crash never leaves half a file, but
// in a short moment at the end it may leave some of them renewed and others not:
// Generate, [Rotate], [RotateCA] and [FinishCA] first do what is left of that. A
// symbolic link is replaced, not followed.
func Generate(opts GenerateOptions) ([]string, error) {
	if opts.Dir == "" {
		return nil, errors.New("no directory for the certificates")
	}
	files, err := render(opts)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return nil, fileError(opts.Dir, err)
	}
	return changing(opts.Dir, func() ([]file, error) {
		if opts.Force {
			return files, nil
		}
		for _, f := range files {
			if err := checkAbsent(filepath.Join(opts.Dir, f.name)); err != nil {
				return nil, err
			}
		}
		return files, nil
	})
}

// render makes the contents of the files in the order of writing.
func render(opts GenerateOptions) ([]file, error) {
	a, err := opts.authority()
	if err != nil {
		return nil, err
	}
	files := []file{{caCertFile, a.CAPEM(), 0o644}}
	if opts.CACert == "" {
		caKey, err := encodeKey(a.key)
		if err != nil {
			return nil, err
		}
		files = append(files, file{caKeyFile, caKey, 0o600})
	}
	names := opts.SANs
	if len(names) == 0 {
		names = DefaultSANs()
	}
	serverCert, serverKey, err := a.IssueServer(names, opts.Validity)
	if err != nil {
		return nil, err
	}
	clientCert, clientKey, err := a.IssueClient(clientName, opts.Validity)
	if err != nil {
		return nil, err
	}
	return append(files,
		file{serverCertFile, serverCert, 0o644}, file{serverKeyFile, serverKey, 0o600},
		file{clientCertFile, clientCert, 0o644}, file{clientKeyFile, clientKey, 0o600}), nil
}

// authority is the CA that is there, or a new one.
func (o GenerateOptions) authority() (*Authority, error) {
	if o.CACert == "" && o.CAKey == "" {
		return makeAuthority(caName, o.Validity)
	}
	a, err := loadAuthority(o.CACert, o.CAKey)
	if err != nil {
		return nil, err
	}
	here := filepath.Join(o.Dir, caKeyFile)
	data, err := readSmall(here)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return nil, fileError(here, err)
	}
	key, err := parseKey(data)
	if err == nil && !matches(key, a.Cert) {
		err = fmt.Errorf("%w %s", ErrKeyMismatch, o.CACert)
	}
	if err != nil {
		return nil, fileError(here, err)
	}
	return a, nil
}

// checkAbsent counts a dangling symbolic link as a file that exists.
func checkAbsent(path string) error {
	_, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fileError(path, err)
	}
	return &FileError{Path: path, Err: ErrExists}
}
