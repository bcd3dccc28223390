// Package forward connects to the agents of Pods by the API server's port-forward, over WebSocket or
// SPDY. Start with [Dialer]: Keep keeps one connection to an agent delivered to a tunnel, Dial opens a
// single one. It does not look at what the connections carry: TLS and gRPC stand above.
package forward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	client "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
	"github.com/hodei-jobs/hodei/pkg/provider/tunnel"
)

const (
	// firstDial after the Pod is bound to a node: the earliest success seen was
	// at 0.6 s, and a try costs the API server and the kubelet a request each.
	firstDial = 400 * time.Millisecond
	// dialEvery until the agent answers for the first time.
	dialEvery = 100 * time.Millisecond
	// Back-off after a connection was lost.
	firstBackoff, lastBackoff = 100 * time.Millisecond, 15 * time.Second
	// dialWait bounds one try.
	dialWait = 15 * time.Second
	// GreetingWait is the part of a try in which the agent, which speaks first in TLS, has to do so.
	GreetingWait = 5 * time.Second
	// portForwardProtocol is the only version there is.
	portForwardProtocol = "portforward.k8s.io"
)

// Dialer opens connections to the agent's port of a Pod by way of the API server. It is safe for
// concurrent use.
type Dialer struct {
	// Config is the way to the API server, and Client asks it: both are required.
	Config *rest.Config
	Client client.Interface
	// spdy is the way that works here; it changes when an upgrade is refused,
	// until one has succeeded.
	mu     sync.Mutex
	spdy   bool
	proven bool
}

// Keep keeps one connection to the agent of a Pod delivered to the tunnel until
// ctx ends. It calls tried with nil whenever one is made, before it is delivered, with a
// [*Refusal] whenever that is why one is not, and with another error of an API server
// that refuses what it has granted before. It returns before only with an error that
// trying again can't mend.
func (d *Dialer) Keep(ctx context.Context, pod *corev1.Pod, tunnel *tunnel.Tunnel, tried func(error)) error {
	wait, backoff := firstWait(pod), firstBackoff
	known := false
	refused := 0
	for {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
		conn, err := d.Dial(ctx, pod.Namespace, pod.Name)
		if refusal, ok := errors.AsType[*Refusal](err); ok {
			tried(refusal)
		} else if err != nil && known {
			if refusal := refusedUpgrade(err); refusal != nil {
				tried(refusal)
			}
		}
		switch {
		case err == nil:
			known = true
			tried(nil)
			began := time.Now()
			tunnel.Deliver(ctx, podConn{conn, pod})
			if time.Since(began) > lastBackoff {
				backoff = firstBackoff
			}
		case !IsForbidden(err):
			refused = 0
		default:
			// WebSocket and SPDY take different rights; one of the two is enough.
			if refused++; refused == 2 && !known {
				return d.Forbidden(ctx, pod.Namespace, err)
			}
		}
		wait = dialEvery
		if known {
			wait = backoff/2 + rand.N(backoff)
			backoff = min(2*backoff, lastBackoff)
		}
	}
}

// firstWait is the time until the first try: none if the agent was there before us.
func firstWait(pod *corev1.Pod) time.Duration {
	if explain.AgentRuns(pod) {
		return 0
	}
	return firstDial
}

// IsForbidden reports whether an upgrade was refused for lack of a right. It looks at the text: of a SPDY
// upgrade that is all there is, and a WebSocket's status is inside an error that can't be unwrapped.
func IsForbidden(err error) bool { return strings.Contains(err.Error(), "is forbidden") }

// refusedUpgrade turns what an upgrade to a tunnel was refused with into an error of the
// API server's, as far as its text tells; nil: it was not refused.
func refusedUpgrade(err error) error {
	switch text := err.Error(); {
	case IsForbidden(err):
		return &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: 403, Reason: metav1.StatusReasonForbidden, Message: text,
		}}
	case strings.Contains(text, "Unauthorized"), strings.Contains(text, "401"):
		return apierrors.NewUnauthorized(text)
	}
	return nil
}

