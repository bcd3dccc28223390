// Package coordinator is the gRPC server that agents attach to: it checks who
// they are, takes their output in order, acknowledges what its [Follower] has
// stored, and passes orders on. Start with [Server], which follows one job, as
// hodei run does, or with [Hub], which keeps the output of many, as hodei server
// does. The package does not know how connections come about: both serve a
// net.Listener.
package coordinator

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hodei-jobs/hodei/internal/cork"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

const (
	// windowBytes is the stream's flow control window: through the API server's
	// tunnel 64 KiB give 20 MB/s, 4 MiB give 55 to 70. It bounds what one
	// attachment holds in memory when its Follower is slow.
	windowBytes = 4 << 20
	// sharedWindowBytes is that of a Hub: maxConns agents may wait for
	// one slow disk. They dial it, without the tunnel's delay, and on loopback a larger
	// one is no faster.
	sharedWindowBytes = 1 << 20
	// readBytes is the buffer of one connection: gRPC's 32 KiB would cut every
	// batch into three reads.
	readBytes = 256 << 10
	// handshakeWait bounds TLS and HTTP/2's preface.
	handshakeWait = 10 * time.Second
	// helloWait bounds the time to the first message.
	helloWait = 15 * time.Second
	// maxMessageBytes is a batch at its limits: its data, and records of at most
	// 40 bytes each.
	maxMessageBytes = hodeipb.MaxBatchBytes + 40*hodeipb.MaxBatchRecords + 1<<10
	// maxHeaderBytes is several times what a stream's headers take; gRPC's own bound is 16 MiB.
	maxHeaderBytes = 8 << 10
	// ackEvery is the least time between two acks. One for each batch would cost both
	// sides a system call and a wake-up each; nobody waits for one but the end of a
	// job, whose ack goes at once.
	ackEvery = 10 * time.Millisecond
	// closeWait bounds an agent's answer to the last ack.
	closeWait = 2 * time.Second
	// idleWait ends a connection without an attachment: an agent has no use for one.
	idleWait = time.Minute
)

// Follower takes what attempts send. Calls for one attempt come one after the
// other, those for two attempts may overlap.
type Follower interface {
	// Attached is told at every attachment and says where the output goes on. An
	// error refuses the attachment.
	Attached(hello *hodeipb.Hello) (Resume, error)
	// State tells a new state of an attempt.
	State(attempt string, state *hodeipb.State)
	// Metrics gets a sample, later than those before. The Follower may keep it. Metrics must
	// not block.
	Metrics(attempt string, m *hodeipb.Metrics)
	// Output has stored the batch when it returns nil; it continues where the one
	// before ended. The batch is its own; data, which is the batch's, decoded, is
	// valid during the call. ctx ends with the attachment.
	Output(ctx context.Context, attempt string, batch *hodeipb.Batch, data mem.BufferSlice) error
	// Exited has stored the record when it returns nil; no output comes after it.
	Exited(attempt string, record *hodeipb.ExitRecord) error
}

// Resume is where an attempt's output goes on.
type Resume struct {
	// Offset is where what is stored ends.
	Offset uint64
	// Transient tells that it is only looked at: what the Follower stores is not kept.
	Transient bool
	// MetricsAfter is the time of the latest sample that is known; zero: none is.
	MetricsAfter time.Time
}

// service is what a [Server] and a [Hub] have in common: it serves attachments. The zero value with
// its policy set is ready.
type service struct {
	policy policy

	hodeipb.UnimplementedCoordinatorServer

	once     sync.Once
	grpc     *grpc.Server
	panicked sync.Once

	conns conns
	// streams are what serves a stream beside its handler. It can be stuck in the stream, which ends
	// only with its handler: close waits for them, not the handler.
	streams sync.WaitGroup

	decoder *zstd.Decoder

	mu       sync.Mutex
	refused  Refused
	attempts map[attemptKey]*attempt
	cancel   *hodeipb.Cancel   // once ordered, for every attempt that attaches
	jobEnded map[string]string // how the job's container did, by the attempt's name
	serving  int               // attachments
	left     chan struct{}     // closed and replaced when one has ended
}

// policy is what a [Server] and a [Hub] differ in.
type policy interface {
	// settings returns what the user of the type has set, which may be set until it serves.
	settings() settings
	// admits says why the job of a hello is not followed here. Its certificate is checked
	// elsewhere.
	admits(hello *hodeipb.Hello) error
	// open returns the Follower of an attempt that attaches for the first time, with service.mu held. A
	// nil done means that the attempt is remembered as long as the service lives. Otherwise done
	// is called when its last attachment has ended, and the attempt is forgotten.
	open(hello *hodeipb.Hello) (f Follower, done func())
}

