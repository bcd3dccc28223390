package faults

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// kind is what happens to a connection.
type kind int

const (
	reset      kind = iota // both sides get an RST
	torn                   // behind so many bytes of the agent's
	agentGone              // the agent's side gets an RST, the coordinator's stays open in silence
	serverGone             // the other way round
	deaf                   // nothing passes to the coordinator any more
	mute                   // nothing passes to the agent any more
	blackHole              // both
	slow                   // bytes trickle both ways
	kinds
)

func (k kind) String() string {
	return []string{"reset", "torn", "agent gone", "server gone", "deaf", "mute", "black hole", "slow"}[k]
}

// fault is what is to happen to one connection, once.
type fault struct {
	kind  kind
	after time.Duration // from its start; not of torn
	bytes int64         // of torn
	hold  time.Duration // then both sides get an RST; 0: never
}

// anyFault draws one. A tenth comes so early that it meets the handshake: more
// would only lengthen the agent's back-off.
func anyFault(rnd *rand.Rand) *fault {
	f := &fault{kind: kind(rnd.IntN(int(kinds)))}
	f.after = 20*time.Millisecond + time.Duration(rnd.Int64N(int64(200*time.Millisecond)))
	f.bytes = 8<<10 + rnd.Int64N(3<<20)
	if rnd.IntN(10) == 0 {
		f.after, f.bytes = time.Duration(1+rnd.Int64N(int64(5*time.Millisecond))), rnd.Int64N(3<<10)
	}
	f.hold = 20*time.Millisecond + time.Duration(rnd.Int64N(int64(300*time.Millisecond)))
	return f
}

// proxy passes connections on to a coordinator, as well as their faults let it.
type proxy struct {
	net.Listener
	target atomic.Pointer[string] // where the coordinator listens
	plan   func(*proxy) *fault    // of the connection that has come; nil: none
	links  atomic.Int64
	// bytesPerSecond passes from an agent; 0: what the machine can.
	bytesPerSecond atomic.Int64
	// faults counts, by kind, those that have come to pass.
	faults [kinds]atomic.Int64
	closed chan struct{}
}

// newProxy starts a proxy to the address.
func newProxy(t testing.TB, address string, plan func(*proxy) *fault) *proxy {
	t.Helper()
	p := &proxy{Listener: listen(t), plan: plan, closed: make(chan struct{})}
	p.target.Store(&address)
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := p.Accept()
			if err != nil {
				return
			}
			p.links.Add(1)
			fault := p.plan(p)
			work.Go(func() { p.link(conn.(*net.TCPConn), fault) })
		}
	})
	t.Cleanup(func() {
		close(p.closed)
		p.Close()
		work.Wait()
		if t.Failed() {
			t.Log(p)
		}
	})
	return p
}

// String tells what has happened.
func (p *proxy) String() string {
	s := fmt.Sprint(p.links.Load(), " connections")
	for k := range kinds {
		if n := p.faults[k].Load(); n > 0 {
			s += fmt.Sprintf(", %d %s", n, k)
		}
	}
	return s
}

// cuts is how many faults have come to pass.
func (p *proxy) cuts() (n int64) {
	for k := range p.faults {
		n += p.faults[k].Load()
	}
	return n
}

