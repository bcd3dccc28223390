package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/hodei-jobs/hodei/agent/spool"
	"github.com/hodei-jobs/hodei/internal/cork"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

const (
	// flushAfter and spool.BatchBytes bound a batch. A line waits 20 ms at most, after a
	// pause a tenth of that: 50 messages a second, however many lines.
	flushAfter = 20 * time.Millisecond
	// terminalFlush is flushAfter of a terminal: somebody waits for the echo of each key.
	terminalFlush = time.Millisecond
	// welcomeWait bounds how long a coordinator may keep us waiting before it
	// says what it wants.
	welcomeWait = 15 * time.Second
	// maxAttachments bounds the memory of those that proved who they are: each may
	// hold up to a MiB that it is sending.
	maxAttachments = 8
	// inputReadWindow is gRPC's flow control window for input. What comes is taken at once, so it holds what is on its
	// way: 100 MB/s at 5 ms.
	inputReadWindow = 1 << 20
	// inputReadBytes is the buffer of a connection over which input comes: gRPC's 32 KiB would cut each message in pieces.
	inputReadBytes = 256 << 10
	// closeWait bounds the coordinator's answer to our end of the stream.
	closeWait = 2 * time.Second
	// handshakeWait and maxStrangers bound what an unauthenticated peer can
	// hold: the job itself reaches our loopback port.
	handshakeWait = 5 * time.Second
	// acceptPause keeps a listener that fails from turning in circles.
	acceptPause  = 100 * time.Millisecond
	maxStrangers = 16
)

// acceptCoordinators serves l until ctx ends: every connection that proves to
// be a coordinator's gets an attachment of its own.
func (a *agent) acceptCoordinators(ctx context.Context, l net.Listener) {
	var work sync.WaitGroup
	defer work.Wait()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	strangers := &strangers{}
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return
		}
		if err != nil { // the node is out of descriptors, for instance
			a.Log.Warn("accept a coordinator", "error", err)
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}
		strangers.add(conn)
		work.Go(func() {
			defer conn.Close()
			defer strangers.remove(conn)
			a.serveConn(ctx, conn, func() { strangers.remove(conn) })
		})
	}
}

// dialCoordinator keeps one attachment to the configured server until ctx ends.
func (a *agent) dialCoordinator(ctx context.Context) {
	const first, last = 100 * time.Millisecond, 15 * time.Second
	backoff := first
	for ctx.Err() == nil {
		dialer := net.Dialer{Timeout: handshakeWait}
		conn, err := dialer.DialContext(ctx, "tcp", a.Server)
		if err == nil {
			if a.serveConn(ctx, conn, func() {}) {
				backoff = first
			}
			conn.Close()
		} else if ctx.Err() == nil {
			a.Log.Warn("coordinator not reached", "error", err)
		}
		a.mu.Lock()
		over := a.stored
		a.mu.Unlock()
		if over {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff/2 + rand.N(backoff)):
		}
		backoff = min(2*backoff, last)
	}
}

