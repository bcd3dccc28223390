package coordinator

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
)

const (
	// maxConns is how many connections whose agent has proved who it is a service has at
	// once: each costs it readBytes, and one whose Follower is slow its
	// window besides.
	maxConns = 256
	// maxConnsOfJob leaves room for the attachments of a job and for as many
	// connections that it has lost, and that are not known to be dead.
	maxConnsOfJob = 2 * maxOfJob
	// maxStrangers is how many may be shaking hands: they have shown nothing, and cost a
	// goroutine and some KiB each.
	maxStrangers = 64
)

// errOverrun is why a stranger's connection was closed.
var errOverrun = fmt.Errorf("dropped for a newer connection: %d have not finished their TLS handshake", maxStrangers)

// conns are the open connections of a service. The zero value is ready.
type conns struct {
	mu        sync.Mutex
	open      map[*conn]struct{}
	strangers []*conn        // those that are shaking hands, oldest first
	known     int            // those that are not
	ofJob     map[string]int // known, by the identity in the certificate
	closed    bool
}

// add returns c as one that leaves the set when it is closed, and the stranger that
// was closed for it, if any: the oldest of the address that has most of them, so that
// nobody shuts out others with connections that say nothing.
func (s *conns) add(c net.Conn) (added, dropped *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	added = &conn{Conn: c, set: s, host: c.RemoteAddr().String()}
	if host, _, err := net.SplitHostPort(added.host); err == nil {
		added.host = host
	}
	if s.closed {
		c.Close()
		return added, nil
	}
	if len(s.strangers) == maxStrangers {
		dropped = s.mostOf()
		s.forget(dropped)
		dropped.Conn.Close()
	}
	if s.open == nil {
		s.open, s.ofJob = map[*conn]struct{}{}, map[string]int{}
	}
	s.open[added] = struct{}{}
	s.strangers = append(s.strangers, added)
	return added, dropped
}

// mostOf is the oldest stranger of the address that has most of them.
func (s *conns) mostOf() *conn {
	count := map[string]int{}
	for _, c := range s.strangers {
		count[c.host]++
	}
	oldest := s.strangers[0]
	for _, c := range s.strangers {
		if count[c.host] > count[oldest.host] {
			oldest = c
		}
	}
	return oldest
}

// know takes c, whose handshake is over, from the strangers. An error says that there
// is no place for it; one job of many has only its share.
func (s *conns) know(c *conn, identity string, ofMany bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.forget(c):
		return net.ErrClosed // meanwhile
	case s.known >= maxConns:
		return errFull
	case ofMany && s.ofJob[identity] == maxConnsOfJob:
		return fmt.Errorf("%s has %d connections already", identity, maxConnsOfJob)
	}
	c.known, c.identity = true, identity
	s.known++
	s.ofJob[identity]++
	return nil
}

// errFull is why an agent is turned away that has done nothing wrong.
var errFull = fmt.Errorf("%d agents are connected already", maxConns)

// forget takes c from the strangers; s.mu is held. It tells whether c was one.
func (s *conns) forget(c *conn) bool {
	i := slices.Index(s.strangers, c)
	if i >= 0 {
		s.strangers = slices.Delete(s.strangers, i, i+1)
	}
	return i >= 0
}

// remove takes c out of the set.
func (s *conns) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(c)
	delete(s.open, c)
	if !c.known {
		return
	}
	c.known = false
	s.known--
	if s.ofJob[c.identity]--; s.ofJob[c.identity] == 0 {
		delete(s.ofJob, c.identity)
	}
}

// ready is [Hub.Ready].
func (s *service) ready() error {
	s.conns.mu.Lock()
	defer s.conns.mu.Unlock()
	switch {
	case s.conns.closed:
		return errors.New("the coordinator is closed")
	case s.conns.known >= maxConns:
		return errFull
	}
	return nil
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
	set  *conns
	host string // the other side's address without its port
	// Guarded by set.mu.
	known    bool
	identity string
}

// Dialled is a connection that its maker has made to one attempt: an agent that says it is another
// is refused. A connection that wraps it has to have a method NetConn that returns it, as a
// tls.Conn's does.
type Dialled interface {
	net.Conn
	// Attempt is its name, and its UID; empty: not known.
	Attempt() (name, uid string)
}

// dialled is the connection that a server's c was made from, nil if nobody dialled it to
// an attempt.
func dialled(c net.Conn) Dialled {
	switch c := c.(type) {
	case *conn:
		return dialled(c.Conn)
	case Dialled:
		return c
	case interface{ NetConn() net.Conn }: // one that wraps another, as a tunnel's
		return dialled(c.NetConn())
	}
	return nil
}

func (c *conn) Close() error {
	c.set.remove(c)
	return c.Conn.Close()
}

// listener puts what it accepts into a set.
type listener struct {
	net.Listener
	service *service
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	added, dropped := l.service.conns.add(c)
	if dropped != nil {
		l.service.turnAway(dropped.RemoteAddr(), errOverrun)
	}
	return added, nil
}
