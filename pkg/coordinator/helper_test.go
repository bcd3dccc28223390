package coordinator

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// patience bounds what a test waits for; only a failing one comes near.
const patience = 20 * time.Second

var testID = certs.ID{Namespace: "jobs", Job: "make-k3x9z"}

// follower keeps what it is told. The funcs, where set, decide about errors
// and may wait.
type follower struct {
	output func(*hodeipb.Batch) error
	exit   func(*hodeipb.ExitRecord) error
	refuse error // of every attachment

	mu       sync.Mutex
	attached []uint64 // the offset at each attachment
	states   []*hodeipb.State
	data     []byte            // of all attempts
	ends     map[string]uint64 // of each attempt
	lost     uint64
	exits    []*hodeipb.ExitRecord
	samples  []*hodeipb.Metrics
	changed  chan struct{}
}

func (f *follower) update(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// until waits for what done, which is called with the lock held, asks for.
func (f *follower) until(t testing.TB, what string, done func() bool) {
	t.Helper()
	timeout := time.After(patience)
	for {
		f.mu.Lock()
		ok := done()
		if f.changed == nil {
			f.changed = make(chan struct{})
		}
		changed := f.changed
		f.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("waited for: %s", what)
		}
	}
}

func (f *follower) Attached(hello *hodeipb.Hello) (resume Resume, err error) {
	f.update(func() {
		resume.Offset = f.ends[hello.Attempt]
		f.attached = append(f.attached, resume.Offset)
	})
	return resume, f.refuse
}

func (f *follower) Metrics(_ string, m *hodeipb.Metrics) {
	f.update(func() { f.samples = append(f.samples, m) })
}

func (f *follower) State(_ string, s *hodeipb.State) {
	f.update(func() { f.states = append(f.states, s) })
}

func (f *follower) Output(_ context.Context, attempt string, b *hodeipb.Batch, data mem.BufferSlice) error {
	b.Data = data.Materialize()
	if f.output != nil {
		if err := f.output(b); err != nil {
			return err
		}
	}
	f.update(func() {
		f.data = append(f.data, b.Data...)
		for _, r := range b.Records {
			f.lost += r.Lost
			f.ends[attempt] += r.Lost + uint64(r.Length)
		}
	})
	return nil
}

func (f *follower) Exited(_ string, r *hodeipb.ExitRecord) error {
	if f.exit != nil {
		if err := f.exit(r); err != nil {
			return err
		}
	}
	f.update(func() { f.exits = append(f.exits, r) })
	return nil
}

// world is an authority, the job's certificates and a coordinator of that job.
type world struct {
	authority *certs.Authority
	caDir     string
	job       *certs.JobCerts
	server    *Server
	follower  *follower
	addr      string
}

// newWorld serves the test's job on loopback until the test has ended, and then
// checks that no goroutine is left.
func newWorld(t testing.TB, change func(*Server)) *world {
	t.Helper()
	w := newAuthority(t)
	config, err := w.job.ServerConfig()
	if err != nil {
		t.Fatal(err)
	}
	w.server = &Server{TLS: config, Namespace: testID.Namespace, Job: testID.Job, Follower: w.follower}
	if change != nil {
		change(w.server)
	}
	w.serve(t, w.server)
	return w
}

// newAuthority makes a world without a coordinator.
func newAuthority(t testing.TB) *world {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() { settle(t, before) })

	w := &world{caDir: t.TempDir(), follower: &follower{ends: map[string]uint64{}}}
	if _, err := certs.Generate(certs.GenerateOptions{Dir: w.caDir}); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.authority, err = certs.LoadAuthority(w.caDir); err != nil {
		t.Fatal(err)
	}
	if w.job, err = w.authority.IssueJob(testID); err != nil {
		t.Fatal(err)
	}
	return w
}

// serve serves c, a Server or a Hub, on loopback until the test has ended.
func (w *world) serve(t testing.TB, c interface {
	Serve(net.Listener) error
	Close()
}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- c.Serve(l) }()
	t.Cleanup(func() {
		c.Close()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// settle waits until there are no more goroutines than there were before.
func settle(t testing.TB, before int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
			return
		}
		runtime.Gosched()
	}
}

// clientTLS is the agent's side with the certificates of c.
func clientTLS(t testing.TB, c *certs.JobCerts) *tls.Config {
	t.Helper()
	dir := t.TempDir()
	f := certs.Files{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, "client.crt"), Key: filepath.Join(dir, "client.key")}
	for path, content := range map[string][]byte{f.CA: c.CA, f.Cert: c.ClientCert, f.Key: c.ClientKey} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config, err := f.ClientConfig(testID.ServerName())
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// bareTLS trusts the authority and shows the certificate given, with none of
// the checks that package certs makes before it lets one be used.
func bareTLS(t testing.TB, w *world, shown ...tls.Certificate) *tls.Config {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(w.job.CA) {
		t.Fatal("no CA")
	}
	config := &tls.Config{RootCAs: roots, ServerName: testID.ServerName()}
	if len(shown) > 0 { // shown as an agent does, whatever authorities the server names
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &shown[0], nil }
	}
	return config
}

