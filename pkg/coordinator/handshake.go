package coordinator

import (
	"crypto/tls"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
)

// handshakeTeller are TLS credentials that tell how handshakes end: gRPC keeps it to itself.
type handshakeTeller struct {
	credentials.TransportCredentials
	tell func(error)
}

func (t *handshakeTeller) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure, info, err := t.TransportCredentials.ServerHandshake(conn)
	if err == nil || isRefusal(err) {
		t.tell(err)
	}
	return secure, info, err
}

func (t *handshakeTeller) Clone() credentials.TransportCredentials {
	return &handshakeTeller{TransportCredentials: t.TransportCredentials.Clone(), tell: t.tell}
}

// isRefusal tells the word of one of the two sides, the agent's an alert, from a
// connection that has merely ended.
func isRefusal(err error) bool {
	if alert, ok := errors.AsType[*net.OpError](err); ok && alert.Op == "remote error" {
		return true
	}
	_, ours := errors.AsType[*tls.CertificateVerificationError](err)
	return ours
}
