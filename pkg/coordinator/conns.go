package coordinator

import (
	"net"
	"sync"
)

// maxConns is how many connections a Server has at once: each costs it readBytes, and
// one whose Follower is slow its window besides.
const maxConns = 256

// conns are the open connections of a Server, so that it can close those that
// gRPC has not made its own yet. The zero value is ready.
type conns struct {
	mu     sync.Mutex
	open   map[*conn]struct{}
	closed bool
}

// add returns c as one that leaves the set when it is closed. It closes c if
// the set is closed or full; an agent tries again.
func (s *conns) add(c net.Conn) net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.open) >= maxConns {
		c.Close()
		return c
	}
	if s.open == nil {
		s.open = map[*conn]struct{}{}
	}
	added := &conn{Conn: c, set: s}
	s.open[added] = struct{}{}
	return added
}

// close closes all connections, those that are still to come as well.
func (s *conns) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.open {
		c.Conn.Close()
	}
}

type conn struct {
	net.Conn
	set *conns
}

func (c *conn) Close() error {
	c.set.mu.Lock()
	delete(c.set.open, c)
	c.set.mu.Unlock()
	return c.Conn.Close()
}

// listener puts what it accepts into a set.
type listener struct {
	net.Listener
	conns *conns
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.conns.add(c), nil
}
