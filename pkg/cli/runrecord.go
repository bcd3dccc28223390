package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider"
)

// runDocument is the name under which a log store keeps a job.Run: what was asked for,
// how it started and, where the exit record can't say it, how it ended. Samples and
// exit record are the store's own.
const runDocument = "run"

// maxPhases bounds what is kept of a start: a job that waits for hours may say every
// minute what for. The first ones tell how it began, and what follows is cut.
const maxPhases = 64

// runRecord is the Listener of a session that keeps, for a report, what the session
// learns of each attempt. What it can't store is not there for a report, which says
// so, and ends nothing.
type runRecord struct {
	coordinator.Listener
	store *logstore.Store // nil: nothing is kept
	// before are the phases of attempts that began without us, by their names.
	before map[string][]job.Event

	mu     sync.Mutex
	run    job.Run
	log    *logstore.Log // of the latest attempt; nil: it is not kept
	frozen bool          // its phases are known
	// unwritten are the latest documents of logs, as long as they are not written.
	unwritten map[*logstore.Log][]byte
	writing   bool
	writes    sync.WaitGroup
}

func newRunRecord(s *session, next coordinator.Listener) *runRecord {
	r := &runRecord{Listener: next, before: s.before}
	if s.store != nil {
		r.store = s.store.Store
	}
	r.run = job.Run{Namespace: s.place.Namespace(), Provider: providerName(s.place), Spec: withoutValues(s.spec)}
	return r
}

// providerName is how the user calls a place; empty: in no way.
func providerName(p place.Place) string {
	switch p := p.(type) {
	case place.Cluster:
		return p.Name()
	case place.Machine:
		return provider.Local
	}
	return ""
}

// phase takes one from the provider.
func (r *runRecord) phase(e job.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(e)
}

func (r *runRecord) add(e job.Event) {
	if !r.frozen && len(r.run.Phases) < maxPhases {
		r.run.Phases = append(r.run.Phases, e)
	}
}

// Attached begins with an attempt.
func (r *runRecord) Attached(a coordinator.Attachment) {
	r.attached(a)
	r.Listener.Attached(a)
}

func (r *runRecord) attached(a coordinator.Attachment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.run.Attempt == a.Hello.Attempt {
		return
	}
	if r.run.Attempt != "" {
		r.run.Phases = nil // those of the attempt before it
	}
	r.run.Attempt, r.log = a.Hello.Attempt, a.Log
	if a.Temporary != nil {
		r.log = nil
	}
	if r.frozen = r.resume(a.Hello); !r.frozen {
		r.add(job.Event{Phase: job.AgentUp, Time: time.Now(), Detail: a.Hello.Attempt})
	}
	r.save()
}

// resume takes the phases of an attempt that ran before we came from who was there;
// of one that was on its way, only when that began.
func (r *runRecord) resume(hello *hodeipb.Hello) bool {
	phases := r.before[hello.Attempt]
	if !started(phases) {
		for i := range r.run.Phases {
			if len(phases) > 0 && r.run.Phases[i].Phase == job.Submitted {
				r.run.Phases[i].Time = phases[0].Time
			}
		}
		return false
	}
	r.run.Phases = phases
	if r.store != nil {
		key := logstore.Key{Namespace: hello.Namespace, Job: hello.Job, Attempt: hello.Attempt, AttemptUID: hello.AttemptUid}
		if kept, err := storedRun(r.store, key); err == nil && len(kept.Phases) >= len(phases) {
			r.run.Phases = kept.Phases
		}
	}
	return true
}

// State notes when the command runs.
func (r *runRecord) State(attempt string, state *hodeipb.State) {
	if state.Phase >= hodeipb.Phase_RUNNING {
		r.runs(attempt)
	}
	r.Listener.State(attempt, state)
}

func (r *runRecord) runs(attempt string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if attempt != r.run.Attempt || r.frozen || started(r.run.Phases) {
		return
	}
	r.add(job.Event{Phase: job.Running, Time: time.Now(), Detail: attempt})
	r.save()
}

// started tells that the command was seen to run.
func started(phases []job.Event) bool {
	return slices.ContainsFunc(phases, func(e job.Event) bool { return e.Phase == job.Running && !e.Waiting })
}

// over keeps how the latest attempt ended; nil: nobody knows. It comes before its log
// is closed.
func (r *runRecord) over(outcome *job.Outcome) {
	defer r.writes.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if outcome == nil || outcome.Attempt != "" && outcome.Attempt != r.run.Attempt {
		return
	}
	r.run.Outcome = outcome
	r.save()
}

// save is called with r.mu held. It does not wait for the disk: the agent, and the first
// line of the output, would.
func (r *runRecord) save() {
	if r.log == nil {
		return
	}
	b, err := json.Marshal(&r.run)
	if err != nil {
		return
	}
	if r.unwritten == nil {
		r.unwritten = map[*logstore.Log][]byte{}
	}
	if r.unwritten[r.log] = b; r.writing {
		return
	}
	r.writing = true
	r.writes.Go(r.write)
}

// write writes until nothing is left to.
func (r *runRecord) write() {
	for {
		r.mu.Lock()
		unwritten := r.unwritten
		r.unwritten, r.writing = nil, len(unwritten) > 0
		r.mu.Unlock()
		if len(unwritten) == 0 {
			return
		}
		for log, b := range unwritten {
			_ = log.SetDocument(runDocument, b) // as said above
		}
	}
}

// storedRun gives what the store has of an attempt's run, without its samples. The
// error is fs.ErrNotExist where it has nothing.
func storedRun(s *logstore.Store, k logstore.Key) (*job.Run, error) {
	b, err := s.Document(k, runDocument)
	if err != nil {
		return nil, err
	}
	run := &job.Run{}
	if err := json.Unmarshal(b, run); err != nil {
		return nil, fmt.Errorf("document %q of attempt %q is damaged: %w", runDocument, k.Attempt, err)
	}
	return run, nil
}
