package coordinator

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"

	"google.golang.org/grpc/credentials"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// isClosed tells whether the other end of c was closed.
func isClosed(c net.Conn) bool {
	_, err := c.Read(make([]byte, 1))
	return errors.Is(err, io.EOF)
}

func TestTunnel(t *testing.T) {
	before := runtime.NumGoroutine()
	tunnel := NewTunnel()
	ours, theirs := net.Pipe()
	delivered := make(chan struct{})
	go func() {
		tunnel.Deliver(context.Background(), ours)
		close(delivered)
	}()
	accepted, err := tunnel.Accept()
	if err != nil {
		t.Fatal(err)
	}
	tunnel.Close()
	tunnel.Close() // again
	if _, err := tunnel.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept on a closed tunnel: %v", err)
	}
	go func() { _, _ = theirs.Write([]byte("x")) }()
	if _, err := io.ReadFull(accepted, make([]byte, 1)); err != nil {
		t.Errorf("what was accepted did not outlive the tunnel: %v", err)
	}
	select {
	case <-delivered:
		t.Error("Deliver did not wait for the server")
	default:
	}
	accepted.Close()
	accepted.Close() // again
	<-delivered
	if !isClosed(theirs) {
		t.Error("the connection is open")
	}
	settle(t, before)
}

func TestTunnelDeliverGivesUp(t *testing.T) {
	tests := []struct {
		name string
		end  func(*Tunnel, context.CancelFunc)
	}{
		{"tunnel closed", func(tunnel *Tunnel, _ context.CancelFunc) { tunnel.Close() }},
		{"context ended", func(_ *Tunnel, cancel context.CancelFunc) { cancel() }},
		{"context ended after Accept", func(tunnel *Tunnel, cancel context.CancelFunc) {
			if _, err := tunnel.Accept(); err != nil {
				t.Error(err)
			}
			cancel()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			tunnel := NewTunnel()
			ours, theirs := net.Pipe()
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			delivered := make(chan struct{})
			go func() {
				tunnel.Deliver(ctx, ours)
				close(delivered)
			}()
			tt.end(tunnel, cancel)
			<-delivered
			if !isClosed(theirs) {
				t.Error("the connection is open")
			}
			settle(t, before)
		})
	}
}

// TestTunnelServes runs an attachment over a connection that the coordinator's
// side has dialled.
func TestTunnelServes(t *testing.T) {
	w := newWorld(t, nil)
	tunnel := NewTunnel()
	served := make(chan error, 1)
	go func() { served <- w.server.Serve(tunnel) }()

	agents, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer agents.Close()
	dialled, err := net.Dial("tcp", agents.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	delivered := make(chan struct{})
	go func() {
		tunnel.Deliver(t.Context(), dialled)
		close(delivered)
	}()
	conn, err := agents.Accept()
	if err != nil {
		t.Fatal(err)
	}
	a := w.dialOver(t, conn, credentials.NewTLS(clientTLS(t, w.job)))
	a.send(&hodeipb.FromAgent_Hello{Hello: hello(0)})
	a.welcome()
	a.send(text(0, "abc"))
	a.ack(3, false)
	a.conn.Close()
	<-delivered
	w.server.Close()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}
