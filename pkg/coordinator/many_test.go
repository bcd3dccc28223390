package coordinator

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

var otherID = certs.ID{Namespace: testID.Namespace, Job: "other"}

// office is a coordinator of many jobs with a log store.
type office struct {
	*world
	hub   *Hub
	store *logstore.Store
	heard *heard

	mu   sync.Mutex
	open map[attemptKey]int // Followers that are open
	left chan attemptKey    // of each that is done
}

func newOffice(t *testing.T, change func(*Hub)) *office {
	t.Helper()
	o := &office{store: openStore(t, t.TempDir()), heard: newHeard(), open: map[attemptKey]int{}, left: make(chan attemptKey, 1000)}
	o.world = newAuthority(t)
	config, err := o.job.ServerConfig()
	if err != nil {
		t.Fatal(err)
	}
	o.hub = &Hub{TLS: config}
	o.hub.Open = func(hello *hodeipb.Hello) (Follower, func()) {
		r := &Recorder{Store: o.store, Keep: true, Listener: o.heard}
		key := keyOf(hello)
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.open[key]++; o.open[key] > 1 {
			t.Errorf("%v was opened twice", key)
		}
		return r, func() {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			o.mu.Lock()
			defer o.mu.Unlock()
			o.open[key]--
			o.left <- key
		}
	}
	if change != nil {
		change(o.hub)
	}
	o.serve(t, o.hub)
	return o
}

// attach says hello as an attempt of a job, with that job's certificate.
func (o *office) attach(t *testing.T, id certs.ID, uid string, end uint64) *agent {
	t.Helper()
	a := o.dial(t, credentials.NewTLS(clientTLS(t, issue(t, o.authority, id))))
	h := hello(end)
	h.Namespace, h.Job, h.Attempt, h.AttemptUid = id.Namespace, id.Job, "pod-"+uid, uid
	a.send(&hodeipb.FromAgent_Hello{Hello: h})
	return a
}

// stored is what the store has of an attempt.
func (o *office) stored(t *testing.T, id certs.ID, uid string) string {
	t.Helper()
	log, err := o.store.Read(logstore.Key{Namespace: id.Namespace, Job: id.Job, AttemptUID: uid})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var data []byte
	for r := log.Reader(0); ; {
		b, err := r.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return string(data)
		}
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, b.Data...)
	}
}

