package coordinator

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// Server is a coordinator for one job. It requires TLS, Namespace, Job and Follower. It
// remembers every attempt of the job, however often its agent comes back. All methods may be called
// at the same time, and before Serve.
type Server struct {
	// TLS is the server's side of every connection; it must ask for client
	// certificates and verify them.
	TLS *tls.Config
	// Namespace and Job are the only ones whose agents are let in.
	Namespace, Job string
	Follower       Follower
	// Silent asks agents for states and the exit record, not for output.
	Silent bool
	// MetricsInterval is how often agents are asked for a sample; 0: they are not.
	MetricsInterval time.Duration
	// NewSamples asks for no sample from before an attempt attached for the first time:
	// for who shows what a job uses now, and would show its history as that.
	NewSamples bool
	// Input, if not nil, is sent to the command of an attempt that takes input.
	Input *Input
	// Exec, if not nil, is all that the agents are asked for: the first that attaches runs it. TLS has the
	// certificate for that, and Follower is not used.
	Exec *Execution
	// Handshake, if not nil, is told how a TLS handshake ended in which each side has
	// spoken: nil, or why one refused the other's certificate. Calls may overlap, and
	// one that takes its time holds up that connection.
	Handshake func(err error)
	// TurnedAway, if not nil, is told which agent was not let in, and why: its handshake
	// failed, save where the connection merely ended; it said hello as another job, or in
	// another protocol; there was no place for it; or, a *Fault, its messages make no
	// sense. Whoever reaches the port can have it
	// called, as often as they connect. Calls may overlap, and one that takes its time
	// holds up that connection, or all that are to come.
	TurnedAway func(from net.Addr, err error)

	once sync.Once
	own  service
}

// Serve takes connections from l until Close, or until l fails.
func (s *Server) Serve(l net.Listener) error { return s.service().serveListener(l) }

// Shutdown waits for the attachments to complete, or for ctx to end, and closes.
func (s *Server) Shutdown(ctx context.Context) { s.service().shutdown(ctx) }

// Close ends all attachments, waits for them, and makes Serve return.
func (s *Server) Close() { s.service().close() }

// Cancel orders every attempt to stop, those that are attached and those that
// will be. A nil grace is the job's own.
func (s *Server) Cancel(order *hodeipb.Cancel) { s.service().orderCancel(order) }

// JobEnded tells the agent of an attempt, once it is attached, that the job's container has
// ended, and how. An agent that still waits for the launcher then ends.
func (s *Server) JobEnded(name, how string) { s.service().noteJobEnded(name, how) }

// Signal sends a signal, by its number on Linux, to the commands of the attempts that are
// attached, and tells whether there was one. Unlike Cancel it is not repeated.
func (s *Server) Signal(number int32) bool {
	return s.service().orderAll(&hodeipb.Control{Order: &hodeipb.Control_Signal{Signal: number}})
}

// Release lets the commands start of those attempts that are attached and whose start is held. One
// that comes back with its start still held has to be released again.
func (s *Server) Release() {
	s.service().orderAll(&hodeipb.Control{Order: &hodeipb.Control_Release{Release: &hodeipb.Release{}}})
}

// LeaveInput tells the attempts that are attached that no more input comes from here, and why.
func (s *Server) LeaveInput(why string) {
	s.service().orderAll(&hodeipb.Control{Order: &hodeipb.Control_LeaveInput{LeaveInput: &hodeipb.LeaveInput{Message: why}}})
}

// Refused tells what has been refused up to now.
func (s *Server) Refused() Refused { return s.service().tellRefused() }

func (s *Server) service() *service {
	s.once.Do(func() { s.own.policy = oneJob{s} })
	return &s.own
}

// oneJob is the policy of a Server.
type oneJob struct{ *Server }

func (p oneJob) settings() settings {
	return settings{
		tls: p.TLS, silent: p.Silent, metricsInterval: p.MetricsInterval, newSamples: p.NewSamples, input: p.Input, exec: p.Exec,
		handshake: p.Handshake, turnedAway: p.TurnedAway, window: windowBytes,
	}
}

func (p oneJob) admits(hello *hodeipb.Hello) error {
	if hello.Namespace != p.Namespace || hello.Job != p.Job {
		return status.Errorf(codes.PermissionDenied, "job %s/%s is not followed here", hello.Namespace, hello.Job)
	}
	return nil
}

func (p oneJob) open(*hodeipb.Hello) (Follower, func()) { return p.Follower, nil }