// Forbidden says which right is missing, as the refusal err itself does not: a *job.Failure. It asks the API
// server for up to 15 s.
func (d *Dialer) Forbidden(ctx context.Context, namespace string, err error) error {
	ctx, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	var missing []string
	for _, verb := range []string{"get", "create"} {
		answer, e := d.Review(ctx, namespace, verb)
		if e == nil && !answer.Status.Allowed {
			missing = append(missing, verb)
		}
	}
	user, e := d.WhoAmI(ctx)
	if e != nil || len(missing) == 0 {
		return &job.Failure{Cause: job.Forbidden, Err: err, Message: explain.OneLine(err.Error()),
			Hint: "kubectl auth can-i create pods/portforward -n " + namespace}
	}
	return explain.MissingRight(user, strings.Join(missing, " and "), "pods/portforward", namespace)
}

// WhoAmI is our name, as the API server knows us.
func (d *Dialer) WhoAmI(ctx context.Context) (string, error) {
	who, err := d.Client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return who.Status.UserInfo.Username, nil
}

// Review asks the API server whether we may do verb on pods/portforward, and returns its answer or its error.
func (d *Dialer) Review(ctx context.Context, namespace, verb string) (*authorizationv1.SelfSubjectAccessReview, error) {
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: namespace, Verb: verb, Resource: "pods", Subresource: "portforward",
		}}}
	return d.Client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
}

// Dial opens one connection. The agent has sent its first byte when it returns:
// the API server reports a closed port only afterwards.
func (d *Dialer) Dial(ctx context.Context, namespace, pod string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	target := d.Client.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("portforward").URL()

	// client-go's dialers take no context: a try that hangs can't be waited for. It is left
	// behind, and closes its connection when that comes.
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result)
	go func() {
		conn, err := d.open(ctx, target)
		select {
		case done <- result{conn, err}:
		case <-ctx.Done():
			if err == nil {
				conn.Close()
			}
		}
	}()
	select {
	case r := <-done:
		return r.conn, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (d *Dialer) open(ctx context.Context, target *url.URL) (net.Conn, error) {
	connection, err := d.upgrade(ctx, target)
	if err != nil {
		return nil, err
	}
	release := context.AfterFunc(ctx, func() { connection.Close() })
	conn, err := openPort(connection)
	if err != nil {
		release()
		connection.Close()
		return nil, cmp.Or(ctx.Err(), err)
	}
	err = conn.awaitGreeting()
	if !release() {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// upgrade turns a request into a connection: by WebSocket, or by SPDY where a
// server before 1.31 or a proxy in between refuses that.
func (d *Dialer) upgrade(ctx context.Context, target *url.URL) (httpstream.Connection, error) {
	d.mu.Lock()
	bySPDY := d.spdy
	d.mu.Unlock()
	// client-go makes its requests with a context of its own. With ours a
	// WebSocket's answer is awaited until the deadline, and SPDY's connection made.
	config := rest.CopyConfig(d.Config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) { return next.RoundTrip(r.WithContext(ctx)) })
	})
	var (
		dialer httpstream.Dialer
		err    error
	)
	if bySPDY {
		transport, upgrader, e := spdy.RoundTripperFor(config)
		if e != nil {
			return nil, e
		}
		dialer = spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, target)
	} else if dialer, err = portforward.NewSPDYOverWebsocketDialerForStreaming(target, config); err != nil {
		return nil, err
	}
	connection, _, err := dialer.Dial(portForwardProtocol)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		d.proven = true
		return connection, nil
	}
	var timeout net.Error
	if late := errors.As(err, &timeout) && timeout.Timeout(); !d.proven && !late && ctx.Err() == nil {
		d.spdy = !bySPDY
	}
	return nil, err
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Refusal is what the node says of a port of a Pod that it can't connect to.
type Refusal struct{ Said string }

func (e *Refusal) Error() string { return e.Said }

var requestID struct {
	sync.Mutex
	n int
}

// openPort makes the two streams of a forwarded port: data, and errors.
func openPort(connection httpstream.Connection) (*streamConn, error) {
	requestID.Lock()
	requestID.n++
	id := fmt.Sprint(requestID.n)
	requestID.Unlock()
	headers := http.Header{}
	headers.Set(corev1.PortHeader, fmt.Sprint(manifest.AgentPort))
	headers.Set(corev1.PortForwardRequestIDHeader, id)
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	problems, err := connection.CreateStream(headers)
	if err != nil {
		return nil, err
	}
	problems.Close() // our half: we have nothing to say there
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := connection.CreateStream(headers)
	if err != nil {
		return nil, err
	}
	c := &streamConn{data: data, connection: connection}
	c.reading.Go(func() {
		text, err := io.ReadAll(io.LimitReader(problems, 4096))
		if len(text) > 0 {
			err = &Refusal{explain.OneLine(string(text))}
		}
		if err != nil {
			c.closeWith(err)
		}
	})
	return c, nil
}

