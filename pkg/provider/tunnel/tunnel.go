// Package tunnel turns connections that a provider has dialled into a net.Listener for a
// coordinator: a worker can't reach a laptop, so the laptop dials the worker and serves on the
// result. Start with [New]. The package dials nothing itself, and knows neither gRPC nor TLS.
package tunnel

import (
	"context"
	"net"
	"sync"
)

// Tunnel is a listener whose connections are dialled by us. All methods may be called at the
// same time. Use [New].
type Tunnel struct {
	conns chan net.Conn
	done  chan struct{}
	close sync.Once
}

// New returns a tunnel without connections.
func New() *Tunnel {
	return &Tunnel{conns: make(chan net.Conn), done: make(chan struct{})}
}

// Deliver hands conn to whoever calls Accept and returns once the server has
// closed it. If ctx ends, or the tunnel is closed before Accept, it closes conn.
func (t *Tunnel) Deliver(ctx context.Context, conn net.Conn) {
	c := &deliveredConn{Conn: conn, closed: make(chan struct{})}
	defer c.Close()
	select {
	case t.conns <- c:
	case <-ctx.Done():
		return
	case <-t.done:
		return
	}
	select {
	case <-c.closed:
	case <-ctx.Done():
	}
}

// Accept returns the next connection delivered.
func (t *Tunnel) Accept() (net.Conn, error) {
	select {
	case c := <-t.conns:
		return c, nil
	case <-t.done:
		return nil, net.ErrClosed
	}
}

// Close makes Accept fail. Connections that were accepted stay open.
func (t *Tunnel) Close() error {
	t.close.Do(func() { close(t.done) })
	return nil
}

// Addr names the tunnel; there is no address.
func (t *Tunnel) Addr() net.Addr { return tunnelAddr{} }

type tunnelAddr struct{}

func (tunnelAddr) Network() string { return "tunnel" }
func (tunnelAddr) String() string  { return "tunnel" }

// deliveredConn tells when it is closed.
type deliveredConn struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
	err    error
}

// NetConn returns the connection that was delivered, which may know more of itself.
func (c *deliveredConn) NetConn() net.Conn { return c.Conn }

func (c *deliveredConn) Close() error {
	c.once.Do(func() {
		c.err = c.Conn.Close()
		close(c.closed)
	})
	return c.err
}
