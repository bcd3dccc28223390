package followtest

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// Wait bounds what a test waits for; only a failing one comes near.
const Wait = 20 * time.Second

// Sampled is when an Agent has taken its last sample before it attached.
var Sampled = time.Date(2025, 6, 1, 11, 55, 0, 0, time.UTC)

// Issued is a job's certificates, as both sides use them.
type Issued struct {
	id            certs.ID
	Server, agent *tls.Config
}

// Issue makes the certificates of a job.
func Issue(t *testing.T, namespace, name string) Issued {
	t.Helper()
	i := Issued{id: certs.ID{Namespace: namespace, Job: name}}
	i.Server, i.agent = Certs(t, i.id)
	return i
}

// Agent is the other side of one attachment, written by hand.
type Agent struct {
	t       *testing.T
	Stream  hodeipb.Coordinator_AttachClient
	Welcome *hodeipb.Welcome
	attempt string
	client  *grpc.ClientConn
}

// Attach says hello on a connection that deliver takes to the coordinator, and
// waits for its welcome. The agent's command runs.
func Attach(t *testing.T, i Issued, attempt string, deliver func(context.Context, net.Conn)) *Agent {
	t.Helper()
	return AttachAs(t, i, attempt, &hodeipb.State{Phase: hodeipb.Phase_RUNNING,
		Probes: []*hodeipb.Probe{{Name: "network"}, {Name: "oom", Absent: "no BTF"}}}, deliver)
}

// AttachAs is Attach of an agent in this state.
func AttachAs(t *testing.T, i Issued, attempt string, state *hodeipb.State, deliver func(context.Context, net.Conn)) *Agent {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ours, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), Wait)
	delivered := make(chan struct{})
	go func() {
		defer close(delivered)
		deliver(ctx, ours)
	}()
	once := make(chan net.Conn, 1)
	once <- theirs
	a := &Agent{t: t, attempt: attempt}
	a.client, err = grpc.NewClient("passthrough:///"+i.id.ServerName(), grpc.WithTransportCredentials(credentials.NewTLS(i.agent)),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			select {
			case c := <-once:
				return c, nil
			default:
				return nil, net.ErrClosed
			}
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.client.Close()
		cancel()
		<-delivered
	})
	if a.Stream, err = hodeipb.NewCoordinatorClient(a.client).Attach(ctx); err != nil {
		t.Fatal(err)
	}
	a.Send(&hodeipb.FromAgent{Message: &hodeipb.FromAgent_Hello{Hello: &hodeipb.Hello{
		Protocol: hodeipb.Protocol, Namespace: i.id.Namespace, Job: i.id.Job, Attempt: attempt, AttemptUid: "uid-" + attempt,
		Extent: &hodeipb.Extent{}, State: state,
		LastSample: timestamppb.New(Sampled),
	}}})
	m, err := a.Stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if a.Welcome = m.GetWelcome(); a.Welcome == nil {
		t.Fatalf("got %v", m)
	}
	return a
}

// Send sends a message.
func (a *Agent) Send(m *hodeipb.FromAgent) {
	a.t.Helper()
	if err := a.Stream.Send(m); err != nil {
		a.t.Fatal(err)
	}
}

// Sample sends a sample of a time of its clock.
func (a *Agent) Sample(at time.Time, u *hodeipb.Usage) {
	a.t.Helper()
	a.Send(&hodeipb.FromAgent{Message: &hodeipb.FromAgent_Metrics{Metrics: &hodeipb.Metrics{Time: timestamppb.New(at), Usage: u}}})
}

// Order returns the next order of the coordinator.
func (a *Agent) Order() *hodeipb.Control {
	a.t.Helper()
	for {
		m, err := a.Stream.Recv()
		if err != nil {
			a.t.Fatal(err)
		}
		if c := m.GetControl(); c != nil {
			return c
		}
	}
}

// Exit sends the exit record, and waits until it is stored.
func (a *Agent) Exit(r *hodeipb.ExitRecord) {
	a.t.Helper()
	a.Send(&hodeipb.FromAgent{Message: &hodeipb.FromAgent_Exit{Exit: r}})
	for {
		m, err := a.Stream.Recv()
		if err != nil {
			a.t.Fatal(err)
		}
		if m.GetAck().GetExit() {
			break
		}
	}
	if err := a.Stream.CloseSend(); err != nil {
		a.t.Fatal(err)
	}
}

// IssuedJob is a Job whose agents can attach.
type IssuedJob struct {
	*Job
	Config *tls.Config
}

// TLS returns Config.
func (j IssuedJob) TLS() *tls.Config { return j.Config }

// UsageAt is what a job has used that burns a core, and half of its memory of 1Gi.
func UsageAt(seconds float64) *hodeipb.Usage {
	ns := uint64(seconds * 1e9)
	return &hodeipb.Usage{
		Source: "cgroup2+ebpf", CpuNs: &ns, MemoryBytes: new(uint64(512 << 20)), MemoryPeakBytes: new(uint64(812 << 20)),
		MemoryLimitBytes: new(uint64(1 << 30)),
		NetIpv4:          &hodeipb.Traffic{ReceiveBytes: 12_300_000, TransmitBytes: 400_000}, Pids: new(uint64(3)),
	}
}

// Completed is the record of a command that succeeded after so many seconds.
func Completed(began time.Time, seconds float64) *hodeipb.ExitRecord {
	return &hodeipb.ExitRecord{Cause: string(job.Completed), Started: timestamppb.New(began),
		Finished: timestamppb.New(began.Add(time.Duration(seconds * float64(time.Second)))),
		Usage:    UsageAt(seconds), Probes: []*hodeipb.Probe{{Name: "network"}, {Name: "oom", Absent: "no BTF"}}}
}

// MetricsAt is a sample of a time of the agent's clock.
func MetricsAt(at time.Time, u *hodeipb.Usage) *hodeipb.Metrics {
	return &hodeipb.Metrics{Time: timestamppb.New(at), Usage: u}
}
