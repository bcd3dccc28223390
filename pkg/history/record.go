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
	"github.com/hodei-jobs/hodei/pkg/wire"
)

// runDocument is the name under which a log store keeps a job.Run: what was asked for, how it started and how it
// ended. The store keeps samples and the exit record apart from it.
const runDocument = "run"

// maxPhases bounds what is kept of a start: a job that waits for hours may say every minute what for. The first
// phases are kept, for they tell how it began.
const maxPhases = 64

// Record stores what is learned of each attempt while a job is followed. It is a coordinator.Listener that passes on
// all that it is told. Listener and Run are required. What can't be stored is left out without an error, and a report
// says that it is missing. The methods may be called at the same time.
type Record struct {
	// Listener is told after the Record.
	coordinator.Listener
	// Run is what is known of the job before there is an attempt: Namespace, Provider and Spec, whose
	// variables are kept without their values.
	Run job.Run
	// Store is where earlier followers have kept what they learned; nil: there were none.
	Store *logstore.Store
	// Before has the phases of attempts that began before the job was followed, by the attempts' names.
	Before map[string][]job.Event

	mu     sync.Mutex
	log    *logstore.Log // of the latest attempt; nil: nothing of it is kept
	frozen bool          // its phases are complete
	// unwritten has the latest document of each log that is still to be written.
	unwritten map[*logstore.Log][]byte
	writing   bool
	writes    sync.WaitGroup
}

// Phase adds a phase of the latest attempt, which the provider has reported.
func (r *Record) Phase(e job.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(e)
}

// add adds a phase. It is called with r.mu held.
func (r *Record) add(e job.Event) {
	if !r.frozen && len(r.Run.Phases) < maxPhases {
		r.Run.Phases = append(r.Run.Phases, e)
	}
}

// Attached begins the record of an attempt.
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

// resume completes the phases of an attempt that began before we came. If its command already ran, it takes all of
// them from whoever was there, and reports true. Otherwise it takes the time at which the job was submitted.
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

// State adds the phase Running once the command runs.
func (r *Record) State(attempt string, state *hodeipb.State) {
	if wire.Ran(state) {
		r.runs(attempt)
	}
	r.Listener.State(attempt, state)
}

// runs adds the phase Running, unless it is there.
func (r *Record) runs(attempt string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if attempt != r.Run.Attempt || r.frozen || Started(r.Run.Phases) {
		return
	}
	r.add(job.Event{Phase: job.Running, Time: time.Now(), Detail: attempt})
	r.save()
}

// Started reports whether phases say that the command has run.
func Started(phases []job.Event) bool {
	return slices.ContainsFunc(phases, func(e job.Event) bool { return e.Phase == job.Running && !e.Waiting })
}

// Over adds how the latest attempt ended; nil: nobody knows. It is called last, before the attempt's log is closed,
// and returns once everything is written.
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

// save has the record written. It is called with r.mu held, and does not wait for the disk, because the agent and the
// first line of output would wait too.
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

// write writes documents until none is left.
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
			_ = log.SetDocument(runDocument, b) // Record's comment says why
		}
	}
}

// StoredRun returns what a [Record] has stored of an attempt, without its samples. If there is nothing, the error is
// fs.ErrNotExist.
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
