package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/mem"

	"github.com/hodei-jobs/hodei/agent/agenttest"
	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// wireLine is one line of output in the benchmark.
var wireLine = append(bytes.Repeat([]byte("x"), 99), '\n')

// BenchmarkWire sends a MB of lines of 100 bytes over mTLS on loopback, and counts
// what that allocates on both sides: the limit is a plain TLS connection, the peer
// a sender that makes a message of protobuf for each line, as many do.
func BenchmarkWire(b *testing.B) {
	const perOp = 1_000_000
	c, err := testCerts()
	if err != nil {
		b.Fatal(err)
	}
	server, err := c.ServerConfig()
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	files := certs.Files{CA: dir + "/ca.crt", Cert: dir + "/client.crt", Key: dir + "/client.key"}
	writeFiles(b, map[string][]byte{files.CA: c.CA, files.Cert: c.ClientCert, files.Key: c.ClientKey})
	client, err := files.ClientConfig(testID.ServerName())
	if err != nil {
		b.Fatal(err)
	}
	b.Run("plain-tls", func(b *testing.B) {
		l, err := tls.Listen("tcp", "127.0.0.1:0", server)
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		read := make(chan error, 1)
		go func() {
			conn, err := l.Accept()
			if err == nil {
				_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, conn, make([]byte, 256<<10))
			}
			read <- err
		}()
		conn, err := tls.Dial("tcp", l.Addr().String(), client)
		if err != nil {
			b.Fatal(err)
		}
		data := bytes.Repeat(wireLine, perOp/len(wireLine))
		b.SetBytes(perOp)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := conn.Write(data); err != nil {
				b.Fatal(err)
			}
		}
		if err := errors.Join(conn.Close(), <-read); err != nil {
			b.Fatal(err)
		}
	})
	b.Run("message-a-line", func(b *testing.B) {
		s := grpc.NewServer(grpc.Creds(credentials.NewTLS(server)))
		hodeipb.RegisterCoordinatorServer(s, lineServer{})
		address := serveGRPC(b, s)
		conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(client)))
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		stream, err := hodeipb.NewCoordinatorClient(conn).Attach(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(perOp)
		b.ReportAllocs()
		var offset uint64
		for b.Loop() {
			for range perOp / len(wireLine) {
				m := &hodeipb.FromAgent{Message: &hodeipb.FromAgent_Batch{Batch: &hodeipb.Batch{
					Offset: offset, Data: wireLine,
					Records: []*hodeipb.Record{{Stream: stdout, StreamOffset: offset, Length: uint32(len(wireLine)),
						TimeUnixNano: time.Now().UnixNano()}},
				}}}
				if err := stream.Send(m); err != nil {
					b.Fatal(err)
				}
				offset += uint64(len(wireLine))
			}
		}
		_ = stream.CloseSend()
		_, _ = stream.Recv() // all was taken
	})
	b.Run("agent", func(b *testing.B) {
		counted := &discarding{grown: make(chan struct{}, 1)}
		s := &coordinator.Server{TLS: server, Namespace: testID.Namespace, Job: testID.Job, Follower: counted}
		a := newAgent(Config{
			Namespace: testID.Namespace, Job: testID.Job, Attempt: "pod-1", AttemptUID: "uid-1",
			Server: serveAt(b, s, listen(b)), TLS: client, Log: slog.New(slog.DiscardHandler),
		})
		a.spool = testSpool(b, 64<<20)
		ctx, cancel := context.WithCancel(b.Context())
		var work sync.WaitGroup
		work.Go(func() { a.dialCoordinator(ctx) })
		defer func() { cancel(); work.Wait() }()
		data := bytes.Repeat(wireLine, perOp/len(wireLine))
		b.SetBytes(perOp)
		b.ReportAllocs()
		var sent uint64
		for b.Loop() {
			for rest := data; len(rest) > 0; {
				n := min(len(rest), readBytes)
				if err := a.spool.Append(ctx, stdout, time.Now(), rest[:n]); err != nil {
					b.Fatal(err)
				}
				rest = rest[n:]
			}
			sent += perOp
		}
		counted.until(b, sent)
	})
}

// lineServer takes messages and keeps nothing.
type lineServer struct {
	hodeipb.UnimplementedCoordinatorServer
}

func (lineServer) Attach(stream hodeipb.Coordinator_AttachServer) error {
	for {
		if _, err := stream.Recv(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

func serveGRPC(b *testing.B, s *grpc.Server) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	b.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			b.Error(err)
		}
	})
	return l.Addr().String()
}

// discarding is a Follower that counts.
type discarding struct {
	mu    sync.Mutex
	end   uint64
	grown chan struct{}
}

func (d *discarding) Attached(*hodeipb.Hello) (coordinator.Resume, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return coordinator.Resume{Offset: d.end}, nil
}
func (d *discarding) Metrics(string, *hodeipb.Metrics) {}

func (d *discarding) State(string, *hodeipb.State)             {}
func (d *discarding) Exited(string, *hodeipb.ExitRecord) error { return nil }
func (d *discarding) Output(_ context.Context, _ string, _ *hodeipb.Batch, data mem.BufferSlice) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.end += uint64(data.Len())
	select {
	case d.grown <- struct{}{}:
	default:
	}
	return nil
}

// until waits until everything below end has come.
func (d *discarding) until(b *testing.B, end uint64) {
	timeout := time.After(agenttest.Patience)
	for {
		d.mu.Lock()
		got := d.end
		d.mu.Unlock()
		if got >= end {
			return
		}
		select {
		case <-d.grown:
		case <-timeout:
			b.Fatalf("%d of %d bytes", got, end)
		}
	}
}
