package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
)

// isClosed tells whether the other end of c was closed.
func isClosed(c net.Conn) bool {
	_, err := c.Read(make([]byte, 1))
	return errors.Is(err, io.EOF)
}

func TestTunnel(t *testing.T) { synctest.Test(t, testTunnel) } // which fails if a goroutine is left

func testTunnel(t *testing.T) {
	tunnel := New()
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
			synctest.Test(t, func(t *testing.T) {
				tunnel := New()
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
			})
		})
	}
}