// settings are the fields that a [Server] or a [Hub] documents.
type settings struct {
	tls             *tls.Config
	silent          bool
	metricsInterval time.Duration
	newSamples      bool
	input           *Input     // nil: none is sent
	exec            *Execution // nil: jobs are followed
	handshake       func(err error)
	turnedAway      func(from net.Addr, err error)
	// window is the flow control window of a stream, in bytes.
	window int32
	// shared means that agents of several jobs attach, and one job gets only its share.
	shared bool
}

// sends reports whether more than acks and orders goes to agents.
func (s settings) sends() bool { return s.input != nil || s.exec != nil }

// serveListener takes connections from l until close, or until l fails.
func (s *service) serveListener(l net.Listener) error {
	err := s.server().Serve(&listener{Listener: l, service: s})
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}

// shutdown waits for the attachments to complete, or for ctx to end, and closes.
// It is not gRPC's graceful stop, which gives every connection a second to be
// closed by the other side: an attachment that is complete has said all.
func (s *service) shutdown(ctx context.Context) {
	defer s.close()
	for {
		s.mu.Lock()
		serving, left := s.serving, s.left
		s.mu.Unlock()
		if serving == 0 {
			return
		}
		select {
		case <-left:
		case <-ctx.Done():
			return
		}
	}
}

// close ends all attachments, waits for them, and makes serveListener return.
func (s *service) close() {
	s.conns.close() // gRPC would wait for the handshakes under way
	s.server().Stop()
	s.streams.Wait()
}

func (s *service) server() *grpc.Server {
	s.once.Do(func() {
		s.decoder = newDecoder()
		s.mu.Lock() // an order may come before the first connection
		s.attempts, s.left = map[attemptKey]*attempt{}, make(chan struct{})
		s.mu.Unlock()
		settings := s.policy.settings()
		writes := 32 << 10 // gRPC's own
		if settings.sends() {
			writes = cork.Bytes - cork.Bytes/16 // with what TLS adds, one cork
		}
		s.grpc = grpc.NewServer(
			grpc.WriteBufferSize(writes),
			grpc.Creds(&handshaker{TransportCredentials: credentials.NewTLS(settings.tls), service: s}),
			grpc.ConnectionTimeout(handshakeWait),
			grpc.InitialWindowSize(settings.window),
			grpc.InitialConnWindowSize(2*settings.window),
			grpc.ReadBufferSize(readBytes),
			grpc.MaxConcurrentStreams(4), // an agent needs one
			grpc.MaxRecvMsgSize(maxMessageBytes),
			grpc.MaxHeaderListSize(maxHeaderBytes),
			grpc.StreamInterceptor(s.recovers),
			grpc.ForceServerCodecV2(codec{}),
			grpc.KeepaliveParams(keepalive.ServerParameters{
				Time: hodeipb.KeepaliveTime, Timeout: hodeipb.KeepaliveTimeout, MaxConnectionIdle: idleWait,
			}),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: hodeipb.KeepaliveTime / 2, PermitWithoutStream: true}),
			grpc.WaitForHandlers(true),
		)
		hodeipb.RegisterCoordinatorServer(s.grpc, s)
	})
	return s.grpc
}