// agent is the other side of one attachment, written by hand.
type agent struct {
	t      testing.TB
	conn   net.Conn
	client *grpc.ClientConn
	stream hodeipb.Coordinator_AttachClient
}

// dial opens a stream on a connection of its own.
func (w *world) dial(t testing.TB, creds credentials.TransportCredentials) *agent {
	t.Helper()
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	return w.dialOver(t, conn, creds)
}

func (w *world) dialOver(t testing.TB, conn net.Conn, creds credentials.TransportCredentials) *agent {
	t.Helper()
	var err error
	a := &agent{t: t, conn: conn}
	once := make(chan net.Conn, 1)
	once <- conn
	a.client, err = grpc.NewClient("passthrough:///"+testID.ServerName(), grpc.WithTransportCredentials(creds),
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
	t.Cleanup(a.close)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	if a.stream, err = hodeipb.NewCoordinatorClient(a.client).Attach(ctx); err != nil {
		a.stream = failed{err: err}
	}
	return a
}

// failed is a stream that could not be opened.
type failed struct {
	hodeipb.Coordinator_AttachClient
	err error
}

func (f failed) Send(*hodeipb.FromAgent) error   { return f.err }
func (f failed) Recv() (*hodeipb.ToAgent, error) { return nil, f.err }
func (f failed) CloseSend() error                { return f.err }

func (a *agent) close() {
	a.client.Close()
	a.conn.Close()
}

// attach says hello as the test's job, whose output ends at end.
func (w *world) attach(t testing.TB, end uint64) *agent { return w.attachAs(t, "uid-1", end) }

func (w *world) attachAs(t testing.TB, uid string, end uint64) *agent {
	t.Helper()
	a := w.dial(t, credentials.NewTLS(clientTLS(t, w.job)))
	h := hello(end)
	h.Attempt, h.AttemptUid = "pod-"+uid, uid
	a.send(&hodeipb.FromAgent_Hello{Hello: h})
	return a
}

func hello(end uint64) *hodeipb.Hello {
	return &hodeipb.Hello{
		Protocol: hodeipb.Protocol, Namespace: testID.Namespace, Job: testID.Job, Attempt: "pod-1", AttemptUid: "uid-1",
		Extent: &hodeipb.Extent{End: end}, State: &hodeipb.State{Phase: hodeipb.Phase_WAITING},
	}
}

// send sends a message given as a value of the oneof. An error is the
// receiver's to see.
func (a *agent) send(m any) {
	from := &hodeipb.FromAgent{}
	switch m := m.(type) {
	case *hodeipb.FromAgent_Hello:
		from.Message = m
	case *hodeipb.Batch:
		from.Message = &hodeipb.FromAgent_Batch{Batch: m}
	case *hodeipb.State:
		from.Message = &hodeipb.FromAgent_State{State: m}
	case *hodeipb.Metrics:
		from.Message = &hodeipb.FromAgent_Metrics{Metrics: m}
	case *hodeipb.ExitRecord:
		from.Message = &hodeipb.FromAgent_Exit{Exit: m}
	case nil: // a message without content
	}
	_ = a.stream.Send(from)
}

func (a *agent) welcome() *hodeipb.Welcome {
	a.t.Helper()
	w := a.recv().GetWelcome()
	if w == nil {
		a.t.Fatal("the first message is not a welcome")
	}
	return w
}

func (a *agent) ack(offset uint64, exit bool) {
	a.t.Helper()
	m := a.recv()
	if ack := m.GetAck(); ack == nil || ack.Offset != offset || ack.Exit != exit {
		a.t.Fatalf("got %v, want the ack of %d, %t", m, offset, exit)
	}
}

func (a *agent) recv() *hodeipb.ToAgent {
	a.t.Helper()
	m, err := a.stream.Recv()
	if err != nil {
		a.t.Fatal(err)
	}
	return m
}

// fails receives until the stream ends, and returns how.
func (a *agent) fails() *status.Status {
	a.t.Helper()
	for {
		if _, err := a.stream.Recv(); err == io.EOF {
			return status.New(codes.OK, "")
		} else if err != nil {
			s, ok := status.FromError(err)
			if !ok {
				a.t.Fatalf("no status: %v", err)
			}
			return s
		}
	}
}

func (a *agent) failsWith(code codes.Code, message string) {
	a.t.Helper()
	if s := a.fails(); s.Code() != code || s.Message() != message {
		a.t.Errorf("ended with %s: %s\nwant %s: %s", s.Code(), s.Message(), code, message)
	}
}

// text is a batch of one record of standard output.
func text(offset uint64, data string) *hodeipb.Batch {
	return &hodeipb.Batch{Offset: offset, Data: []byte(data), Records: []*hodeipb.Record{
		{Stream: hodeipb.Stream_STDOUT, StreamOffset: offset, Length: uint32(len(data))},
	}}
}

var errDiskFull = errors.New("disk full")
