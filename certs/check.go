package certs

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// What can be wrong with a certificate, a key or their files. Functions that
// take paths wrap these in a [FileError].
var (
	// ErrExpired says that a certificate's last moment is past.
	ErrExpired = errors.New("certificate expired")
	// ErrNotYetValid says that a certificate's first moment is ahead of this
	// machine's clock, which most often means that the clock is wrong.
	ErrNotYetValid = errors.New("certificate is not valid yet")
	// ErrKeyMismatch says that a private key and a certificate are not a pair.
	ErrKeyMismatch = errors.New("private key does not match the certificate")
	// ErrNotCA says that a certificate may not sign others.
	ErrNotCA = errors.New("not a CA certificate")
	// ErrMalformed says that a file is not what it has to be: no PEM, torn,
	// a key in place of a certificate, encrypted.
	ErrMalformed = errors.New("malformed")
	// ErrExists says that [Generate] would overwrite a file.
	ErrExists = errors.New("file exists")
)

// FileError is an error about one file. Its Err is one of this package's
// sentinels, wrapped, or the operating system's error, so that errors.Is with
// [fs.ErrNotExist] and [fs.ErrPermission] works.
type FileError struct {
	Path string // as the caller wrote it
	Err  error  // without the path
}

// Error returns the path and what is wrong with the file.
func (e *FileError) Error() string { return e.Path + ": " + e.Err.Error() }

// Unwrap returns e.Err.
func (e *FileError) Unwrap() error { return e.Err }

func fileError(path string, err error) error { return &FileError{Path: path, Err: reason(err)} }

// reason is an error without the path, which else stands in the message twice.
func reason(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err
	}
	return err
}

// CheckPair reads a PEM certificate (with its chain behind it, if it has one)
// and its private key, and says whether they can be used at the time now: both
// are there and readable, belong together, and the certificate is in its time.
// Each error is a [FileError] that names the file to replace.
func CheckPair(certPath, keyPath string, now time.Time) error {
	_, err := loadPair(certPath, keyPath, now)
	return err
}

func loadPair(certPath, keyPath string, now time.Time) (tls.Certificate, error) {
	certPEM, err := readSmall(certPath)
	if err != nil {
		return tls.Certificate{}, fileError(certPath, err)
	}
	chain, err := parseCertificates(certPEM)
	if err != nil {
		return tls.Certificate{}, fileError(certPath, err)
	}
	keyPEM, err := readSmall(keyPath)
	if err != nil {
		return tls.Certificate{}, fileError(keyPath, err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return tls.Certificate{}, fileError(keyPath, err)
	}
	if !matches(key, chain[0]) {
		return tls.Certificate{}, fileError(keyPath, fmt.Errorf("%w %s", ErrKeyMismatch, certPath))
	}
	if err := checkTime(chain[0], now); err != nil {
		return tls.Certificate{}, fileError(certPath, err)
	}
	return tlsCertificate(chain, key), nil
}

func tlsCertificate(chain []*x509.Certificate, key crypto.Signer) tls.Certificate {
	pair := tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, cert := range chain {
		pair.Certificate = append(pair.Certificate, cert.Raw)
	}
	return pair
}

// loadRoots reads the CA certificates that a peer may answer to.
func loadRoots(path string, now time.Time) (*x509.CertPool, error) {
	data, err := readSmall(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	roots, err := parseRoots(data, now)
	if err != nil {
		return nil, fileError(path, err)
	}
	return roots, nil
}

// parseRoots wants one usable CA among the certificates of data, not all:
// while a CA is replaced, the outgoing one stays beside its successor.
func parseRoots(data []byte, now time.Time) (*x509.CertPool, error) {
	bundle, err := parseCertificates(data)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	var unusable error // why the first one is
	usable := false
	for _, cert := range bundle {
		if err := checkCA(cert, now); err != nil {
			if unusable == nil {
				unusable = err
			}
			continue
		}
		usable = true
		roots.AddCert(cert)
	}
	if !usable {
		return nil, unusable
	}
	return roots, nil
}

func checkCA(cert *x509.Certificate, now time.Time) error {
	if !cert.BasicConstraintsValid || !cert.IsCA ||
		(cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0) {
		return ErrNotCA
	}
	return checkTime(cert, now)
}

func checkTime(cert *x509.Certificate, now time.Time) error {
	// Both clocks: the reader can't know which of them is wrong.
	switch {
	case now.After(cert.NotAfter):
		return fmt.Errorf("%w: it ended at %s and this machine's clock says %s", ErrExpired, utc(cert.NotAfter), utc(now))
	case now.Before(cert.NotBefore):
		return fmt.Errorf("%w: it begins at %s and this machine's clock says %s", ErrNotYetValid, utc(cert.NotBefore), utc(now))
	}
	return nil
}

func matches(key crypto.Signer, cert *x509.Certificate) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(cert.PublicKey)
}

// parseCertificates returns the certificates of a PEM file in their order, at
// least one.
func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	blocks, err := decodePEM(data)
	if err != nil {
		return nil, err
	}
	var parsed []*x509.Certificate
	for _, block := range blocks {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w certificate: %w", ErrMalformed, err)
		}
		parsed = append(parsed, cert)
	}
	if parsed == nil {
		return nil, fmt.Errorf("%w: it holds no certificate but %s", ErrMalformed, strings.ToLower(blocks[0].Type))
	}
	return parsed, nil
}

// parseKey returns the first private key of a PEM file. OpenSSL writes the
// curve's parameters before it, which are skipped.
func parseKey(data []byte) (crypto.Signer, error) {
	blocks, err := decodePEM(data)
	if err != nil {
		return nil, err
	}
	for _, block := range blocks {
		var key any
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY", "RSA PRIVATE KEY":
			if block.Headers["DEK-Info"] != "" {
				return nil, fmt.Errorf("%w private key: it is encrypted", ErrMalformed)
			}
			if block.Type[0] == 'E' {
				key, err = x509.ParseECPrivateKey(block.Bytes)
			} else {
				key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
			}
		case "ENCRYPTED PRIVATE KEY":
			return nil, fmt.Errorf("%w private key: it is encrypted", ErrMalformed)
		default:
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%w private key: %w", ErrMalformed, err)
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("%w private key: %T can't sign", ErrMalformed, key)
		}
		return signer, nil
	}
	return nil, fmt.Errorf("%w: it holds no private key but %s", ErrMalformed, strings.ToLower(blocks[0].Type))
}

// decodePEM returns at least one block. pem.Decode passes over a block that it
// can't read; here that is an error, because a torn bundle would otherwise be
// a shorter bundle.
func decodePEM(data []byte) ([]*pem.Block, error) {
	begun := bytes.Count(data, []byte("-----BEGIN "))
	var blocks []*pem.Block
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		blocks, data = append(blocks, block), rest
	}
	switch {
	case begun == 0:
		return nil, fmt.Errorf("%w: it is not PEM", ErrMalformed)
	case len(blocks) != begun:
		return nil, fmt.Errorf("%w: %d of its %d PEM blocks can be read", ErrMalformed, len(blocks), begun)
	}
	return blocks, nil
}
