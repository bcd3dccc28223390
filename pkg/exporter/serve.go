package exporter

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hodei-jobs/hodei/internal/httpserve"
)

// bounds of what those who scrape may take. There are one or two of them, each with a
// request of a few hundred bytes every some seconds.
var bounds = httpserve.Bounds{
	Conns: 16,
	Read:  5 * time.Second,
	// Write is the usual scrape_timeout: nobody waits longer for the answer.
	Write: 10 * time.Second,
	// Idle is longer than the usual scrape_interval, which keeps the connection.
	Idle: 2 * time.Minute,
	// An answer takes some milliseconds. The end of a run waits for one under way, and as long for
	// a connection on which nobody has said anything.
	Shutdown: 50 * time.Millisecond,
}

// maxInFlight is how many are answered at a time.
const maxInFlight = 4

// Serve answers GET /metrics on l until ctx ends, and closes l. The error is nil once
// ctx has ended.
func (e *Exporter) Serve(ctx context.Context, l net.Listener) error {
	return httpserve.Serve(ctx, l, e.handler(httpserve.IsLoopback(l.Addr())), bounds, log.New(io.Discard, "", 0))
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
		if _, ours := httpserve.LoopbackHost(r.Host); loopback && !ours {
			http.Error(w, "Host is not this machine", http.StatusMisdirectedRequest)
			return
		}
		mux.ServeHTTP(w, r)
	})
}
