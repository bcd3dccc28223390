package coordinator

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// Hub is a coordinator for the agents of all jobs whose certificates are of one authority. It
// requires TLS and Open. It gives one job only a share of its connections, remembers nothing of an
// attempt that is not attached, and orders nobody about: that is for who follows the job, with a
// [Server]. All methods may be called at the same time, and before Serve.
type Hub struct {
	// TLS is as [Server.TLS].
	TLS *tls.Config
	// Open gives the Follower of an attempt whose agent attaches while it is not attached, and
	// must not wait for anything. done is called when the agent has left; before it has
	// returned the attempt is not opened anew. Nothing is remembered of it then.
	Open func(hello *hodeipb.Hello) (f Follower, done func())
	// MetricsInterval is as [Server.MetricsInterval].
	MetricsInterval time.Duration
	// TurnedAway is as [Server.TurnedAway].
	TurnedAway func(from net.Addr, err error)

	once sync.Once
	own  service
}

// Serve takes connections from l until Close, or until l fails.
func (h *Hub) Serve(l net.Listener) error { return h.service().serveListener(l) }

// Shutdown waits for the attachments to complete, or for ctx to end, and closes.
func (h *Hub) Shutdown(ctx context.Context) { h.service().shutdown(ctx) }

// Close ends all attachments, waits for them, and makes Serve return.
func (h *Hub) Close() { h.service().close() }

// Ready says why an agent that dials now would be turned away whoever it is: the
// Hub is closed, or has as many connections as it takes. Nil if neither.
func (h *Hub) Ready() error { return h.service().ready() }

func (h *Hub) service() *service {
	h.once.Do(func() { h.own.policy = manyJobs{h} })
	return &h.own
}

// manyJobs is the policy of a Hub.
type manyJobs struct{ *Hub }

func (p manyJobs) settings() settings {
	return settings{tls: p.TLS, metricsInterval: p.MetricsInterval, turnedAway: p.TurnedAway, window: sharedWindowBytes, shared: true}
}

// admits lets in everybody whose certificate is the job's.
func (p manyJobs) admits(*hodeipb.Hello) error { return nil }

func (p manyJobs) open(hello *hodeipb.Hello) (Follower, func()) { return p.Open(hello) }