// link is one connection from its first byte to its last.
func (p *proxy) link(agent *net.TCPConn, f *fault) {
	defer agent.Close()
	conn, err := net.Dial("tcp", *p.target.Load())
	if err != nil {
		return
	}
	server := conn.(*net.TCPConn)
	defer server.Close()
	up := &pump{from: agent, to: server, left: -1, torn: make(chan struct{}), bytesPerSecond: p.bytesPerSecond.Load()}
	down := &pump{from: server, to: agent, left: -1}
	if f != nil && f.kind == torn {
		up.left = f.bytes
	}
	gone := make(chan struct{})
	up.gone, down.gone = gone, gone
	var pumps sync.WaitGroup
	pumps.Go(up.run)
	pumps.Go(down.run)
	ended := make(chan struct{})
	go func() {
		pumps.Wait()
		close(ended)
	}()
	defer func() { // whatever comes first
		close(gone)
		agent.Close()
		server.Close()
		<-ended
	}()
	if f == nil {
		p.await(ended, nil, 0)
		return
	}
	if f.kind == torn {
		if p.await(ended, up.torn, 0) {
			p.faults[torn].Add(1)
			abort(agent) // the coordinator gets what is on its way
		}
		return
	}
	if !p.await(ended, nil, f.after) {
		return
	}
	p.faults[f.kind].Add(1)
	silent := func(pumps ...*pump) {
		for _, p := range pumps {
			p.mode.Store(swallow)
		}
	}
	switch f.kind {
	case agentGone:
		silent(up, down)
		abort(agent)
	case serverGone:
		silent(up, down)
		abort(server)
	case deaf:
		silent(up)
	case mute:
		silent(down)
	case blackHole:
		silent(up, down)
	case slow:
		up.mode.Store(trickle)
		down.mode.Store(trickle)
	}
	hold := f.hold
	if f.kind == agentGone {
		hold = 0 // until the coordinator notices by itself
	}
	if f.kind == reset || p.await(ended, nil, hold) {
		silent(up, down)
		abort(agent)
		abort(server)
	}
}

// await waits for the event, or for d where that is not 0, and says whether it
// came before the connection's end.
func (p *proxy) await(ended, event <-chan struct{}, d time.Duration) bool {
	var timer <-chan time.Time
	if d > 0 {
		timer = time.After(d)
	}
	select {
	case <-event:
		return true
	case <-timer:
		return true
	case <-ended:
		return false
	case <-p.closed:
		return false
	}
}

// abort closes c with an RST; what is on its way is lost.
func abort(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}

// newNobody gives an address where every connection gets an RST. It is taken until
// the test ends: a free port could become anybody's.
func newNobody(t testing.TB) string {
	t.Helper()
	l := listen(t)
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			abort(conn.(*net.TCPConn))
		}
	})
	t.Cleanup(func() { l.Close(); work.Wait() })
	return l.Addr().String()
}

// Modes of a pump.
const (
	pass int32 = iota
	swallow
	trickle
)

// pump carries one direction.
type pump struct {
	from, to *net.TCPConn
	mode     atomic.Int32
	gone     <-chan struct{}
	left     int64         // bytes that may pass; below 0: all
	torn     chan struct{} // closed once they have

	bytesPerSecond int64 // 0: any
}

func (p *pump) run() {
	// Where one side is silent for good, its end is no news for the other.
	defer func() {
		if p.mode.Load() != swallow {
			_ = p.to.CloseWrite()
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := p.from.Read(buf)
		if p.left >= 0 {
			n = int(min(int64(n), p.left))
			p.left -= int64(n)
		}
		if !p.write(buf[:n]) || err != nil {
			return
		}
		if p.left == 0 {
			close(p.torn)
			p.left = -1
			p.mode.Store(swallow)
		}
	}
}

// write says whether there is somebody to write to.
func (p *pump) write(data []byte) bool {
	const piece, pause = 200, 2 * time.Millisecond // 100 KB/s
	for len(data) > 0 {
		n, wait := len(data), time.Duration(0)
		switch p.mode.Load() {
		case swallow:
			return true
		case trickle:
			n, wait = min(n, piece), pause
		default:
			if p.bytesPerSecond > 0 {
				wait = time.Duration(n) * time.Second / time.Duration(p.bytesPerSecond)
			}
		}
		if wait > 0 {
			select {
			case <-time.After(wait):
			case <-p.gone:
				return false
			}
		}
		if _, err := p.to.Write(data[:n]); err != nil {
			return p.mode.Load() == swallow
		}
		data = data[n:]
	}
	return true
}
