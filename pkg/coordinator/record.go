package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc/mem"

	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

// Listener is told what a [Recorder] has taken. Calls for one attempt come one
// after the other, those for two attempts may overlap. It must not wait for
// whoever reads the output: the Recorder would store no more of it.
type Listener interface {
	// Attached is told at every attachment, before anything of it is stored.
	Attached(a Attachment)
	// State tells a new state of an attempt.
	State(attempt string, state *hodeipb.State)
	// Metrics tells a sample of an attempt, later than those before.
	Metrics(attempt string, m *hodeipb.Metrics)
	// Exited tells that the record of an attempt is stored, and all its output.
	Exited(attempt string, record *hodeipb.ExitRecord)
	// Failed tells that output could not be stored, or that what is stored does not
	// fit what the agent has. The agent keeps it, and will offer it again.
	Failed(attempt string, err error)
}

// Attachment is an attempt that has attached.
type Attachment struct {
	Hello *hodeipb.Hello
	// Log is where its output is stored from now on, the same one at every
	// attachment. It is open until [Recorder.Close]. Nil if nothing is to be stored.
	Log *logstore.Log
	// Temporary is why Log goes with the Recorder; nil if it stays in the store.
	Temporary error
}

// ErrShort is why a log is temporary that begins, as Begin wanted, behind the end
// of what is stored.
var ErrShort = errors.New("it begins behind the end of what is stored")

// Recorder is a [Follower] that keeps the output of a job's attempts in a log
// store, so that what is acknowledged can be read again. Listener is required.
// Close it once the server is closed.
type Recorder struct {
	// Store keeps the output; nil: nothing is, which is for a silent [Server].
	Store *logstore.Store
	// JobUID tells jobs of the same name apart; may be empty.
	JobUID string
	// Begin says from which offset on an attempt's output is wanted; nil: from the
	// start. It is asked once for each attempt, also for those that come later. Where
	// the store has less than that, a temporary log begins there.
	Begin func(*hodeipb.Hello) uint64
	// Keep refuses an attempt rather than to take its output into a temporary log: for
	// who shows nothing, and is there to keep it.
	Keep     bool
	Listener Listener

	mu   sync.Mutex
	logs map[string]*recorded // by the attempt's name
}

// recorded is the log of an attempt, why it is temporary, and its samples.
type recorded struct {
	*logstore.Log
	temporary error

	samples hodeipb.Series
	unsaved bool // samples has what its document has not
}

// Attached opens the attempt's log and returns its end. Output of which only a part
// is wanted, or which another process keeps, is only looked at.
func (r *Recorder) Attached(hello *hodeipb.Hello) (Resume, error) {
	if r.Store == nil {
		r.Listener.Attached(Attachment{Hello: hello})
		return Resume{}, nil
	}
	kept, err := r.open(hello)
	if err != nil {
		r.Listener.Failed(hello.Attempt, err)
		return Resume{}, err
	}
	_, end := kept.Extent()
	if end > hello.Extent.End {
		err := fmt.Errorf("the log of %s is stored up to offset %d, its agent has it up to %d: they are not of the same attempt",
			hello.Attempt, end, hello.Extent.End)
		r.Listener.Failed(hello.Attempt, err)
		return Resume{}, err
	}
	r.Listener.Attached(Attachment{Hello: hello, Log: kept.Log, Temporary: kept.temporary})
	return Resume{
		Offset:       end,
		Transient:    errors.Is(kept.temporary, ErrShort) || errors.Is(kept.temporary, logstore.ErrInUse),
		MetricsAfter: kept.samples.Last(),
	}, nil
}

// open returns the attempt's log, and why it is a temporary one.
func (r *Recorder) open(hello *hodeipb.Hello) (*recorded, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if kept, ok := r.logs[hello.Attempt]; ok {
		return kept, nil
	}
	var log *logstore.Log
	var temporary, err error
	key := logstore.Key{Namespace: hello.Namespace, Job: hello.Job, JobUID: r.JobUID, Attempt: hello.Attempt, AttemptUID: hello.AttemptUid}
	begin, short := uint64(0), false
	if r.Begin != nil {
		begin = r.Begin(hello)
		short = begin > 0 && r.short(key, begin)
	}
	if short {
		temporary = ErrShort
	} else if log, err = r.Store.Create(key, 0); err != nil {
		temporary = err // another hodei writes it, or this disk does not take it
	}
	if temporary != nil {
		if r.Keep {
			return nil, temporary
		}
		if log, err = r.Store.Temp(key, begin); err != nil {
			return nil, err
		}
	}
	if r.logs == nil {
		r.logs = map[string]*recorded{}
	}
	kept := &recorded{Log: log, temporary: temporary}
	for _, m := range r.earlier(key) {
		kept.samples.Add(m, false)
	}
	r.logs[hello.Attempt] = kept
	return kept, nil
}

// earlier gives the samples that the store has of an attempt.
func (r *Recorder) earlier(key logstore.Key) []*hodeipb.Metrics {
	samples, _ := Samples(r.Store, key) // what can't be read is asked for again
	return samples
}

// short tells that the store has nothing of the attempt next to offset begin.
func (r *Recorder) short(key logstore.Key, begin uint64) bool {
	attempts, _ := r.Store.Find(key.Namespace, key.Job) // what can't be read is not there
	for _, a := range attempts {
		if a.Key.AttemptUID == key.AttemptUID && a.End >= begin {
			return false
		}
	}
	return true
}

func (r *Recorder) log(attempt string) *recorded {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.logs[attempt]
}

// State passes the state on.
func (r *Recorder) State(attempt string, state *hodeipb.State) { r.Listener.State(attempt, state) }

// Metrics keeps the sample, and passes it on.
func (r *Recorder) Metrics(attempt string, m *hodeipb.Metrics) {
	if log := r.log(attempt); log != nil {
		log.samples.Add(m, false)
		log.unsaved = true
	}
	r.Listener.Metrics(attempt, m)
}

// Output appends the batch to the attempt's log.
func (r *Recorder) Output(ctx context.Context, attempt string, b *hodeipb.Batch, data mem.BufferSlice) error {
	log := r.log(attempt)
	if log == nil {
		return fmt.Errorf("output of %s, which was not asked for", attempt)
	}
	b.Encoding = hodeipb.Encoding_IDENTITY // of the data, which have been decoded
	err := log.Append(ctx, b, data)
	if err != nil && ctx.Err() == nil { // else only the attachment has ended
		r.Listener.Failed(attempt, err)
	}
	return err
}

// Exited completes the attempt's log.
func (r *Recorder) Exited(attempt string, record *hodeipb.ExitRecord) error {
	// Also where it is there already: whoever stored it may not have come to syncing.
	if log := r.log(attempt); log != nil {
		last := &hodeipb.Metrics{Time: record.Finished, Usage: record.Usage}
		if record.Usage != nil && wire.CheckMetrics(last) == nil {
			log.samples.Add(last, true)
			log.unsaved = true
		}
		if err := log.SetExit(record); err != nil {
			r.Listener.Failed(attempt, err)
			return err
		}
		log.saveSamples() // what has no curve has still ended; who hears of the end finds both
	}
	r.Listener.Exited(attempt, record)
	return nil
}

// Close closes the logs, and removes the temporary ones. Whoever still reads
// them gets an error.
func (r *Recorder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var err error
	for attempt, log := range r.logs {
		log.saveSamples()
		err = errors.Join(err, log.Close())
		delete(r.logs, attempt)
	}
	return err
}