// TestPanicOfOne: where an attempt is opened or closed with a panic, others go on, it can
// come back, and the Hub ends.
func TestPanicOfOne(t *testing.T) {
	var opened, closed atomic.Bool
	o := newOffice(t, func(h *Hub) {
		open := h.Open
		h.Open = func(hello *hodeipb.Hello) (Follower, func()) {
			if hello.Job == testID.Job && opened.CompareAndSwap(false, true) {
				panic("while opening")
			}
			f, done := open(hello)
			return f, func() {
				done()
				if hello.Job == testID.Job && closed.CompareAndSwap(false, true) {
					panic("while closing")
				}
			}
		}
	})
	for _, fault := range []string{"while opening", "while closing", ""} {
		a := o.attach(t, testID, "uid", 0)
		if fault != "while opening" {
			a.welcome()
			a.send(&hodeipb.ExitRecord{Cause: contract.CauseCompleted})
			a.ack(0, true)
			_ = a.stream.CloseSend()
		}
		want := ""
		if fault != "" {
			want = "a fault in hodei: " + fault
		}
		if s := a.fails(); s.Message() != want {
			t.Errorf("ended with %s: %q, want %q", s.Code(), s.Message(), want)
		}
		other := o.attach(t, otherID, "uid", 0)
		other.welcome()
		other.close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if o.hub.Shutdown(ctx); ctx.Err() != nil {
		t.Error("the server waits for one that has left")
	}
}

// TestManyJobs: two jobs whose attempts even have one name and one UID are kept
// apart, and nothing is remembered of either once it has left.
func TestManyJobs(t *testing.T) {
	o := newOffice(t, nil)
	ids := []certs.ID{testID, otherID, {Namespace: "elsewhere", Job: testID.Job}}
	agents := make([]*agent, len(ids))
	for i, id := range ids {
		agents[i] = o.attach(t, id, "uid", 5)
		if w := agents[i].welcome(); w.Offset != 0 || w.Transient || !w.Output {
			t.Fatalf("welcome %v", w)
		}
	}
	for i, id := range ids {
		agents[i].send(text(0, id.Namespace[:2]+id.Job[:3]))
		agents[i].ack(5, false)
	}
	agents[0].close()
	if left := <-o.left; left != (attemptKey{testID.Namespace, testID.Job, "uid"}) {
		t.Fatalf("%v has left", left)
	}
	// It comes again, and goes on where it was.
	agents[0] = o.attach(t, ids[0], "uid", 7)
	if w := agents[0].welcome(); w.Offset != 5 {
		t.Fatalf("welcome %v", w)
	}
	agents[0].send(text(5, "+x"))
	agents[0].ack(7, false)
	for i, end := range []uint64{7, 5, 5} {
		agents[i].send(&hodeipb.ExitRecord{End: end})
		agents[i].ack(end, true)
		agents[i].close()
		<-o.left
	}
	for i, want := range []string{"jomak+x", "jooth", "elmak"} {
		if got := o.stored(t, ids[i], "uid"); got != want {
			t.Errorf("%v: stored %q, want %q", ids[i], got, want)
		}
	}
	o.hub.Shutdown(t.Context())
	if n := len(o.hub.own.attempts); n > 0 {
		t.Errorf("%d attempts are remembered", n)
	}
}

// TestManyJobsRefused: a certificate opens its own job's door and no other.
func TestManyJobsRefused(t *testing.T) {
	o := newOffice(t, nil)
	elsewhere, err := certs.NewAuthority(0)
	if err != nil {
		t.Fatal(err)
	}
	saying := func(namespace, job string) *hodeipb.FromAgent_Hello {
		h := hello(0)
		h.Namespace, h.Job = namespace, job
		return &hodeipb.FromAgent_Hello{Hello: h}
	}
	own := clientTLS(t, o.job)
	for _, test := range []struct {
		name    string
		creds   credentials.TransportCredentials
		hello   *hodeipb.FromAgent_Hello
		code    codes.Code
		message string
	}{
		{"another job", credentials.NewTLS(own), saying(otherID.Namespace, otherID.Job), codes.PermissionDenied,
			"the certificate was issued for another job than jobs/other"},
		{"another namespace", credentials.NewTLS(own), saying("x", testID.Job), codes.PermissionDenied,
			"the certificate was issued for another job than x/make-k3x9z"},
		{"a name that runs over", credentials.NewTLS(own), saying("jobs/job/make-k3x9z", ""), codes.PermissionDenied,
			"the certificate was issued for another job than jobs/job/make-k3x9z/"},
		{"no job", credentials.NewTLS(own), saying("", ""), codes.PermissionDenied, "the certificate was issued for another job than /"},
		{"another authority's", credentials.NewTLS(bareTLS(t, o.world, pair(t, issue(t, elsewhere, testID)))),
			saying(testID.Namespace, testID.Job), codes.Unavailable, ""},
		{"no certificate", credentials.NewTLS(bareTLS(t, o.world)), saying(testID.Namespace, testID.Job), codes.Unavailable, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := o.dial(t, test.creds)
			a.send(test.hello)
			if s := a.fails(); s.Code() != test.code || test.message != "" && s.Message() != test.message {
				t.Errorf("ended with %s: %s", s.Code(), s.Message())
			}
		})
	}
	if len(o.open) > 0 {
		t.Errorf("opened: %v", o.open)
	}
}

