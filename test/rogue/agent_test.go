package rogue

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// agent is one that has a job's certificate and keeps to no rule.
type agent struct {
	namespace, job, attempt, uid string
	server                       string
	tls                          *tls.Config
}

// attackWait bounds one attack, whatever the coordinator does.
const attackWait = 30 * time.Second

// runAsWorker is what hodei run takes for hodei-worker: the job's name is the attack.
func runAsWorker(args []string) int {
	if args[0] == "launch" {
		awaitAgent(strings.TrimPrefix(args[1], "--socket="))
		return 0
	}
	env := os.Getenv
	files := certs.Files{CA: env(contract.EnvCACertPath), Cert: env(contract.EnvClientCertPath), Key: env(contract.EnvClientKeyPath)}
	config, err := files.ClientConfig(env(contract.EnvServerName))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	a := &agent{
		namespace: env(contract.EnvNamespace), job: env(contract.EnvJob), attempt: env(contract.EnvAttempt),
		uid:    env(contract.EnvAttemptUID),
		server: env(contract.EnvServerAddress), tls: config,
	}
	var last string
	for _, attack := range attacks {
		if attack.name == a.job {
			attack.start(context.Background(), a)
			last = attack.last
		}
	}
	if last == "" {
		last = `{"cause":"Completed"}`
	}
	if err := os.WriteFile(env(contract.EnvTerminationLog), []byte(last), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// awaitAgent waits until the agent has left its last word, beside its socket, or for a
// signal.
func awaitAgent(socket string) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if _, err := os.Stat(filepath.Join(filepath.Dir(socket), "termination")); err == nil {
				return
			}
		case <-ended:
			return
		}
	}
}

// dial makes a connection of its own, on which nothing is sent yet.
func (a *agent) dial() *grpc.ClientConn {
	conn, err := grpc.NewClient("passthrough:///"+a.server,
		grpc.WithTransportCredentials(credentials.NewTLS(a.tls)),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{})),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", a.server)
		}))
	if err != nil {
		panic(err) // only options that are wrong
	}
	return conn
}

// stream is one attachment. Its methods tell no errors: who is refused goes on.
type stream struct {
	hodeipb.Coordinator_AttachClient
}

// attach says hello on a connection; false: nobody listens.
func attach(ctx context.Context, conn *grpc.ClientConn, hello *hodeipb.Hello) (*stream, bool) {
	s, err := hodeipb.NewCoordinatorClient(conn).Attach(ctx)
	if err != nil {
		return nil, false
	}
	err = s.Send(&hodeipb.FromAgent{Message: &hodeipb.FromAgent_Hello{Hello: hello}})
	return &stream{s}, err == nil
}

// hello is one that is taken.
func (a *agent) hello() *hodeipb.Hello {
	return &hodeipb.Hello{
		Protocol: hodeipb.Protocol, Namespace: a.namespace, Job: a.job, Attempt: a.attempt, AttemptUid: a.uid, AgentVersion: "rogue",
		Extent: &hodeipb.Extent{End: 1 << 20}, State: &hodeipb.State{Phase: hodeipb.Phase_RUNNING},
	}
}

// welcomed waits for the answer to a hello.
func (s *stream) welcomed() bool {
	m, err := s.Recv()
	return err == nil && m.GetWelcome() != nil
}

// tell sends messages until one is not taken.
func (s *stream) tell(messages ...*hodeipb.FromAgent) bool {
	for _, m := range messages {
		if s.Send(m) != nil {
			return false
		}
	}
	return true
}

// end waits until the coordinator has ended the stream, and says how.
func (s *stream) end() error {
	for {
		if _, err := s.Recv(); err != nil {
			return err
		}
	}
}

// attached has one stream on a connection of its own, which is welcome.
func (a *agent) attached(ctx context.Context, do func(*stream)) {
	conn := a.dial()
	defer conn.Close()
	if s, ok := attach(ctx, conn, a.hello()); ok && s.welcomed() {
		do(s)
	}
}

// honest tells whether a job of another name is served: its output is stored, and its end.
func (a *agent) honest(ctx context.Context) error {
	conn := a.dial()
	defer conn.Close()
	hello := a.hello()
	hello.Extent.End = 6
	s, ok := attach(ctx, conn, hello)
	if !ok || !s.welcomed() {
		return fmt.Errorf("not welcome: %w", s.end())
	}
	s.tell(batch(0, "hello\n"), exit(&hodeipb.ExitRecord{Cause: contract.CauseCompleted, End: 6}))
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		if m.GetAck().GetExit() {
			return s.CloseSend()
		}
	}
}

func files(dir string) certs.Files {
	return certs.Files{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, "client.crt"), Key: filepath.Join(dir, "client.key")}
}
