package coordinator

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/certs"
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
