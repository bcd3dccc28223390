package coordinator

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

var otherID = certs.ID{Namespace: testID.Namespace, Job: "other"}

// office is a coordinator of many jobs with a log store.
type office struct {
	*world
	store *logstore.Store
	heard *heard

	mu   sync.Mutex
	open map[attemptKey]int // Followers that are open
	left chan attemptKey    // of each that is done
}

func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{store: openStore(t, t.TempDir()), heard: newHeard(), open: map[attemptKey]int{}, left: make(chan attemptKey, 1000)}
	o.world = newWorld(t, func(s *Server) {
		s.Namespace, s.Job, s.Follower = "", "", nil
		s.Open = func(hello *hodeipb.Hello) (Follower, func()) {
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
	})
	return o
}

// attach says hello as an attempt of a job, with that job's certificate.
func (o *office) attach(t *testing.T, id certs.ID, uid string, end uint64) *agent {
	t.Helper()
	a := o.dial(t, credentials.NewTLS(clientTLS(t, issue(t, o.authority, id))))
	h := hello(end)
	h.Namespace, h.Job, h.Attempt, h.AttemptUid = id.Namespace, id.Job, "pod", uid
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

// TestManyJobs: two jobs whose attempts even have one name and one UID are kept
// apart, and nothing is remembered of either once it has left.
func TestManyJobs(t *testing.T) {
	o := newOffice(t)
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
	o.server.Shutdown(t.Context())
	if n := len(o.server.attempts); n > 0 {
		t.Errorf("%d attempts are remembered", n)
	}
}

// TestManyJobsRefused: a certificate opens its own job's door and no other.
func TestManyJobsRefused(t *testing.T) {
	o := newOffice(t)
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
		{"another job", credentials.NewTLS(own), saying(otherID.Namespace, otherID.Job), codes.PermissionDenied, "the certificate was issued for another job than jobs/other"},
		{"another namespace", credentials.NewTLS(own), saying("x", testID.Job), codes.PermissionDenied, "the certificate was issued for another job than x/make-k3x9z"},
		{"a name that runs over", credentials.NewTLS(own), saying("jobs/job/make-k3x9z", ""), codes.PermissionDenied, "the certificate was issued for another job than jobs/job/make-k3x9z/"},
		{"no job", credentials.NewTLS(own), saying("", ""), codes.PermissionDenied, "the certificate was issued for another job than /"},
		{"another authority's", credentials.NewTLS(bareTLS(t, o.world, pair(t, issue(t, elsewhere, testID)))), saying(testID.Namespace, testID.Job), codes.Unavailable, ""},
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
	o := newOffice(t)
	for i := range maxOfJob {
		o.attach(t, testID, string(rune('a'+i)), 0).welcome()
	}
	o.attach(t, testID, "more", 0).failsWith(codes.ResourceExhausted, "job jobs/make-k3x9z has 8 attachments already")
	o.attach(t, otherID, "a", 0).welcome()
}

// TestManyConnections: what is too many is closed at once, and there is room again
// when one has gone.
func TestManyConnections(t *testing.T) {
	o := newOffice(t)
	var held []net.Conn
	for range maxConns {
		c, err := net.Dial("tcp", o.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		held = append(held, c)
	}
	c, err := net.Dial("tcp", o.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("read %d bytes: %v", n, err)
	}
	for _, c := range held {
		c.Close()
	}
	// Its place is free when the server has seen its end.
	for {
		a := o.attach(t, testID, "uid", 0)
		if _, err := a.stream.Recv(); err == nil {
			return
		}
		a.close()
	}
}

// TestKeep: a coordinator that is there to keep output takes none that it can't.
func TestKeep(t *testing.T) {
	o := newOffice(t)
	log, err := o.store.Create(logstore.Key{Namespace: testID.Namespace, Job: testID.Job, Attempt: "pod", AttemptUID: "uid"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	a := o.attach(t, testID, "uid", 0)
	a.failsWith(codes.ResourceExhausted, `store output: create log of attempt "pod": the attempt's log is in use`)
	if err := <-o.heard.failed; !errors.Is(err, logstore.ErrInUse) {
		t.Errorf("heard %v", err)
	}
}