// Attach serves one attachment.
func (s *service) Attach(stream hodeipb.Coordinator_AttachServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	if s.policy.settings().exec != nil {
		return status.Error(codes.Unimplemented, "here a command is run beside the job's, and nobody follows the job")
	}
	messages := s.receive(ctx, stream)

	hello, err := s.awaitHello(ctx, messages)
	if err != nil {
		s.refuse(ctx, err)
		return err
	}
	a, orders, leave, err := s.enter(ctx, hello, cancel)
	if err != nil {
		s.refuse(ctx, err)
		return err
	}
	defer leave()
	select { // the attachment before this one has been told to end
	case a.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-a.turn }()

	settings := s.policy.settings()
	resume, err := a.follower.Attached(hello)
	if err != nil {
		return status.Errorf(codes.ResourceExhausted, "store output: %v", err)
	}
	a.stored = resume.Offset
	if resume.MetricsAfter.After(a.sampled) { // a Follower keeps not all that it was told
		a.sampled = resume.MetricsAfter
	}
	if settings.newSamples && a.sampled.IsZero() && hello.LastSample.IsValid() {
		a.sampled = hello.LastSample.AsTime()
	}
	a.follower.State(hello.Attempt, hello.State)
	welcome := &hodeipb.Welcome{Offset: a.stored, Output: !settings.silent, Transient: resume.Transient,
		Encodings: []hodeipb.Encoding{hodeipb.Encoding_ZSTD}}
	if settings.metricsInterval > 0 {
		welcome.MetricsInterval = durationpb.New(settings.metricsInterval)
		if !a.sampled.IsZero() {
			welcome.MetricsAfter = timestamppb.New(a.sampled)
		}
	}
	a.inputTurn = -1
	if in := settings.input; in != nil && hello.Stdin && in.begin(hello.Attempt) {
		a.inputTurn, welcome.Client, welcome.Input = 0, in.id, true
		if hello.Tty {
			welcome.TerminalSize = in.firstSize()
		}
	}
	if err := stream.Send(&hodeipb.ToAgent{Message: &hodeipb.ToAgent_Welcome{Welcome: welcome}}); err != nil {
		return err
	}
	out := &outbox{stream: stream, acks: make(chan struct{}, 1)}
	// By itself: an order must reach the agent also while the Follower is stuck.
	s.streams.Go(func() { out.passOn(ctx, orders) })
	s.streams.Go(func() { out.sendAcks(ctx) })
	err = s.serve(ctx, out, messages, a, hello)
	if status.Code(err) == codes.InvalidArgument {
		s.refuse(ctx, err)
	}
	return err
}

// received is one message or the error that ended the stream.
type received struct {
	envelope *hodeipb.Envelope
	err      error
}

// receive reads the stream so that a handler can wait for other things too, and checks
// every message. It ends with the stream.
func (s *service) receive(ctx context.Context, stream hodeipb.Coordinator_AttachServer) <-chan received {
	c := make(chan received)
	s.streams.Go(func() {
		for {
			e := &hodeipb.Envelope{}
			err := s.next(ctx, stream, e)
			select {
			case c <- received{e, err}:
			case <-ctx.Done():
				e.Free()
				return
			}
			if err != nil {
				return
			}
		}
	})
	return c
}

// next reads one message.
func (s *service) next(ctx context.Context, stream hodeipb.Coordinator_AttachServer, e *hodeipb.Envelope) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = s.caught(ctx, v)
		}
	}()
	in := &inbound{Envelope: e}
	if err := stream.RecvMsg(in); err != nil {
		if status.Code(err) == codes.ResourceExhausted { // gRPC has ended the stream, too early for refuse
			s.fault(ctx, &Fault{Message: fmt.Sprintf("a message of more than %d bytes", maxMessageBytes)})
		}
		return err
	}
	if in.refused != nil {
		return status.Error(codes.InvalidArgument, in.refused.Error())
	}
	return checkMessage(e.Message)
}

// inbound is a message that may not have been decoded.
type inbound struct {
	*hodeipb.Envelope
	refused error
}

// codec decodes what comes. gRPC would end a stream whose messages are refused in its own
// words, and before anybody is told.
type codec struct{ hodeipb.Codec }

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	in, ok := v.(*inbound)
	if !ok {
		if n := data.Len(); n > hodeipb.MaxExecMessageBytes {
			return fmt.Errorf("a message of %d bytes, more than %d", n, hodeipb.MaxExecMessageBytes)
		}
		return c.Codec.Unmarshal(data, v)
	}
	in.refused = c.Codec.Unmarshal(data, in.Envelope)
	return nil
}

