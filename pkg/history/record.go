package history

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
)

// runDocument is the name under which a log store keeps a job.Run: what was asked for,
// how it started and, where the exit record can't say it, how it ended. Samples and
// exit record are the store's own.
const runDocument = "run"

// maxPhases bounds what is kept of a start: a job that waits for hours may say every
// minute what for. The first ones tell how it began, and what follows is cut.
const maxPhases = 64

// Record has the store keep, for a report, what whoever follows a job learns of each attempt. It is a Listener
// that passes on all that it is told. It requires Listener and Run. What can't be stored is missing in a report,
// which says so, and ends nothing. Its methods may be called at the same time.
type Record struct {
	// Listener is told after the Record.
	coordinator.Listener
	// Run is what is known of the job before there is an attempt: Namespace, Provider and Spec, whose
	// variables are kept without their values.
	Run job.Run
	// Store has what others have kept of an attempt; nil: nobody has.
	Store *logstore.Store
	// Before are the phases of attempts that began before the job was followed, by their names.
	Before map[string][]job.Event

	mu     sync.Mutex
	log    *logstore.Log // of the latest attempt; nil: it is not kept
	frozen bool          // its phases are known
	// unwritten are the latest documents of logs, as long as they are not written.
	unwritten map[*logstore.Log][]byte
	writing   bool
	writes    sync.WaitGroup
}

// Phase takes a phase of the latest attempt from the provider.
func (r *Record) Phase(e job.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(e)
}

func (r *Record) add(e job.Event) {
	if !r.frozen && len(r.Run.Phases) < maxPhases {
		r.Run.Phases = append(r.Run.Phases, e)
	}
}

// Attached begins with an attempt.
func (r *Record) Attached(a coordinator.Attachment) {
	r.attached(a)
	r.Listener.Attached(a)
}

func (r *Record) attached(a coordinator.Attachment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.Run.Attempt == a.Hello.Attempt {
		return
	}
	if r.Run.Attempt != "" {
		r.Run.Phases = nil // those of the attempt before it
	}
	r.Run.Attempt, r.log = a.Hello.Attempt, a.Log
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
func (r *Record) resume(hello *hodeipb.Hello) bool {
	phases := r.Before[hello.Attempt]
	if !Started(phases) {
		for i := range r.Run.Phases {
			if len(phases) > 0 && r.Run.Phases[i].Phase == job.Submitted {
				r.Run.Phases[i].Time = phases[0].Time
			}
		}
		return false
	}
	r.Run.Phases = phases
	if r.Store != nil {
		key := logstore.Key{Namespace: hello.Namespace, Job: hello.Job, Attempt: hello.Attempt, AttemptUID: hello.AttemptUid}
		if kept, err := StoredRun(r.Store, key); err == nil && len(kept.Phases) >= len(phases) {
			r.Run.Phases = kept.Phases
		}
	}
	return true
}

// State notes when the command runs.
func (r *Record) State(attempt string, state *hodeipb.State) {
	if state.Phase >= hodeipb.Phase_RUNNING {
		r.runs(attempt)
	}
	r.Listener.State(attempt, state)
}

func (r *Record) runs(attempt string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if attempt != r.Run.Attempt || r.frozen || Started(r.Run.Phases) {
		return
	}
	r.add(job.Event{Phase: job.Running, Time: time.Now(), Detail: attempt})
	r.save()
}

// Started reports whether the command was seen to run.
func Started(phases []job.Event) bool {
	return slices.ContainsFunc(phases, func(e job.Event) bool { return e.Phase == job.Running && !e.Waiting })
}

// Over keeps how the latest attempt ended; nil: nobody knows. It is called last, before the attempt's log is closed,
// and returns when all is written.
func (r *Record) Over(outcome *job.Outcome) {
	defer r.writes.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if outcome == nil || outcome.Attempt != "" && outcome.Attempt != r.Run.Attempt {
		return
	}
	r.Run.Outcome = outcome
	r.save()
}

// save is called with r.mu held. It does not wait for the disk: the agent, and the first
// line of the output, would.
func (r *Record) save() {
	if r.log == nil {
		return
	}
	run := r.Run
	run.Spec = WithoutValues(run.Spec)
	b, err := json.Marshal(&run)
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
func (r *Record) write() {
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

// StoredRun returns what a [Record] has kept of an attempt, without its samples. The error is fs.ErrNotExist if
// nothing was.
func StoredRun(s *logstore.Store, k logstore.Key) (*job.Run, error) {
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
