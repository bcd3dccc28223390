package certs

import (
	"crypto/tls"
	"time"
)

// ServerFiles are the paths of a server's PEM files, the counterpart of [Files]
// for a coordinator that stays. CA may hold several certificates, one of which
// must be usable: agents of any of them are let in.
type ServerFiles struct {
	CA   string // certificates that agents may answer to
	Cert string // server certificate, with its chain behind it if it has one
	Key  string // private key of Cert
}

// ServerConfig returns the server's side of the connections of all agents: TLS
// 1.3 only, with f.Cert, to clients that present a certificate of f.CA for
// client authentication and for some job. Which job is not checked: compare
// [PeerID] of the verified certificate with the job that the agent says it is.
//
// The files are checked now, with the errors of [CheckPair] and, for f.CA,
// [ErrNotCA]; and they are read again at every handshake, so that replaced
// ones count from the next connection on, and connections that are open stay.
// A handshake amid the replacement may fail, with the same errors; the next one
// won't.
func (f ServerFiles) ServerConfig() (*tls.Config, error) {
	if _, err := f.load(); err != nil {
		return nil, err
	}
	return renewable(f.load), nil
}

// load is the config of one handshake. Three small files are read for it and
// nothing is signed, so that there is no need to know when they changed.
func (f ServerFiles) load() (*tls.Config, error) {
	now := time.Now()
	roots, err := loadRoots(f.CA, now)
	if err != nil {
		return nil, err
	}
	pair, err := loadPair(f.Cert, f.Key, now)
	if err != nil {
		return nil, err
	}
	return serverConfig(pair, roots), nil
}

// renewable is a server's config that asks at every handshake for the one that
// counts now.
func renewable(current func() (*tls.Config, error)) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{alpn},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return current() },
	}
}
