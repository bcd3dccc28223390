package forward

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	client "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
	"github.com/hodei-jobs/hodei/pkg/provider/tunnel"
)

// patience bounds what a test waits for that is due at once.
const patience = 10 * time.Second

// apiServer is as much of an API server as a port-forward needs. Its fields say
// how it answers the two kinds of upgrade; nil: it serves them to agent.
type apiServer struct {
	websocket, spdy http.HandlerFunc
	// agent is at the other end of the data stream; it may refuse on the other.
	agent func(data, problems httpstream.Stream)
	// allowed answers "may I VERB pods/portforward?".
	allowed func(verb string) bool

	mu    sync.Mutex
	asked []string
	conns []httpstream.Connection
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	switch r.URL.Path {
	case "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews":
		review := authorizationv1.SelfSubjectAccessReview{}
		json.Unmarshal(body, &review)
		a := review.Spec.ResourceAttributes
		review.Status.Allowed = a.Namespace == "ns" && a.Resource == "pods" && a.Subresource == "portforward" && s.allowed(a.Verb)
		respond(w, http.StatusCreated, review)
		return
	case "/apis/authentication.k8s.io/v1/selfsubjectreviews":
		respond(w, http.StatusCreated,
			authenticationv1.SelfSubjectReview{Status: authenticationv1.SelfSubjectReviewStatus{
				UserInfo: authenticationv1.UserInfo{Username: "dev"},
			}})
		return
	case "/api/v1/namespaces/ns/pods/x-1/portforward":
	default:
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, r.URL.Path)
		return
	}
	kind, answer, serve := "spdy", s.spdy, s.serveSPDY
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		kind, answer, serve = "websocket", s.websocket, s.serveWebSocket
	}
	s.mu.Lock()
	s.asked = append(s.asked, kind)
	s.mu.Unlock()
	if answer == nil {
		answer = serve
	}
	answer(w, r)
}

// requests are the kinds of upgrade asked for so far.
func (s *apiServer) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

func respond(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(v)
}

// refuse answers as the API server does.
func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	respond(w, code, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message})
}

func forbids(verb string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, 403, metav1.StatusReasonForbidden,
			fmt.Sprintf(`pods "x-1" is forbidden: User "dev" cannot %s resource "pods/portforward" in API group "" in the namespace "ns"`,
				verb))
	}
}

// notYet is the answer of a kubelet that has not started the Pod.
func notYet(w http.ResponseWriter, _ *http.Request) {
	refuse(w, 500, metav1.StatusReasonInternalError, `error forwarding port: container not found ("agent")`)
}

// hang answers when the client has gone.
func hang(gone chan<- struct{}) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		gone <- struct{}{}
	}
}

func (s *apiServer) serveSPDY(w http.ResponseWriter, r *http.Request) {
	if _, err := httpstream.Handshake(r, w, []string{portForwardProtocol}); err != nil {
		return
	}
	if c := spdy.NewResponseUpgrader().UpgradeResponse(w, r, s.accept()); c != nil {
		s.keep(c)
	}
}

func (s *apiServer) keep(c httpstream.Connection) {
	s.mu.Lock()
	s.conns = append(s.conns, c)
	s.mu.Unlock()
	<-c.CloseChan()
}

// accept pairs the two streams of a port.
func (s *apiServer) accept() httpstream.NewStreamHandler {
	var problems httpstream.Stream
	return func(stream httpstream.Stream, replied <-chan struct{}) error {
		h := stream.Headers()
		if h.Get(corev1.PortHeader) != fmt.Sprint(manifest.AgentPort) || h.Get(corev1.PortForwardRequestIDHeader) == "" {
			return fmt.Errorf("headers %v", h)
		}
		if h.Get(corev1.StreamType) == corev1.StreamTypeError {
			problems = stream
			return nil
		}
		to := problems
		go func() {
			<-replied
			s.agent(stream, to)
		}()
		return nil
	}
}

// serveWebSocket speaks SPDY in WebSocket messages (RFC 6455), as API servers do
// since 1.31.
func (s *apiServer) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	const protocol = "SPDY/3.1+" + portForwardProtocol
	if r.Header.Get("Sec-WebSocket-Protocol") != protocol {
		http.Error(w, "unknown protocol", http.StatusBadRequest)
		return
	}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	conn, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(conn,
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "+
			"%s\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]), protocol)
	c, err := spdy.NewServerConnection(&webSocket{Conn: conn, r: buffered.Reader}, s.accept())
	if err != nil {
		conn.Close()
		return
	}
	s.keep(c)
}