// streamConn is one forwarded port as a net.Conn. It keeps deadlines by closing
// itself, since the stream below has none; gRPC and TLS set them to bound a
// handshake or a Close, and drop the connection when they pass.
type streamConn struct {
	data       httpstream.Stream
	connection httpstream.Connection
	greeting   []byte         // read ahead; of the one reader
	reading    sync.WaitGroup // of the stream of errors

	mu          sync.Mutex
	err         error // why it was closed
	readTimer   *time.Timer
	writeTimer  *time.Timer
	closeStream sync.Once
}

// awaitGreeting waits for the first byte and keeps it for Read.
func (c *streamConn) awaitGreeting() error {
	_ = c.SetReadDeadline(time.Now().Add(GreetingWait))
	defer func() { _ = c.SetReadDeadline(time.Time{}) }()
	first := make([]byte, 1)
	n, err := c.Read(first)
	if n == 1 {
		c.greeting = first
		return nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (c *streamConn) Read(p []byte) (int, error) {
	if len(c.greeting) > 0 && len(p) > 0 {
		n := copy(p, c.greeting)
		c.greeting = c.greeting[n:]
		return n, nil
	}
	if err := c.closed(); err != nil {
		return 0, err
	}
	n, err := c.data.Read(p)
	return n, c.reason(err)
}

func (c *streamConn) Write(p []byte) (int, error) {
	if err := c.closed(); err != nil { // the stream itself would take it, and drop it
		return 0, err
	}
	n, err := c.data.Write(p)
	return n, c.reason(err)
}

// closed is why it was closed; nil: it is open.
func (c *streamConn) closed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// reason replaces the error of a closed stream by why it was closed.
func (c *streamConn) reason(err error) error {
	if err == nil {
		return nil
	}
	if why := c.closed(); why != nil {
		return why
	}
	return err
}

// Close ends the stream and the upgraded connection, which carries only this one.
func (c *streamConn) Close() error {
	c.closeWith(net.ErrClosed)
	c.reading.Wait() // the connection's end is that of the errors, too
	return nil
}

func (c *streamConn) closeWith(why error) {
	c.closeStream.Do(func() {
		c.mu.Lock()
		c.err = why
		stopTimer(c.readTimer)
		stopTimer(c.writeTimer)
		c.mu.Unlock()
		_ = c.data.Reset()
		_ = c.connection.Close()
	})
}

func (c *streamConn) SetDeadline(t time.Time) error {
	err := c.SetReadDeadline(t)
	_ = c.SetWriteDeadline(t) // a deadline that has passed may have closed it just now
	return err
}

func (c *streamConn) SetReadDeadline(t time.Time) error  { return c.setTimer(&c.readTimer, t) }
func (c *streamConn) SetWriteDeadline(t time.Time) error { return c.setTimer(&c.writeTimer, t) }

func (c *streamConn) setTimer(timer **time.Timer, t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	stopTimer(*timer)
	*timer = nil
	if c.err != nil {
		return c.err
	}
	if !t.IsZero() {
		*timer = time.AfterFunc(time.Until(t), func() { c.closeWith(os.ErrDeadlineExceeded) })
	}
	return nil
}

func stopTimer(t *time.Timer) {
	if t != nil {
		t.Stop()
	}
}

func (c *streamConn) LocalAddr() net.Addr  { return podAddr{} }
func (c *streamConn) RemoteAddr() net.Addr { return podAddr{} }

// podConn is a connection to the agent of a Pod, which can say that it is no other.
type podConn struct {
	net.Conn
	pod *corev1.Pod
}

// Attempt implements coordinator.Dialled.
func (c podConn) Attempt() (name, uid string) { return c.pod.Name, string(c.pod.UID) }

type podAddr struct{}

func (podAddr) Network() string { return "portforward" }
func (podAddr) String() string  { return "pod" }
