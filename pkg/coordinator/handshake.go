package coordinator

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/hodei-jobs/hodei/internal/cork"
)

// handshaker are the TLS credentials of a service. It learns from them which of its
// connections have proved who they are, and how handshakes end: gRPC keeps that to itself.
type handshaker struct {
	credentials.TransportCredentials
	service *service
}

func (h *handshaker) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	s := h.service
	settings := s.policy.settings()
	below, over := raw, func(secure net.Conn) net.Conn { return secure }
	if settings.sends() {
		c := cork.New(raw)
		below, over = c, c.Over
	}
	secure, info, err := h.TransportCredentials.ServerHandshake(below)
	if settings.handshake != nil && (err == nil || isRefusal(err)) {
		settings.handshake(err)
	}
	if err == nil {
		if c, ok := raw.(*conn); ok { // all that our listener accepts
			err = s.conns.know(c, identity(info), settings.shared)
		}
	}
	if err != nil {
		if !isEnd(err) {
			s.turnAway(raw.RemoteAddr(), err)
		}
		return nil, nil, err
	}
	if t, ok := info.(credentials.TLSInfo); ok {
		info = agentInfo{t, raw}
	}
	return over(secure), info, nil
}

// agentInfo is what is known of an agent before it says anything.
type agentInfo struct {
	credentials.TLSInfo
	raw net.Conn
}

func (h *handshaker) Clone() credentials.TransportCredentials {
	return &handshaker{TransportCredentials: h.TransportCredentials.Clone(), service: h.service}
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

// Fault is why an agent with a good certificate was turned away: it sent what no agent of hodei
// sends, or its message made the coordinator panic.
type Fault struct {
	Message string
	// Stack is where the coordinator panicked, the first time that it did.
	Stack string
}

func (f *Fault) Error() string { return f.Message + f.Stack }

// refuse tells of an agent whose stream is ended with err, before its hello is taken or
// for a fault; a stream that has merely ended is none.
func (s *service) refuse(ctx context.Context, err error) {
	p, ok := peer.FromContext(ctx)
	code := status.Code(err)
	if !ok || ctx.Err() != nil || code == codes.Unknown || code == codes.Canceled {
		return
	}
	message := status.Convert(err).Message()
	if code == codes.InvalidArgument {
		s.turnAway(p.Addr, &Fault{Message: message})
		return
	}
	s.turnAway(p.Addr, errors.New(message))
}

// caught ends the stream of a handler that panicked, and not the process: no agent can end the
// coordinator of another. It reports the fault, the first time with the stack.
func (s *service) caught(ctx context.Context, panicked any) error {
	f := &Fault{Message: fmt.Sprintf("a fault in hodei: %v", panicked)}
	s.panicked.Do(func() { f.Stack = "\n" + string(debug.Stack()) })
	s.fault(ctx, f)
	return status.Error(codes.Aborted, f.Message)
}

// fault tells of the agent whose stream has ctx.
func (s *service) fault(ctx context.Context, f *Fault) {
	if p, ok := peer.FromContext(ctx); ok {
		s.turnAway(p.Addr, f)
	}
}

// recovers is the interceptor of all streams.
func (s *service) recovers(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = s.caught(stream.Context(), v)
		}
	}()
	return handle(srv, stream)
}

func (s *service) turnAway(from net.Addr, err error) {
	if told := s.policy.settings().turnedAway; told != nil {
		told(from, err)
	}
}