func (s *service) awaitHello(ctx context.Context, messages <-chan received) (*hodeipb.Hello, error) {
	timeout := time.NewTimer(helloWait)
	defer timeout.Stop()
	var hello *hodeipb.Hello
	select {
	case r := <-messages:
		if r.err != nil {
			return nil, r.err
		}
		r.envelope.Free()
		hello = r.envelope.Message.GetHello()
	case <-timeout.C:
		return nil, status.Errorf(codes.DeadlineExceeded, "no hello within %s", helloWait)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if hello == nil {
		return nil, status.Error(codes.InvalidArgument, "the first message is not a hello")
	}
	return hello, s.authorize(ctx, hello)
}

// authorize compares the job in the certificate with the one that the agent
// says it is, after the policy has admitted that.
func (s *service) authorize(ctx context.Context, hello *hodeipb.Hello) error {
	if err := s.policy.admits(hello); err != nil {
		return err
	}
	p, ok := peer.FromContext(ctx)
	if !ok {
		return status.Error(codes.Unauthenticated, "no peer")
	}
	info, ok := p.AuthInfo.(agentInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return status.Error(codes.Unauthenticated, "no verified certificate")
	}
	want := contract.JobURI(hello.Namespace, hello.Job)
	uris := info.State.PeerCertificates[0].URIs
	if len(uris) != 1 || uris[0].String() != want {
		return status.Errorf(codes.PermissionDenied, "the certificate was issued for another job than %s/%s", hello.Namespace, hello.Job)
	}
	if d := dialled(info.raw); d != nil {
		name, uid := d.Attempt()
		if hello.Attempt != name || uid != "" && hello.AttemptUid != uid {
			return status.Errorf(codes.InvalidArgument, "attempt %s was dialled, but its agent says it is %s, %s",
				name, hello.Attempt, hello.AttemptUid)
		}
	}
	return nil
}

// serve takes messages until the exit record is stored.
func (s *service) serve(ctx context.Context, out *outbox, messages <-chan received, a *attempt, hello *hodeipb.Hello) error {
	a.states = newStates(hello.State)
	for {
		select {
		case <-a.states.due:
			a.tellState(hello.Attempt)
		case r := <-messages:
			if r.err != nil {
				return r.err
			}
			ack, err := s.take(ctx, r.envelope, a, hello)
			if m := r.envelope.Message.GetInputAck(); m != nil && err == nil {
				err = s.inputAcked(ctx, m, a, out)
			}
			r.envelope.Free()
			if err != nil {
				return err
			}
			switch {
			case ack == nil:
			case ack.Exit:
				if err := out.send(&hodeipb.ToAgent{Message: &hodeipb.ToAgent_Ack{Ack: ack}}); err != nil {
					return err
				}
				return awaitEnd(ctx, messages)
			default:
				out.ack(ack.Offset)
			}
		case <-ctx.Done():
			return status.Error(codes.Aborted, "another attachment of the same attempt has come")
		}
	}
}

// inputAcked takes what an agent says of the input. The first time on a connection the agent says
// from where it wants it.
func (s *service) inputAcked(ctx context.Context, ack *hodeipb.InputAck, a *attempt, out *outbox) error {
	in := s.policy.settings().input
	if in == nil || a.inputTurn < 0 {
		return status.Error(codes.InvalidArgument, "an ack of input that was not sent")
	}
	first := a.inputTurn == 0
	turn, err := in.acked(ack, a.inputTurn)
	if err != nil {
		return err
	}
	if a.inputTurn = turn; first && turn > 0 {
		s.streams.Go(func() { in.send(ctx, turn, out.send) })
	}
	return nil
}

// take hands one message to the Follower and returns what is to be
// acknowledged, if anything.
func (s *service) take(ctx context.Context, e *hodeipb.Envelope, a *attempt, hello *hodeipb.Hello) (*hodeipb.Ack, error) {
	switch m := e.Message.Message.(type) {
	case *hodeipb.FromAgent_Batch:
		if err := s.output(ctx, e, a, hello); err != nil {
			return nil, err
		}
		return &hodeipb.Ack{Offset: a.stored}, nil
	case *hodeipb.FromAgent_State:
		if a.states.take(m.State) {
			a.tellState(hello.Attempt)
		}
		return nil, nil
	case *hodeipb.FromAgent_Metrics:
		if at := m.Metrics.Time.AsTime(); at.After(a.sampled) {
			a.sampled = at
			a.follower.Metrics(hello.Attempt, m.Metrics)
		}
		return nil, nil
	case *hodeipb.FromAgent_InputAck:
		return nil, nil // see serve
	case *hodeipb.FromAgent_Exit:
		if !s.policy.settings().silent && m.Exit.End != a.stored {
			return nil, status.Errorf(codes.FailedPrecondition, "exit record at offset %d, expected %d", m.Exit.End, a.stored)
		}
		a.tellState(hello.Attempt) // the last one
		if !a.exited {
			if err := a.follower.Exited(hello.Attempt, m.Exit); err != nil {
				return nil, status.Errorf(codes.ResourceExhausted, "store exit record: %v", err)
			}
			a.exited = true
		}
		return &hodeipb.Ack{Offset: a.stored, Exit: true}, nil
	}
	return nil, status.Errorf(codes.InvalidArgument, "unexpected message %T", e.Message.Message)
}

// awaitEnd waits until the agent has closed its side: then it has the last ack.
func awaitEnd(ctx context.Context, messages <-chan received) error {
	timeout := time.NewTimer(closeWait)
	defer timeout.Stop()
	select {
	case r := <-messages:
		if errors.Is(r.err, io.EOF) {
			return nil
		}
		return r.err
	case <-timeout.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