// serveConn runs one attachment over conn and says whether we were welcome;
// known is called when the other side has proved who it is.
func (a *agent) serveConn(ctx context.Context, conn net.Conn, known func()) (welcome bool) {
	// The connection is one: when it is gone, so is the attachment.
	once := make(chan net.Conn, 1)
	once <- conn
	shaken := &handshake{TransportCredentials: credentials.NewTLS(a.TLS), known: known, over: make(chan struct{})}
	if !a.Exec {
		shaken.refused = contract.JobExecURI(a.Namespace, a.Job)
	}
	client, err := grpc.NewClient("passthrough:///"+a.TLS.ServerName, append(a.receiving(),
		grpc.WithTransportCredentials(shaken),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			select {
			case c := <-once:
				return c, nil
			default:
				return nil, net.ErrClosed
			}
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: hodeipb.KeepaliveTime, Timeout: hodeipb.KeepaliveTimeout}),
		grpc.WithIdleTimeout(0),
		grpc.WithWriteBufferSize(cork.Bytes-cork.Bytes/16), // with what TLS adds, one cork
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(hodeipb.Codec{})),
	)...)
	if err != nil {
		a.Log.Error("make gRPC client", "error", err)
		return false
	}
	defer client.Close()
	if a.mayExec(ctx, client, shaken) {
		welcome, err = a.serveExec(ctx, client)
		if welcome {
			a.Log.Info("a command beside the job's has ended", "peer", conn.RemoteAddr().String(), "error", err)
		}
		return welcome
	}
	t := &attachment{agent: a}
	err = t.run(ctx, client)
	switch {
	case !t.welcome: // the job itself reaches the port, and could fill the log
		a.Log.Debug("no coordinator", "peer", conn.RemoteAddr().String(), "error", err)
	case ctx.Err() == nil || err == nil:
		a.Log.Info("attachment ended", "peer", conn.RemoteAddr().String(), "error", err,
			"batches", t.batches, "bytes", t.bytes, "flush_full", t.full, "flush_timer", t.batches-t.full,
			"compressed", t.compressed, "wire_bytes", t.wire, "samples", t.samplesSent)
	}
	return t.welcome
}

// receiving makes room on a connection for the job's input. Without input only acks and orders come.
func (a *agent) receiving() []grpc.DialOption {
	if a.input == nil {
		return nil
	}
	// The connection's own window is 64 KiB if nobody says otherwise: 16 MB/s through the API server's tunnel.
	return []grpc.DialOption{
		grpc.WithStaticStreamWindowSize(inputReadWindow), grpc.WithStaticConnWindowSize(inputReadWindow),
		grpc.WithReadBufferSize(inputReadBytes),
	}
}

// handshake bounds TLS in time, tells when it is done, and corks what it writes.
type handshake struct {
	credentials.TransportCredentials
	known func()
	// over is closed when the handshake has ended. peer is the URI of the coordinator's certificate then; empty: it
	// failed, or there is not one.
	over chan struct{}
	peer string
	// refused is the URI of a coordinator that is not met; empty: there is none.
	refused string
}

func (h *handshake) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeWait)
	defer cancel()
	below := cork.New(conn)
	defer close(h.over) // there is one connection
	secure, info, err := h.TransportCredentials.ClientHandshake(ctx, authority, below)
	if err != nil {
		return nil, nil, err
	}
	h.known()
	if t, ok := info.(credentials.TLSInfo); ok && len(t.State.PeerCertificates[0].URIs) == 1 {
		h.peer = t.State.PeerCertificates[0].URIs[0].String()
	}
	if h.peer != "" && h.peer == h.refused {
		secure.Close()
		return nil, nil, errors.New("it wants to run a command beside the job's, which the job does not allow")
	}
	return below.Over(secure), info, nil
}

func (h *handshake) Clone() credentials.TransportCredentials {
	c := *h
	c.TransportCredentials = h.TransportCredentials.Clone()
	return &c
}

// strangers are connections whose other side has not proved who it is. The
// oldest is dropped for one too many.
type strangers struct {
	mu    sync.Mutex
	conns []net.Conn
}

func (s *strangers) add(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) == maxStrangers {
		s.conns[0].Close()
		s.conns = append(s.conns[:0], s.conns[1:]...)
	}
	s.conns = append(s.conns, c)
}

func (s *strangers) remove(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.conns {
		if s.conns[i] == c {
			s.conns = append(s.conns[:i], s.conns[i+1:]...)
			return
		}
	}
}

// attachment is one coordinator's stream.
type attachment struct {
	*agent
	stream hodeipb.Coordinator_AttachClient
	// client is who the coordinator says it is.
	client string
	// owner: the coordinator owns the input.
	owner  bool
	owning uint64 // see input.claim
	// welcome: the coordinator has let us in.
	welcome bool

	mu   sync.Mutex // of sending: a gRPC stream takes one sender at a time
	sent *hodeipb.State

	acked uint64 // by the receiving goroutine alone, until it has ended
	// Of the output goroutine: what was sent, and how much of it was compressed.
	batches, full, bytes uint64
	compressed           uint64 // batches
	wire                 uint64 // bytes
	// samplesSent is the metrics goroutine's.
	samplesSent uint64

	choosing sync.Mutex
	chooser  chooser
	end      uint64 // of what was sent
}

