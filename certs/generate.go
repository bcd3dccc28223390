package certs

import (
	"errors"
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
	// one sooner than the other. Zero means [DefaultValidity].
	Validity time.Duration
	// Force replaces files that exist, the CA among them: whatever the old
	// one signed is no longer trusted by who reads the new ca.crt.
	Force bool
}

// Generate makes a CA, a server and a client certificate and writes them to
// ca.crt, ca.key, server.crt, server.key, client.crt and client.key of
// opts.Dir: keys with mode 0600, certificates with 0644. It returns the paths
// in that order; with an error, those that have been written.
//
// If any of the six exists and opts.Force is not set, nothing is written and
// the error is [ErrExists] in a [FileError] with the first such path. A crash
// never leaves half a file, but in a short moment at the end it may leave some
// of the six renewed and others not: run it again, with Force. A symbolic link
// is replaced, not followed.
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
	if !opts.Force {
		for _, f := range files {
			if err := checkAbsent(filepath.Join(opts.Dir, f.name)); err != nil {
				return nil, err
			}
		}
	}
	return writeAll(opts.Dir, files)
}

type file struct {
	name string
	data []byte
	mode fs.FileMode
}

// render makes the contents of the six files in the order of writing.
func render(opts GenerateOptions) ([]file, error) {
	a, err := NewAuthority(opts.Validity)
	if err != nil {
		return nil, err
	}
	caKey, err := encodeKey(a.key)
	if err != nil {
		return nil, err
	}
	names := opts.SANs
	if len(names) == 0 {
		names = DefaultSANs()
	}
	serverCert, serverKey, err := a.IssueServer(names, opts.Validity)
	if err != nil {
		return nil, err
	}
	clientCert, clientKey, err := a.IssueClient("hodei-client", opts.Validity)
	if err != nil {
		return nil, err
	}
	return []file{
		{caCertFile, a.CAPEM(), 0o644},
		{caKeyFile, caKey, 0o600},
		{serverCertFile, serverCert, 0o644},
		{serverKeyFile, serverKey, 0o600},
		{clientCertFile, clientCert, 0o644},
		{clientKeyFile, clientKey, 0o600},
	}, nil
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

// writeAll writes every temporary file before it renames the first, so that a
// full disk changes nothing and the six change over in one short moment.
func writeAll(dir string, files []file) (paths []string, _ error) {
	var temps []string
	defer func() {
		for _, temp := range temps[len(paths):] {
			os.Remove(temp)
		}
	}()
	for _, f := range files {
		temp, err := writeTemp(dir, f)
		if err != nil {
			return nil, err
		}
		temps = append(temps, temp)
	}
	for i, f := range files {
		path := filepath.Join(dir, f.name)
		if err := os.Rename(temps[i], path); err != nil {
			return paths, fileError(path, errors.Unwrap(err))
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// writeTemp writes f beside its final place under a hidden name and returns
// that name. os.CreateTemp opens with 0600, so that a key is never readable by
// others, not for a moment.
func writeTemp(dir string, f file) (name string, err error) {
	w, err := os.CreateTemp(dir, "."+f.name+".*")
	if err != nil {
		return "", fileError(filepath.Join(dir, f.name), err)
	}
	_, err = w.Write(f.data)
	// Chmod, because the umask takes from what open asks for; Sync, because a
	// rename may reach the disk before the data does.
	err = errors.Join(err, w.Chmod(f.mode), w.Sync(), w.Close())
	if err != nil {
		os.Remove(w.Name())
		return "", fileError(filepath.Join(dir, f.name), err)
	}
	return w.Name(), nil
}
