package exporter

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

// Bounds of what those who scrape may take. There are one or two of them, each with a
// request of a few hundred bytes every some seconds.
const (
	maxConns       = 16
	maxInFlight    = 4
	maxHeaderBytes = 16 << 10
	headerTimeout  = 5 * time.Second
	readTimeout    = 5 * time.Second
	// writeTimeout is the usual scrape_timeout: nobody waits longer for the answer.
	writeTimeout = 10 * time.Second
	// idleTimeout is longer than the usual scrape_interval, which keeps the connection.
	idleTimeout = 2 * time.Minute
	// shutdownWait is how long an answer under way is given at the end, which takes some
	// milliseconds; the end of a run waits for it, and as long for a connection on which
	// nobody has said anything.
	shutdownWait = 50 * time.Millisecond
)

// Serve answers GET /metrics on l until ctx ends, and closes l. The error is nil once
// ctx has ended.
func (e *Exporter) Serve(ctx context.Context, l net.Listener) error {
	h := &http.Server{
		Handler:        e.handler(isLoopback(l.Addr())),
		MaxHeaderBytes: maxHeaderBytes, ReadHeaderTimeout: headerTimeout,
		ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		// What it has to say is about clients that broke off, or not HTTP.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(over)
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownWait)
		defer cancel()
		if h.Shutdown(ending) != nil {
			h.Close() // what it returns is about connections that are gone now
		}
	})
	err := h.Serve(netutil.LimitListener(l, maxConns))
	if stop() {
		h.Close()
		return err
	}
	<-over
	return nil
}

// handler answers those who scrape. On loopback a page in a browser of this machine
// could ask by a name that was made to point here: only this machine's own names are
// answered there.
func (e *Exporter) handler(loopback bool) http.Handler {
	text := promhttp.HandlerFor(e.registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxInFlight})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", text)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		if loopback && !namesLoopback(r.Host) {
			http.Error(w, "Host is not this machine", http.StatusMisdirectedRequest)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// namesLoopback tells whether a Host, with or without a port, is of this machine alone.
func namesLoopback(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil { // without a port
		name = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	ip := net.ParseIP(name)
	return strings.EqualFold(name, "localhost") || ip != nil && ip.IsLoopback()
}