// TestManyAttachments: one job does not take the places of the others.
func TestManyAttachments(t *testing.T) {
	o := newOffice(t, nil)
	for i := range maxOfJob {
		o.attach(t, testID, string(rune('a'+i)), 0).welcome()
	}
	o.attach(t, testID, "more", 0).failsWith(codes.ResourceExhausted, "job jobs/make-k3x9z has 8 attachments already")
	o.attach(t, otherID, "a", 0).welcome()
}

// floods dials the office from a loopback address without end, and says nothing.
func (o *office) floods(t *testing.T, from string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	t.Cleanup(func() { cancel(); work.Wait() })
	full := make(chan struct{})
	work.Go(func() {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		var held []net.Conn // more than the office keeps
		filled := sync.OnceFunc(func() { close(full) })
		for ctx.Err() == nil {
			c, err := dialer.DialContext(ctx, "tcp", o.addr)
			if err != nil {
				continue // no port is free at the moment
			}
			if held = append(held, c); len(held) > 2*maxStrangers {
				held[0].Close()
				held = held[1:]
				filled()
			}
		}
		for _, c := range held {
			c.Close()
		}
	})
	<-full
}

// TestFlood: connections that say nothing keep no agent out.
func TestFlood(t *testing.T) {
	var told atomic.Int64
	o := newOffice(t, func(h *Hub) {
		h.TurnedAway = func(from net.Addr, err error) {
			told.Add(1)
			if host, _, _ := net.SplitHostPort(from.String()); host != "127.0.0.2" || !errors.Is(err, errOverrun) {
				t.Errorf("%s was turned away: %v", from, err)
			}
		}
	})
	o.floods(t, "127.0.0.2")
	for range 8 {
		a := o.attach(t, testID, "uid", 0)
		a.welcome()
		a.close()
	}
	if err := o.hub.Ready(); err != nil {
		t.Error(err)
	}
	if told.Load() == 0 {
		t.Error("nothing was told")
	}
}

// TestStrangers: with one address alone, the newest have the places.
func TestStrangers(t *testing.T) {
	o := newOffice(t, nil)
	var held []net.Conn
	for range 2 * maxStrangers {
		c, err := net.Dial("tcp", o.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		held = append(held, c)
	}
	o.attach(t, testID, "uid", 0).welcome()
	for i, c := range held {
		if i > maxStrangers { // with the agent's one more has gone
			break
		}
		if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Errorf("connection %d: read %d bytes: %v", i, n, err)
		}
	}
}

