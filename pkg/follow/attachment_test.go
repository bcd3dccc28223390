package follow

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/follow/followtest"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/tunnel"
)

// jobID is the job of these tests.
var jobID = certs.ID{Namespace: "ns", Job: "x"}

// fakeJob is a job whose end the test decides.
type fakeJob struct {
	listener net.Listener
	config   *tls.Config
	end      chan *job.Outcome // closed: it can't be watched
	report   chan func(job.Event)
}

func newFakeJob(l net.Listener, config *tls.Config) fakeJob {
	return fakeJob{l, config, make(chan *job.Outcome, 1), make(chan func(job.Event), 1)}
}

func (j fakeJob) Listener() net.Listener { return j.listener }
func (j fakeJob) TLS() *tls.Config       { return j.config }

func (j fakeJob) Watch(ctx context.Context, tell job.Observer) (*job.Outcome, error) {
	j.report <- tell.Report
	select {
	case o, ok := <-j.end:
		if !ok {
			return nil, errors.New("not to be watched")
		}
		return o, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// refusing is a job that can say more of refusals.
type refusing struct{ fakeJob }

func (refusing) Refused(err error) *job.Failure {
	return &job.Failure{Cause: job.ConfigError, Message: "refused: " + err.Error()}
}

// silent is a Listener that wants to know nothing.
type silent struct{}

func (silent) Attached(coordinator.Attachment)    {}
func (silent) State(string, *hodeipb.State)       {}
func (silent) Metrics(string, *hodeipb.Metrics)   {}
func (silent) Exited(string, *hodeipb.ExitRecord) {}
func (silent) Failed(string, error)               {}

func attachmentTo(j Job) *Attachment {
	return &Attachment{Job: j, Namespace: jobID.Namespace, Name: jobID.Job, Recorder: &coordinator.Recorder{Listener: silent{}}}
}

// The end of the job, that it can't be watched and that its agents can't be served come to act; what
// act returns comes to the caller, and nothing of the job is told after that.
func TestRun(t *testing.T) {
	for _, test := range []struct {
		name     string
		unserved bool
		happens  func(j fakeJob)
		want     string
	}{
		{"the job ends", false, func(j fakeJob) { j.end <- &job.Outcome{Cause: job.Evicted} }, "ended: Evicted"},
		{"it can't be watched", false, func(j fakeJob) { close(j.end) }, "over: not to be watched"},
		{"it can't be served", false, func(j fakeJob) { j.listener.Close() }, "meeting: serve the job's agent: "},
		{"it is not to be served", true, func(j fakeJob) {
			j.listener.Close()
			j.end <- &job.Outcome{Cause: job.Completed}
		}, "ended: Completed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			j := newFakeJob(l, &tls.Config{})
			a := attachmentTo(j)
			a.Unserved = test.unserved
			var told int
			a.Report = func(job.Event) { told++ }
			var report func(job.Event)
			err = a.Run(t.Context(), func(ctx context.Context, e *Events) error {
				report = <-j.report
				report(job.Event{Phase: job.Running})
				test.happens(j)
				select {
				case <-e.Over.Done():
					if e.Over.Outcome == nil {
						return errors.New("over: " + context.Cause(e.Over).Error())
					}
					return errors.New("ended: " + string(e.Over.Outcome.Cause))
				case <-ctx.Done():
					return errors.New("meeting: " + context.Cause(ctx).Error())
				}
			})
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
			if report(job.Event{Phase: job.Running}); told != 1 {
				t.Errorf("%d phases were told, want 1", told)
			}
		})
	}
}

// An agent of another authority tries again and again: it is told once, and given up in the end. A
// job that has nothing to say of it is met on.
func TestRefused(t *testing.T) {
	for _, test := range []struct {
		name    string
		refuser bool
	}{{"through a tunnel", true}, {"where others may refuse", false}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, _ := followtest.Certs(t, jobID)
				_, theirs := followtest.Certs(t, jobID)
				way := tunnel.New()
				defer way.Close()
				var j Job = newFakeJob(way, ours)
				if test.refuser {
					j = refusing{newFakeJob(way, ours)}
				}
				ctx, cancel := context.WithTimeout(t.Context(), 2*RefusedWait)
				defer cancel()
				var work sync.WaitGroup
				work.Go(func() { followtest.Shake(ctx, way, theirs) })
				told := 0
				begun := time.Now()
				err := attachmentTo(j).Run(ctx, func(ctx context.Context, e *Events) error {
					for {
						select {
						case <-e.Refused:
							told++
						case <-ctx.Done():
							return context.Cause(ctx)
						}
					}
				})
				took := time.Since(begun)
				cancel()
				work.Wait()
				_, refusal := errors.AsType[*job.Failure](err)
				if refusal != test.refuser || (told == 1) != test.refuser {
					t.Errorf("told %d times, then %v", told, err)
				}
				if test.refuser && (took < RefusedWait || took >= 2*RefusedWait) {
					t.Errorf("after %s", took)
				}
			})
		})
	}
}

// An agent whose messages make no sense may come again without end, and is told of once.
func TestTurnedAway(t *testing.T) {
	server, agent := followtest.Certs(t, jobID)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	faults := make(chan *coordinator.Fault, 10)
	a := attachmentTo(newFakeJob(l, server))
	a.TurnedAway = func(f *coordinator.Fault) { faults <- f }
	err = a.Run(t.Context(), func(ctx context.Context, _ *Events) error {
		client, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(agent)))
		if err != nil {
			return err
		}
		defer client.Close()
		for range 3 {
			stream, err := hodeipb.NewCoordinatorClient(client).Attach(ctx)
			if err != nil {
				return err
			}
			hello := &hodeipb.Hello{Protocol: hodeipb.Protocol, Namespace: jobID.Namespace, Job: jobID.Job, Attempt: "x-1"}
			if err := stream.Send(&hodeipb.FromAgent{Message: &hodeipb.FromAgent_Hello{Hello: hello}}); err != nil {
				return err
			}
			if _, err := stream.Recv(); err == nil {
				return errors.New("it was let in")
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	close(faults)
	var told []string
	for f := range faults {
		told = append(told, f.Message)
	}
	if len(told) != 1 || told[0] != "the hello lacks attempt_uid, extent or state" {
		t.Errorf("told %q", told)
	}
}