func (t *attachment) run(ctx context.Context, client *grpc.ClientConn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	welcomed := time.AfterFunc(welcomeWait, cancel)
	defer welcomed.Stop()
	var err error
	if t.stream, err = hodeipb.NewCoordinatorClient(client).Attach(ctx); err != nil {
		return err
	}
	// It has proved who it is: the job itself must not take the places.
	if !t.enter() {
		return fmt.Errorf("%d coordinators are attached already", maxAttachments)
	}
	followers := 0
	defer func() {
		t.update(func() {
			t.attached, t.followers = t.attached-1, t.followers-followers
			if followers > 0 {
				t.left = time.Now()
			}
		})
	}()
	welcome, err := t.sayHello()
	if err != nil {
		return err
	}
	if !welcomed.Stop() {
		return fmt.Errorf("no welcome within %s", welcomeWait)
	}
	t.welcome = true
	if welcome.Output && !welcome.Transient {
		followers = 1
		t.update(func() { t.followers++ })
	}

	refused := ""
	if welcome.Input {
		t.client = welcome.Client
		t.owning, refused = t.input.claim(t.client)
		if t.owner = refused == ""; t.owner {
			defer t.input.release(t.owning)
		}
		if welcome.TerminalSize != nil && t.owner {
			if err := t.input.resize(welcome.TerminalSize); err != nil {
				return err
			}
		}
	}

	received := make(chan error, 1)
	go func() {
		err := t.receive(welcome)
		if err != nil {
			cancel() // what is being sent has nobody to go to
		}
		received <- err
	}()
	inputAcks := make(chan error, 1)
	go func() { inputAcks <- t.sendInputAcks(ctx, welcome, refused) }()
	states, samples := make(chan error, 1), make(chan error, 1)
	go func() { states <- t.sendStates(ctx) }()
	go func() { samples <- t.sendMetrics(ctx, welcome) }()
	if welcome.Output {
		err = t.sendBatches(ctx, welcome)
	}
	err = errors.Join(err, <-inputAcks)
	err = errors.Join(err, <-samples) // the last one comes before the exit record
	if err == nil {
		err = t.sendExit(ctx)
	}
	err = errors.Join(err, <-states)
	if received := <-received; received != nil {
		return received // the coordinator's reason, not our broken pipe
	}
	if err != nil {
		return err
	}
	return t.close(cancel)
}

// enter counts the attachment, unless there are too many.
func (t *attachment) enter() (ok bool) {
	t.update(func() {
		if ok = t.attached < maxAttachments; ok {
			t.attached++
		}
	})
	return ok
}

// close ends an attachment that is complete, so that the coordinator knows that
// its last ack has arrived.
func (t *attachment) close(cancel func()) error {
	defer time.AfterFunc(closeWait, cancel).Stop()
	if err := t.stream.CloseSend(); err != nil {
		return err
	}
	for { // input may be on its way
		if _, err := t.stream.Recv(); err != nil {
			return nil // how it ends does not matter any more
		}
	}
}

// hello says who we are, and what the spool holds.
func (a *agent) hello() *hodeipb.Hello {
	first, end := a.spool.Extent()
	a.mu.Lock()
	state := a.state
	a.mu.Unlock()
	return &hodeipb.Hello{
		Protocol: hodeipb.Protocol, Namespace: a.Namespace, Job: a.Job,
		Attempt: a.Attempt, AttemptUid: a.AttemptUID, AgentVersion: a.Version,
		Extent: &hodeipb.Extent{First: first, End: end, Marks: a.spool.Marks(hodeipb.MaxMarks)}, State: state,
		LastSample: a.samples.Latest().GetTime(), Stdin: a.Stdin, Tty: a.TTY,
	}
}

