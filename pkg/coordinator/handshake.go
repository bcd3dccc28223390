package coordinator

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// handshaker are the TLS credentials of a Server. It learns from them which of its
// connections have proved who they are, and how handshakes end: gRPC keeps that to itself.
type handshaker struct {
	credentials.TransportCredentials
	server *Server
}

func (h *handshaker) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	s := h.server
	secure, info, err := h.TransportCredentials.ServerHandshake(raw)
	if s.Handshake != nil && (err == nil || isRefusal(err)) {
		s.Handshake(err)
	}
	if err == nil {
		if c, ok := raw.(*conn); ok { // all that our listener accepts
			err = s.conns.know(c, identity(info), s.Open != nil)
		}
	}
	if err != nil {
		if !isEnd(err) {
			s.turnAway(raw.RemoteAddr(), err)
		}
		return nil, nil, err
	}
	return secure, info, nil
}

func (h *handshaker) Clone() credentials.TransportCredentials {
	return &handshaker{TransportCredentials: h.TransportCredentials.Clone(), server: h.server}
}

// identity is the name of the job in a certificate; empty if there is not one.
func identity(info credentials.AuthInfo) string {
	t, ok := info.(credentials.TLSInfo)
	if !ok || len(t.State.PeerCertificates) == 0 || len(t.State.PeerCertificates[0].URIs) != 1 {
		return ""
	}
	return t.State.PeerCertificates[0].URIs[0].String()
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

// isEnd tells a connection that has merely ended, was closed by us, or has said
// nothing, from one that was refused.
func isEnd(err error) bool {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, os.ErrDeadlineExceeded, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// refuse tells of an agent whose hello is refused with err; a stream that has merely
// ended is none.
func (s *Server) refuse(ctx context.Context, err error) {
	p, ok := peer.FromContext(ctx)
	if code := status.Code(err); ok && ctx.Err() == nil && code != codes.Unknown && code != codes.Canceled {
		s.turnAway(p.Addr, errors.New(status.Convert(err).Message()))
	}
}

func (s *Server) turnAway(from net.Addr, err error) {
	if s.TurnedAway != nil {
		s.TurnedAway(from, err)
	}
}
