package session

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/follow/followtest"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// refusing is a job whose agents and we refuse each other.
type refusing struct{ *followtest.Job }

func (refusing) Refused(err error) *job.Failure {
	return &job.Failure{Cause: job.ConfigError, Message: "refused: " + err.Error(), Hint: "compare the clocks"}
}

// A session whose handshakes are refused for good ends, and the job goes on.
func TestSessionRefused(t *testing.T) {
	f := testFollower(t, io.Discard, io.Discard, "json")
	o := newBeside(io.Discard, io.Discard).config(f.screen, f.events)
	j := refusing{followtest.NewJob()}
	o.Job = j
	s := &session{Config: o, follower: f}
	refusals := make(chan *job.Failure, 1)
	refusals <- j.Refused(errors.New("bad certificate"))
	meeting, fail := context.WithCancelCause(t.Context())
	fail(j.Refused(errors.New("bad certificate")))
	over, ended := follow.NewEnd()
	defer ended(nil, nil)
	err := s.await(t.Context(), meeting, &follow.Events{Refused: refusals, Over: over})
	exit, ok := errors.AsType[*job.ExitError](err)
	tip, _ := errors.AsType[*job.Hinted](err)
	if !ok || exit.Code != 125 || err.Error() != "refused: bad certificate; job x goes on" ||
		tip == nil || tip.Hint != "compare the clocks" {
		t.Errorf("got %v", err)
	}
	if j.Deleted.Load() {
		t.Error("the job was deleted")
	}
}

// ownTLS is a job with certificates, whose agents and we refuse each other.
type ownTLS struct {
	refusing
	config *tls.Config
}

func (j ownTLS) TLS() *tls.Config { return j.config }

// An agent of another authority shakes hands again and again: that is said, and after
// two minutes the session ends, and the job goes on.
func TestSessionRefusedByAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id := certs.ID{Namespace: "ns", Job: "x"}
		config, _ := followtest.Certs(t, id)
		_, agent := followtest.Certs(t, id)
		var said bytes.Buffer
		a := newBeside(io.Discard, &said)
		o := a.config(a.screen(false), nil)
		o.Follow = true
		j := ownTLS{refusing{followtest.NewJob()}, config}
		o.Job = j
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		work.Go(func() { followtest.Shake(ctx, j.Tunnel, agent) })
		began := time.Now()
		end := make(chan error, 1)
		work.Go(func() { end <- Run(ctx, o) })
		var err error
		select {
		case err = <-end:
		case <-time.After(10 * time.Minute):
			t.Error("it goes on")
		}
		cancel()
		work.Wait()
		exit, ok := errors.AsType[*job.ExitError](err)
		const refused = "refused: remote error: tls: "
		if !ok || exit.Code != 125 || !strings.HasPrefix(err.Error(), refused) || !strings.HasSuffix(err.Error(), "; job x goes on") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took < follow.RefusedWait {
			t.Errorf("given up after %s", took)
		}
		if !strings.HasPrefix(said.String(), refused) || strings.Count(said.String(), "; trying on for 2m0s\n") != 1 {
			t.Errorf("said %q", said.String())
		}
		if j.Deleted.Load() {
			t.Error("the job was deleted")
		}
	})
}