// webSocket is the server's end of a WebSocket as a stream of bytes. It makes a
// message of each Write.
type webSocket struct {
	net.Conn
	r    *bufio.Reader
	left uint64
	mask [4]byte
	at   int
}

func (c *webSocket) Read(p []byte) (int, error) {
	for c.left == 0 {
		head := make([]byte, 2)
		if _, err := io.ReadFull(c.r, head); err != nil {
			return 0, err
		}
		if head[0]&0xf == 8 { // close
			return 0, io.EOF
		}
		switch n := head[1] & 0x7f; n {
		case 126:
			var size uint16
			binary.Read(c.r, binary.BigEndian, &size)
			c.left = uint64(size)
		case 127:
			binary.Read(c.r, binary.BigEndian, &c.left)
		default:
			c.left = uint64(n)
		}
		if _, err := io.ReadFull(c.r, c.mask[:]); err != nil {
			return 0, err
		}
		c.at = 0
	}
	n, err := c.r.Read(p[:min(uint64(len(p)), c.left)])
	for i := range p[:n] {
		p[i] ^= c.mask[c.at%4]
		c.at++
	}
	c.left -= uint64(n)
	return n, err
}

func (c *webSocket) Write(p []byte) (int, error) {
	head := []byte{0x82, 127}
	head = binary.BigEndian.AppendUint64(head, uint64(len(p)))
	if _, err := c.Conn.Write(append(head, p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// echo greets, as an agent does with its TLS ClientHello, and repeats what it reads.
func echo(data, _ httpstream.Stream) {
	if _, err := io.WriteString(data, "hello"); err == nil {
		io.Copy(data, data)
	}
}

// start serves s over TLS and returns a dialer to it.
func (s *apiServer) start(t *testing.T) *Dialer {
	t.Helper()
	if s.agent == nil {
		s.agent = echo
	}
	server := httptest.NewUnstartedServer(s)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // its clients hang up on purpose
	server.StartTLS()
	t.Cleanup(func() {
		s.mu.Lock()
		for _, c := range s.conns {
			c.Close()
		}
		s.mu.Unlock()
		server.Close()
	})
	return dialerTo(t, &rest.Config{Host: server.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"},
		TLSClientConfig: rest.TLSClientConfig{
			CAData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})}})
}

func dialerTo(t *testing.T, config *rest.Config) *Dialer {
	t.Helper()
	c, err := client.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return &Dialer{Config: config, Client: c}
}

// dial makes one try, which is given d.
func try(t *testing.T, d *Dialer, wait time.Duration) (net.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	conn, err := d.Dial(ctx, "ns", "x-1")
	if err == nil {
		t.Cleanup(func() { conn.Close() })
	}
	return conn, err
}

// exchange checks that nothing of the greeting is lost, and that both ways work.
func exchange(t *testing.T, conn net.Conn) {
	t.Helper()
	conn.SetDeadline(time.Now().Add(patience))
	const text = "ping over the port"
	if _, err := io.WriteString(conn, text); err != nil {
		t.Error(err)
		return
	}
	got := make([]byte, len("hello"+text))
	if n, err := io.ReadFull(conn, got); err != nil || string(got) != "hello"+text {
		t.Errorf("got %q, %v", got[:n], err)
	}
	conn.SetDeadline(time.Time{})
}

func isTimeout(err error) bool {
	timeout := net.Error(nil)
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

func isClosed(t *testing.T, what string, gone <-chan struct{}) {
	t.Helper()
	select {
	case <-gone:
	case <-time.After(patience):
		t.Errorf("%s: the connection is kept", what)
	}
}

func TestDialByWebSocket(t *testing.T) {
	s := &apiServer{}
	d := s.start(t)
	for range 2 {
		conn, err := try(t, d, patience)
		if err != nil {
			t.Fatal(err)
		}
		exchange(t, conn)
	}
	if got := s.requests(); !slices.Equal(got, []string{"websocket", "websocket"}) {
		t.Errorf("asked for %v", got)
	}
}

// A way that has worked is kept, whatever is refused later; until then the two
// take turns.
func TestDialRemembers(t *testing.T) {
	s := &apiServer{websocket: func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no WebSockets here", http.StatusBadRequest)
	}}
	failing := true
	s.spdy = func(w http.ResponseWriter, r *http.Request) {
		if failing {
			notYet(w, r)
			return
		}
		s.serveSPDY(w, r)
	}
	d := s.start(t)
	for range 3 {
		if _, err := try(t, d, patience); err == nil {
			t.Fatal("dialled")
		}
	}
	failing = false
	conn, err := try(t, d, patience)
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, conn)
	failing = true
	for range 2 {
		if _, err := try(t, d, patience); err == nil || !strings.Contains(err.Error(), "container not found") {
			t.Errorf("got %v", err)
		}
	}
	want := []string{"websocket", "spdy", "websocket", "spdy", "spdy", "spdy"}
	if got := s.requests(); !slices.Equal(got, want) {
		t.Errorf("asked for %v, want %v", got, want)
	}
}