// TestManyConnections: agents that are too many are turned away, and there is room
// again when one has gone. One job has but its share.
func TestManyConnections(t *testing.T) {
	turned := make(chan error, 10)
	o := newOffice(t, func(h *Hub) { h.TurnedAway = func(_ net.Addr, err error) { turned <- err } })
	turnedAway := func() error {
		select {
		case err := <-turned:
			return err
		case <-time.After(patience):
			return errors.New("nobody was turned away")
		}
	}
	connect := func(config *tls.Config) net.Conn {
		config = config.Clone()
		config.NextProtos = []string{"h2"}
		c, err := tls.Dial("tcp", o.addr, config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	// settled has read what the server says first: it has let c in.
	settled := func(c net.Conn) error {
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		_, err := c.Read(make([]byte, 1))
		return err
	}
	const jobs = maxConns / maxConnsOfJob
	var one net.Conn
	for i := range jobs {
		config := clientTLS(t, issue(t, o.authority, certs.ID{Namespace: "jobs", Job: fmt.Sprint("job-", i)}))
		for range maxConnsOfJob {
			one = connect(config)
			if err := settled(one); err != nil {
				t.Fatal(err)
			}
		}
		if i > 0 {
			continue
		}
		if err := settled(connect(config)); err == nil {
			t.Error("one job has more than its share")
		}
		if err := turnedAway(); err.Error() != "spiffe://hodei/ns/jobs/job/job-0 has 16 connections already" {
			t.Error(err)
		}
	}
	if err := o.hub.Ready(); !errors.Is(err, errFull) {
		t.Errorf("ready: %v", err)
	}
	if err := settled(connect(clientTLS(t, issue(t, o.authority, otherID)))); err == nil {
		t.Error("one too many was let in")
	}
	if err := turnedAway(); !errors.Is(err, errFull) {
		t.Error(err)
	}
	one.Close()
	// Its place is free when the server has seen its end.
	for o.hub.Ready() != nil {
		runtime.Gosched()
	}
	o.attach(t, testID, "uid", 0).welcome()
	o.hub.Close()
	if err := o.hub.Ready(); err == nil || errors.Is(err, errFull) {
		t.Errorf("ready when closed: %v", err)
	}
}

// TestTurnedAway: who is refused after the handshake is told too, with the address.
func TestTurnedAway(t *testing.T) {
	type refusal struct {
		from net.Addr
		err  string
	}
	turned := make(chan refusal, 10)
	o := newOffice(t, func(h *Hub) {
		h.TurnedAway = func(from net.Addr, err error) { turned <- refusal{from, err.Error()} }
	})
	for i := range maxOfJob {
		o.attach(t, otherID, fmt.Sprint("uid-of-other-", i), 0).welcome()
	}
	saying := func(id certs.ID, change func(*hodeipb.Hello)) func() *agent {
		return func() *agent {
			a := o.dial(t, credentials.NewTLS(clientTLS(t, issue(t, o.authority, id))))
			h := hello(0)
			h.Namespace, h.Job, h.Attempt = id.Namespace, id.Job, "pod-uid-1"
			change(h)
			a.send(&hodeipb.FromAgent_Hello{Hello: h})
			return a
		}
	}
	kept := o.attach(t, testID, "uid", 0)
	kept.welcome()
	for _, test := range []struct {
		name string
		dial func() *agent
		want string
	}{
		{"another job", saying(testID, func(h *hodeipb.Hello) { h.Job = "other" }),
			"the certificate was issued for another job than jobs/other"},
		{"another protocol", saying(testID, func(h *hodeipb.Hello) { h.Protocol = 2 }),
			"the agent speaks protocol 2, the coordinator 1: use the same version of both"},
		{"too many", saying(otherID, func(*hodeipb.Hello) {}), "job jobs/other has 8 attachments already"},
		{"another name", saying(testID, func(h *hodeipb.Hello) { h.AttemptUid, h.Attempt = "uid", "pod-2" }),
			`attempt_uid "uid" is attempt "pod-uid", not "pod-2"`},
		{"another UID", saying(testID, func(h *hodeipb.Hello) { h.Attempt = "pod-uid" }),
			`attempt "pod-uid" has another attempt_uid than "uid-1"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := test.dial()
			if s := a.fails(); s.Message() != test.want {
				t.Errorf("ended with %s: %s", s.Code(), s.Message())
			}
			if got := <-turned; got.err != test.want || got.from.String() != a.conn.LocalAddr().String() {
				t.Errorf("told %v", got)
			}
		})
	}
	// The attempt whose name it was goes on.
	kept.send(&hodeipb.ExitRecord{})
	kept.ack(0, true)
	select {
	case got := <-turned: // that one who leaves is none
		t.Errorf("told %v", got)
	default:
	}
}

// TestKeep: a coordinator that is there to keep output takes none that it can't.
func TestKeep(t *testing.T) {
	o := newOffice(t, nil)
	log, err := o.store.Create(logstore.Key{Namespace: testID.Namespace, Job: testID.Job, Attempt: "pod-uid", AttemptUID: "uid"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	a := o.attach(t, testID, "uid", 0)
	a.failsWith(codes.ResourceExhausted, `store output: create log of attempt "pod-uid": the attempt's log is in use`)
	if err := <-o.heard.failed; !errors.Is(err, logstore.ErrInUse) {
		t.Errorf("heard %v", err)
	}
}
