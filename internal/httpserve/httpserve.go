// Package httpserve serves HTTP with bounds on what clients may take, until a context ends. Start with
// [Listen] and [Serve]; a server that is for this machine alone asks [LoopbackHost] about each
// request. It knows nothing of what is served: handlers are its callers' affair.
package httpserve

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/netutil"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// Bounds of every server. A request's header is a few hundred bytes, which are there at once.
const (
	// MaxHeaderBytes is the most that is read of a request's header.
	MaxHeaderBytes = 16 << 10
	// HeaderTimeout is how long a client may take to send it.
	HeaderTimeout = 5 * time.Second
)

// Bounds are what the clients of one server may take.
type Bounds struct {
	// Conns is how many connections there are at a time; others wait to be accepted.
	Conns int
	// Read is for a whole request, Write for its handler and the answer, Idle for the time
	// between two requests of a connection. Zero is no bound.
	Read, Write, Idle time.Duration
	// Shutdown is how long the requests under way are given at the end.
	Shutdown time.Duration
}

// Serve answers requests from l with h until ctx ends, and then gives those under way
// bounds.Shutdown; the context of each has ended by then. It closes l, and returns once no connection is
// left. The error is nil once ctx has ended. What net/http has to say goes to log: it is about
// clients that broke off, or whose bytes are not HTTP.
func Serve(ctx context.Context, l net.Listener, h http.Handler, bounds Bounds, log *log.Logger) error {
	s := &http.Server{
		Handler:        h,
		BaseContext:    func(net.Listener) context.Context { return ctx },
		MaxHeaderBytes: MaxHeaderBytes, ReadHeaderTimeout: HeaderTimeout,
		ReadTimeout: bounds.Read, WriteTimeout: bounds.Write, IdleTimeout: bounds.Idle,
		ErrorLog: log,
	}
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(over)
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), bounds.Shutdown)
		defer cancel()
		if s.Shutdown(ending) != nil {
			s.Close() // what it returns is about connections that are gone now
		}
	})
	err := s.Serve(netutil.LimitListener(l, bounds.Conns))
	if stop() {
		s.Close()
		return err
	}
	<-over
	return nil
}

// Listen opens a TCP address. An error has a hint: who has the address, if it is in use, and
// another, which is how to choose another address.
func Listen(address, another string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &job.Hinted{Err: fmt.Errorf("address %s is in use", address), Hint: "see by whom: ss -ltnp; or " + another}
	case err != nil:
		return nil, &job.Hinted{Err: err, Hint: another}
	}
	return l, nil
}

// IsLoopback reports whether only this machine can reach a listener's address.
func IsLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// LoopbackHost returns the name or address in a request's Host, in lower case, without its port and
// brackets. ok reports whether it is of this machine alone: a page in a browser of this machine can
// make another name point here (DNS rebinding), and is kept out by that.
func LoopbackHost(host string) (name string, ok bool) {
	name, port, err := net.SplitHostPort(host)
	if err != nil { // without a port
		name = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	} else if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", false
	}
	name = strings.ToLower(name)
	ip := net.ParseIP(name)
	return name, name == "localhost" || ip != nil && ip.IsLoopback()
}