func TestDialErrors(t *testing.T) {
	s := &apiServer{websocket: forbids("get")}
	if _, err := try(t, s.start(t), patience); err == nil || !IsForbidden(err) {
		t.Errorf("forbidden: got %v", err)
	}
	s = &apiServer{websocket: notYet}
	if _, err := try(t, s.start(t), patience); err == nil || IsForbidden(err) || !strings.Contains(err.Error(), "container not found") {
		t.Errorf("not yet: got %v", err)
	}
	s = &apiServer{websocket: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) }}
	if _, err := try(t, s.start(t), patience); err == nil || !strings.Contains(err.Error(), "502") {
		t.Errorf("gateway: got %v", err)
	}
	s = &apiServer{agent: func(_, problems httpstream.Stream) {
		io.WriteString(problems, "error forwarding port 25051 to pod 0123:\n\x1b[1mconnect: connection refused")
		problems.Close()
	}}
	if _, err := try(t, s.start(t), patience); err == nil ||
		err.Error() != "error forwarding port 25051 to pod 0123: [1mconnect: connection refused" {
		t.Errorf("closed port: got %v", err)
	}
	s = &apiServer{agent: func(data, problems httpstream.Stream) { data.Close() }}
	if _, err := try(t, s.start(t), patience); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("no greeting: got %v", err)
	}
}

// What hangs is given up with ctx, and its connection let go.
func TestDialHangs(t *testing.T) {
	const short = 200 * time.Millisecond
	t.Run("upgrade", func(t *testing.T) {
		gone := make(chan struct{}, 1)
		s := &apiServer{websocket: hang(gone)}
		d := s.start(t)
		if _, err := try(t, d, short); !isTimeout(err) {
			t.Errorf("got %v", err)
		}
		isClosed(t, "upgrade", gone)
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.spdy { // a server that hangs has refused nothing
			t.Error("it changes to SPDY")
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		gone := make(chan struct{}, 1)
		s := &apiServer{websocket: hang(gone)}
		d := s.start(t)
		outer, cancelOuter := context.WithTimeout(t.Context(), short)
		defer cancelOuter()
		ctx, cancel := context.WithCancel(outer)
		cancel()
		if _, err := d.Dial(ctx, "ns", "x-1"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("greeting", func(t *testing.T) {
		gone := make(chan struct{}, 1)
		s := &apiServer{agent: func(data, _ httpstream.Stream) {
			io.Copy(io.Discard, data)
			gone <- struct{}{}
		}}
		if _, err := try(t, s.start(t), short); !isTimeout(err) {
			t.Errorf("got %v", err)
		}
		isClosed(t, "greeting", gone)
	})
	t.Run("no server", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel, says nothing
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		d := dialerTo(t, &rest.Config{Host: "https://" + l.Addr().String(), TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
		for _, d.spdy = range []bool{false, true} {
			if _, err := try(t, d, short); !isTimeout(err) {
				t.Errorf("got %v", err)
			}
			conn, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(patience))
			if _, err := io.Copy(io.Discard, conn); err != nil { // until the other side closes
				t.Errorf("the connection is kept: %v", err)
			}
			conn.Close()
		}
	})
}

// keeping runs keep until the test ends.
func keeping(t *testing.T, d *Dialer) (conns *tunnel.Tunnel, met chan struct{}, failed chan error) {
	t.Helper()
	conns, met, failed = tunnel.New(), make(chan struct{}, 100), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() {
		failed <- d.Keep(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "x-1"}}, conns, func(err error) {
			if err == nil {
				met <- struct{}{}
			}
		})
	})
	t.Cleanup(func() {
		cancel()
		conns.Close()
		work.Wait()
	})
	return conns, met, failed
}

func accept(t *testing.T, tunnel *tunnel.Tunnel, failed chan error) net.Conn {
	t.Helper()
	type result struct {
		conn net.Conn
		err  error
	}
	accepted := make(chan result, 1)
	go func() {
		conn, err := tunnel.Accept()
		accepted <- result{conn, err}
	}()
	select {
	case r := <-accepted:
		if r.err != nil {
			t.Fatal(r.err)
		}
		return r.conn
	case err := <-failed:
		t.Fatalf("keep returned %v", err)
	case <-time.After(patience):
		t.Fatal("nothing is delivered")
	}
	return nil
}

// A Pod that is not ready yet is tried again, and a connection that is lost made anew.
func TestKeep(t *testing.T) {
	s := &apiServer{}
	tries := 0
	early := func(serve http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if tries++; tries <= 3 {
				notYet(w, r)
				return
			}
			serve(w, r)
		}
	}
	s.websocket, s.spdy = early(s.serveWebSocket), early(s.serveSPDY)
	tunnel, met, failed := keeping(t, s.start(t))
	for range 2 {
		conn := accept(t, tunnel, failed)
		<-met
		exchange(t, conn)
		conn.Close()
	}
}