// sayHello opens the stream and returns what the coordinator wants.
func (t *attachment) sayHello() (*hodeipb.Welcome, error) {
	hello := t.hello()
	t.sent = hello.State
	if err := t.stream.Send(&hodeipb.FromAgent{Message: &hodeipb.FromAgent_Hello{Hello: hello}}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	answer, err := t.stream.Recv()
	if err != nil {
		return nil, err
	}
	welcome := answer.GetWelcome()
	if welcome == nil {
		return nil, errors.New("the first message is not a welcome")
	}
	if _, end := t.spool.Extent(); welcome.Offset > end {
		return nil, fmt.Errorf("the coordinator wants output from %d, there are %d bytes", welcome.Offset, end)
	}
	return welcome, nil
}

// receive handles acks and orders until the coordinator has stored the exit
// record (nil) or the stream breaks.
func (t *attachment) receive(welcome *hodeipb.Welcome) error {
	for {
		m, err := t.stream.Recv()
		if err != nil {
			return err
		}
		switch m := m.Message.(type) {
		case *hodeipb.ToAgent_Ack:
			if _, end := t.spool.Extent(); m.Ack.Offset > end || m.Ack.Offset < t.acked {
				return fmt.Errorf("ack of %d after %d, there are %d bytes", m.Ack.Offset, t.acked, end)
			}
			if welcome.Output && m.Ack.Offset > t.acked {
				if !welcome.Transient {
					t.spool.Stored(m.Ack.Offset)
				}
				t.acks.Add(1)
				t.choosing.Lock()
				t.chooser.acked(m.Ack.Offset, t.end, time.Now())
				t.choosing.Unlock()
			}
			t.acked = m.Ack.Offset
			if m.Ack.Exit {
				return t.exitStored(welcome)
			}
		case *hodeipb.ToAgent_Input:
			err = t.ofOwner(func() error { return t.input.take(m.Input) })
		case *hodeipb.ToAgent_TerminalSize:
			err = t.ofOwner(func() error { return t.input.resize(m.TerminalSize) })
		case *hodeipb.ToAgent_Control:
			err = t.order(m.Control)
		}
		if err != nil {
			return err
		}
	}
}

// ofOwner takes what only the owner of the input may send. What it has sent before it left comes to nothing.
func (t *attachment) ofOwner(take func() error) error {
	switch {
	case !t.owner:
		return errors.New("input, or a terminal's size, from a coordinator that does not own the input")
	case !t.input.owns(t.owning):
		return nil
	}
	return take()
}

// order takes an order, or hands it on to who acts.
func (t *attachment) order(c *hodeipb.Control) error {
	if own, err := t.ownInput(c); own {
		return err
	}
	select {
	case t.orders <- c:
	default: // nobody takes orders any more, or 16 are waiting
		t.Log.Warn("order dropped", "order", c.String())
	}
	return nil
}

// ownInput takes the orders that are about the input alone, and tells whether c is one. An owner that
// leaves a terminal is answered, so that it knows that the command goes on.
func (t *attachment) ownInput(c *hodeipb.Control) (own bool, err error) {
	switch o := c.Order.(type) {
	case *hodeipb.Control_Release:
		select {
		case t.releases <- struct{}{}:
		default: // the start goes on already
		}
	case *hodeipb.Control_LeaveInput:
		if t.input == nil || t.owner && !t.input.owns(t.owning) {
			return true, nil
		}
		t.input.giveUp(t.client, o.LeaveInput.Message)
		if t.TTY && t.owner {
			return true, t.sendInputAck(&hodeipb.InputAck{Offset: t.input.offset(), Done: true})
		}
	default:
		return false, nil
	}
	return true, nil
}

func (t *attachment) sendInputAck(ack *hodeipb.InputAck) error {
	return t.send(&hodeipb.Envelope{Message: &hodeipb.FromAgent{Message: &hodeipb.FromAgent_InputAck{InputAck: ack}}})
}

// sendInputAcks answers a coordinator that wants to send the input, and then acknowledges what it
// sends. refused is why it does not own the input.
func (t *attachment) sendInputAcks(ctx context.Context, welcome *hodeipb.Welcome, refused string) error {
	switch {
	case !welcome.Input:
		return nil
	case refused != "":
		return t.sendInputAck(&hodeipb.InputAck{Refused: refused})
	}
	return t.input.sendAcks(ctx, t.sendInputAck)
}

// exitStored takes the coordinator's word that it has the exit record.
func (t *attachment) exitStored(welcome *hodeipb.Welcome) error {
	_, end := t.spool.Extent()
	sent := false
	t.update(func() {
		sent = t.exit != nil
		if welcome.Output && !welcome.Transient && sent && t.acked == end && !t.stored {
			t.stored, t.storedAt = true, time.Now()
		}
	})
	if !sent {
		return errors.New("ack of an exit record that was not sent")
	}
	return nil
}

// sendExit sends the exit record once there is one: the last message.
func (t *attachment) sendExit(ctx context.Context) error {
	for {
		t.agent.mu.Lock()
		exit, changed := t.exit, t.changed
		t.agent.mu.Unlock()
		if exit != nil {
			return t.send(&hodeipb.Envelope{Message: &hodeipb.FromAgent{Message: &hodeipb.FromAgent_Exit{Exit: exit}}})
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sendBatches sends the spool to its end.
func (t *attachment) sendBatches(ctx context.Context, welcome *hodeipb.Welcome) error {
	r := t.spool.Reader(welcome.Offset)
	zstd := slices.Contains(welcome.Encodings, hodeipb.Encoding_ZSTD)
	flush := flushAfter
	if t.TTY {
		flush = terminalFlush
	}
	for {
		batch, data, err := r.Next(ctx, spool.BatchBytes, flush)
		if err == io.EOF { //nolint:errorlint // a wrapped one is that of a file cut short
			return nil
		}
		if err != nil {
			return err
		}
		raw := data.Len()
		t.choosing.Lock()
		compress := t.chooser.zstd && zstd
		t.choosing.Unlock()
		if compress {
			if data, compress = t.compressor().compress(data); compress {
				batch.Encoding = hodeipb.Encoding_ZSTD
				t.compressed++
			}
		}
		wire := data.Len()
		message := &hodeipb.FromAgent{Message: &hodeipb.FromAgent_Batch{Batch: batch}}
		if err := t.send(&hodeipb.Envelope{Message: message, Data: data}); err != nil {
			return err
		}
		t.batches++
		t.bytes, t.wire = t.bytes+uint64(raw), t.wire+uint64(wire)
		if raw >= spool.BatchBytes {
			t.full++
		}
		t.choosing.Lock()
		t.end = r.Offset()
		t.chooser.sent(r.Offset(), raw, wire, raw < spool.BatchBytes && !r.Behind(), time.Now())
		t.choosing.Unlock()
	}
}

// sendStates sends every new state until the attempt has ended.
func (t *attachment) sendStates(ctx context.Context) error {
	for {
		t.agent.mu.Lock()
		changed, ended := t.changed, t.exit != nil
		t.agent.mu.Unlock()
		if ended { // the exit record brings the last one along
			return nil
		}
		if err := t.send(nil); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// send sends a message, and the state before it if that is new: a coordinator
// hears that the command started before it hears its output. A nil message
// sends the state alone.
func (t *attachment) send(m *hodeipb.Envelope) error {
	if m != nil {
		defer m.Free() // what could not be sent
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.agent.mu.Lock()
	state := t.state
	t.agent.mu.Unlock()
	if state != t.sent {
		if err := t.stream.Send(&hodeipb.FromAgent{Message: &hodeipb.FromAgent_State{State: state}}); err != nil {
			return err
		}
		t.sent = state
	}
	if m == nil {
		return nil
	}
	// The message is encoded when this returns, its data are gRPC's: the records
	// may be used again.
	return t.stream.SendMsg(m)
}
