package cli

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
	"github.com/hodei-jobs/hodei/pkg/follow/followtest"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
)

// agentWait bounds what a test waits for; only a failing one comes near.
const agentWait = 20 * time.Second

// agentSampled is when a fakeAgent has taken its last sample before it attached.
var agentSampled = time.Date(2025, 6, 1, 11, 55, 0, 0, time.UTC)

// issued is a job's certificates, as both sides use them.
type issued struct {
	id            certs.ID
	server, agent *tls.Config
}

func issueCerts(t *testing.T, namespace, name string) issued {
	t.Helper()
	i := issued{id: certs.ID{Namespace: namespace, Job: name}}
	i.server, i.agent = followtest.Certs(t, i.id)
	return i
}

// fakeAgent is the other side of one attachment, written by hand.
type fakeAgent struct {
	t       *testing.T
	stream  hodeipb.Coordinator_AttachClient
	welcome *hodeipb.Welcome
	attempt string
	client  *grpc.ClientConn
}

// attachAgent says hello on a connection that deliver takes to the coordinator, and
// waits for its welcome.
func attachAgent(t *testing.T, i issued, attempt string, deliver func(context.Context, net.Conn)) *fakeAgent {
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
	ctx, cancel := context.WithTimeout(context.Background(), agentWait)
	delivered := make(chan struct{})
	go func() {
		defer close(delivered)
		deliver(ctx, ours)
	}()
	once := make(chan net.Conn, 1)
	once <- theirs
	a := &fakeAgent{t: t, attempt: attempt}
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
	if a.stream, err = hodeipb.NewCoordinatorClient(a.client).Attach(ctx); err != nil {
		t.Fatal(err)
	}
	a.send(&hodeipb.FromAgent{Message: &hodeipb.FromAgent_Hello{Hello: &hodeipb.Hello{
		Protocol: hodeipb.Protocol, Namespace: i.id.Namespace, Job: i.id.Job, Attempt: attempt, AttemptUid: "uid-" + attempt,
		Extent: &hodeipb.Extent{}, State: &hodeipb.State{Phase: hodeipb.Phase_RUNNING, Probes: []*hodeipb.Probe{{Name: "network"}, {Name: "oom", Absent: "no BTF"}}},
		LastSample: timestamppb.New(agentSampled),
	}}})
	m, err := a.stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if a.welcome = m.GetWelcome(); a.welcome == nil {
		t.Fatalf("got %v", m)
	}
	return a
}

func (a *fakeAgent) send(m *hodeipb.FromAgent) {
	a.t.Helper()
	if err := a.stream.Send(m); err != nil {
		a.t.Fatal(err)
	}
}

// sample sends a sample of a time of its clock.
func (a *fakeAgent) sample(at time.Time, u *hodeipb.Usage) {
	a.t.Helper()
	a.send(&hodeipb.FromAgent{Message: &hodeipb.FromAgent_Metrics{Metrics: &hodeipb.Metrics{Time: timestamppb.New(at), Usage: u}}})
}

// exit sends the exit record, and waits until it is stored.
func (a *fakeAgent) exit(r *hodeipb.ExitRecord) {
	a.t.Helper()
	a.send(&hodeipb.FromAgent{Message: &hodeipb.FromAgent_Exit{Exit: r}})
	for {
		m, err := a.stream.Recv()
		if err != nil {
			a.t.Fatal(err)
		}
		if m.GetAck().GetExit() {
			break
		}
	}
	if err := a.stream.CloseSend(); err != nil {
		a.t.Fatal(err)
	}
}

// issuedJob is a fakeJob whose agents can attach.
type issuedJob struct {
	*fakeJob
	config *tls.Config
}

func (j issuedJob) TLS() *tls.Config { return j.config }

var _ place.Job = issuedJob{}

// usageAt is what a job has used that burns a core, and half of its memory of 1Gi.
func usageAt(seconds float64) *hodeipb.Usage {
	ns := uint64(seconds * 1e9)
	return &hodeipb.Usage{
		Source: "cgroup2+ebpf", CpuNs: &ns, MemoryBytes: new(uint64(512 << 20)), MemoryPeakBytes: new(uint64(812 << 20)), MemoryLimitBytes: new(uint64(1 << 30)),
		NetIpv4: &hodeipb.Traffic{ReceiveBytes: 12_300_000, TransmitBytes: 400_000}, Pids: new(uint64(3)),
	}
}

// completed is the record of a command that succeeded after so many seconds.
func completedRecord(began time.Time, seconds float64) *hodeipb.ExitRecord {
	return &hodeipb.ExitRecord{Cause: string(job.Completed), Started: timestamppb.New(began), Finished: timestamppb.New(began.Add(time.Duration(seconds * float64(time.Second)))),
		Usage: usageAt(seconds), Probes: []*hodeipb.Probe{{Name: "network"}, {Name: "oom", Absent: "no BTF"}}}
}

func metricsAt(at time.Time, u *hodeipb.Usage) *hodeipb.Metrics {
	return &hodeipb.Metrics{Time: timestamppb.New(at), Usage: u}
}
