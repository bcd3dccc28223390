package coordinator

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// Refusals of either side are told, a connection that merely ends is not.
func TestHandshake(t *testing.T) {
	told := make(chan error, 10)
	w := newWorld(t, func(s *Server) { s.Handshake = func(err error) { told <- err } })
	other, err := certs.NewAuthority(0)
	if err != nil {
		t.Fatal(err)
	}
	connect := func(t *testing.T, config *tls.Config) {
		t.Helper()
		conn, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		secure := tls.Client(conn, config)
		if secure.Handshake() == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(secure, 1)) // until the server has spoken
		}
	}
	next := func(t *testing.T) error {
		t.Helper()
		select {
		case err := <-told:
			return err
		case <-time.After(patience):
			t.Fatal("nothing was told")
			return nil
		}
	}
	t.Run("good", func(t *testing.T) {
		connect(t, clientTLS(t, w.job))
		if err := next(t); err != nil {
			t.Error(err)
		}
	})
	t.Run("we refuse", func(t *testing.T) {
		config := bareTLS(t, w, pair(t, issue(t, other, testID)))
		config.NextProtos = []string{"h2"}
		connect(t, config)
		if _, ok := errors.AsType[*tls.CertificateVerificationError](next(t)); !ok {
			t.Error("not told that the certificate was refused")
		}
	})
	t.Run("the agent refuses", func(t *testing.T) {
		connect(t, clientTLS(t, issue(t, other, testID)))
		if err := next(t); err == nil || err.Error() != "remote error: tls: bad certificate" {
			t.Errorf("told %v", err)
		}
	})
	t.Run("cut", func(t *testing.T) {
		conn, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		connect(t, clientTLS(t, w.job)) // comes after it
		if err := next(t); err != nil {
			t.Errorf("told %v", err)
		}
	})
}

// TestHandshakeTurnedAway: whatever goes wrong with a handshake is told with the
// address, but for a connection that merely ends.
func TestHandshakeTurnedAway(t *testing.T) {
	type refusal struct {
		from net.Addr
		err  error
	}
	turned := make(chan refusal, 10)
	unreadable := errors.New("certs/server.key: it does not fit")
	var broken atomic.Bool
	w := newWorld(t, func(s *Server) {
		s.TurnedAway = func(from net.Addr, err error) { turned <- refusal{from, err} }
		current := s.TLS
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"},
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
				if broken.Load() {
					return nil, unreadable
				}
				return current, nil
			}}
	})
	clientCert, clientKey, err := w.authority.IssueClient("somebody", 0)
	if err != nil {
		t.Fatal(err)
	}
	somebody, err := tls.X509KeyPair(clientCert, clientKey)
	if err != nil {
		t.Fatal(err)
	}
	other, err := certs.NewAuthority(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		creds credentials.TransportCredentials
		want  string
	}{
		{"no certificate", credentials.NewTLS(bareTLS(t, w)), "didn't provide a certificate"},
		{"of no job", credentials.NewTLS(bareTLS(t, w, somebody)), "job"},
		{"another authority's", credentials.NewTLS(bareTLS(t, w, pair(t, issue(t, other, testID)))), "unknown authority"},
		{"the agent refuses", credentials.NewTLS(clientTLS(t, issue(t, other, testID))), "remote error: tls: bad certificate"},
		{"plaintext", insecure.NewCredentials(), "first record does not look like a TLS handshake"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := w.dial(t, test.creds)
			a.send(&hodeipb.FromAgent_Hello{Hello: hello(0)})
			a.fails()
			if got := <-turned; !strings.Contains(got.err.Error(), test.want) || got.from.String() != a.conn.LocalAddr().String() {
				t.Errorf("told %s: %v", got.from, got.err)
			}
		})
	}
	t.Run("our own files", func(t *testing.T) {
		broken.Store(true)
		defer broken.Store(false)
		w.attach(t, 0).fails()
		if got := <-turned; !errors.Is(got.err, unreadable) {
			t.Errorf("told %v", got.err)
		}
	})
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	w.attach(t, 0).welcome()
	w.server.Close()
	select {
	case got := <-turned:
		t.Errorf("told %v", got.err)
	default:
	}
}