// A node's refusals are passed on, with its words, and a connection after them.
func TestKeepRefused(t *testing.T) {
	refusals := 0
	s := &apiServer{agent: func(_, problems httpstream.Stream) {
		io.WriteString(problems, "connect: connection refused")
		problems.Close()
	}}
	d := s.start(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := d.Keep(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "x-1"}}, tunnel.New(), func(err error) {
		if err == nil || err.Error() != "connect: connection refused" {
			t.Errorf("got %v", err)
		}
		if refusals++; refusals == 3 {
			cancel()
		}
	})
	if err != nil || refusals != 3 {
		t.Errorf("%d refusals, %v", refusals, err)
	}
}

func TestFirstWait(t *testing.T) {
	agent := func(state corev1.ContainerState) *corev1.Pod {
		return &corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "agent", State: state}}}}
	}
	for _, test := range []struct {
		name string
		pod  *corev1.Pod
		want time.Duration
	}{
		{"no status", &corev1.Pod{}, firstDial},
		{"its image is being pulled", agent(corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}),
			firstDial},
		{"it runs", agent(corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}), 0},
	} {
		if got := firstWait(test.pod); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// A right that is missing ends it, once both ways are refused, with its name.
func TestKeepForbidden(t *testing.T) {
	for _, test := range []struct {
		name    string
		allowed []string
		message string
	}{
		{"both", nil, `forbidden: user "dev" may not get and create pods/portforward in namespace "ns"`},
		{"create", []string{"get"}, `forbidden: user "dev" may not create pods/portforward in namespace "ns"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &apiServer{websocket: forbids("get"), spdy: forbids("create"),
				allowed: func(verb string) bool { return slices.Contains(test.allowed, verb) }}
			_, _, failed := keeping(t, s.start(t))
			select {
			case err := <-failed:
				failed <- nil
				f := explain.Error(err)
				if f.Cause != job.Forbidden || f.Message != test.message ||
					!strings.Contains(f.Hint, "--clusterrole=hodei-user --user=dev -n ns") {
					t.Errorf("got %s: %s\n%s", f.Cause, f.Message, f.Hint)
				}
			case <-time.After(patience):
				t.Error("it goes on")
			}
		})
	}
	t.Run("one way is enough", func(t *testing.T) {
		s := &apiServer{websocket: forbids("get")}
		tunnel, _, failed := keeping(t, s.start(t))
		exchange(t, accept(t, tunnel, failed))
	})
}

func TestKeepEnds(t *testing.T) {
	s := &apiServer{}
	d := s.start(t)
	ctx, cancel := context.WithCancel(t.Context())
	tunnel, met := tunnel.New(), make(chan struct{}, 1)
	failed := make(chan error, 1)
	go func() {
		failed <- d.Keep(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "x-1"}}, tunnel, func(err error) {
			if err == nil {
				met <- struct{}{}
			}
		})
	}()
	conn := accept(t, tunnel, failed)
	<-met
	cancel()
	if err := <-failed; err != nil {
		t.Errorf("got %v", err)
	}
	if _, err := io.ReadAll(conn); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection that it made outlives it: %v", err)
	}
}

// streamPair returns a forwarded port and the stream at its other end.
func streamPair(t *testing.T) (*streamConn, httpstream.Stream) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	here, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	there, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	streams := make(chan httpstream.Stream, 1)
	s := &apiServer{agent: func(data, _ httpstream.Stream) { streams <- data }}
	server, err := spdy.NewServerConnection(there, s.accept())
	if err != nil {
		t.Fatal(err)
	}
	connection, err := spdy.NewClientConnection(here)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := openPort(connection)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		server.Close()
	})
	return conn, <-streams
}

func TestStreamConnDeadline(t *testing.T) {
	for _, test := range []struct {
		name string
		set  func(net.Conn, time.Time) error
	}{
		{"read", net.Conn.SetReadDeadline}, {"write", net.Conn.SetWriteDeadline}, {"both", net.Conn.SetDeadline},
	} {
		for _, in := range []time.Duration{-time.Hour, 20 * time.Millisecond} {
			t.Run(fmt.Sprintf("%s in %s", test.name, in), func(t *testing.T) {
				conn, peer := streamPair(t)
				if err := test.set(conn, time.Now().Add(in)); err != nil {
					t.Fatal(err)
				}
				var timeout net.Error
				if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) ||
					!timeout.Timeout() {
					t.Errorf("read: %v", err)
				}
				if _, err := conn.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("write: %v", err)
				}
				if err := conn.SetDeadline(time.Time{}); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("a deadline set too late: %v", err)
				}
				if n, err := io.Copy(io.Discard, peer); n != 0 { // it ends
					t.Errorf("the peer read %d bytes, %v", n, err)
				}
			})
		}
	}
}

// stalled is a stream on which nothing happens until it is reset.
type stalled struct {
	httpstream.Stream
	reset chan struct{}
}

func (s stalled) Read([]byte) (int, error) {
	<-s.reset
	return 0, io.EOF
}

func (s stalled) Reset() error {
	close(s.reset)
	return nil
}

type stalledConnection struct{ httpstream.Connection }

func (stalledConnection) Close() error { return nil }

// A deadline that is moved, or taken away, does not pass.
func TestStreamConnDeadlineMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &streamConn{data: stalled{reset: make(chan struct{})}, connection: stalledConnection{}}
		conn.SetDeadline(time.Now().Add(time.Minute))
		conn.SetReadDeadline(time.Now().Add(time.Hour))
		conn.SetWriteDeadline(time.Time{})
		began := time.Now()
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Hour {
			t.Errorf("got %v after %s", err, time.Since(began))
		}
	})
}

func TestStreamConnClose(t *testing.T) {
	conn, peer := streamPair(t)
	var readers sync.WaitGroup
	for range 4 { // in the midst of everything
		readers.Go(func() {
			if _, err := io.ReadAll(conn); !errors.Is(err, net.ErrClosed) {
				t.Errorf("read: %v", err)
			}
		})
		readers.Go(func() {
			for {
				if _, err := conn.Write([]byte("x")); err != nil {
					if !errors.Is(err, net.ErrClosed) {
						t.Errorf("write: %v", err)
					}
					return
				}
			}
		})
		readers.Go(func() {
			for conn.SetDeadline(time.Now().Add(time.Hour)) == nil {
			}
		})
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(peer, first); err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, peer)
	var closers sync.WaitGroup
	for range 4 {
		closers.Go(func() {
			if err := conn.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
	closers.Wait()
	readers.Wait()
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

func TestStreamConnGreeting(t *testing.T) {
	conn, peer := streamPair(t)
	go func() {
		io.WriteString(peer, "greeting")
		peer.Close()
	}()
	if err := conn.awaitGreeting(); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(nil); n != 0 || err != nil {
		t.Errorf("a read of nothing: %d, %v", n, err)
	}
	if got, err := io.ReadAll(conn); string(got) != "greeting" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if conn.LocalAddr().String() == "" || conn.RemoteAddr().Network() == "" { // gRPC logs them
		t.Error("it has no address")
	}
}

func TestStreamConnPeerGone(t *testing.T) {
	conn, peer := streamPair(t)
	peer.Reset()
	if err := conn.awaitGreeting(); err == nil {
		t.Error("no error")
	}
}
