package top

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

const (
	// meeting is what a job waits for while we connect to its agent.
	meeting = "meeting its agent"
	// againWait is how long a job that could not be measured is left alone: the longest back-off of its tunnel.
	againWait = 15 * time.Second
)

// running is a hodei top that runs. One goroutine looks for jobs, one shows them, and each job that is measured has
// one; they meet at the board.
type running struct {
	*Options
	board *board

	// For the goroutine that looks:

	meters map[jobKey]*measured
	ways   map[string]*way // by namespace

	// For the goroutine that shows:

	contact kubernetes.Contact
	said    map[jobKey]string // what was last said of why a job on the board has no samples
	idle    bool              // it was said that no job runs
}

// measured is a job that has a meter, or had one.
type measured struct {
	uid    types.UID
	cancel context.CancelFunc
	done   chan struct{} // closed when the meter has left
	failed time.Time     // when the meter failed; zero: it has not. To be read once done is closed
	full   bool          // there was no room for a meter
}

// way is how the jobs of a namespace are reached.
type way struct {
	provider *kubernetes.Provider
	may      bool // we may open a tunnel
}

func newRunning(o *Options) *running {
	stays := time.Duration(0)
	switch {
	case o.live && o.name != "":
		stays = math.MaxInt64 // it ends with the job
	case o.live:
		stays = endedStays
	}
	return &running{Options: o, board: newBoard(stays), meters: map[jobKey]*measured{}, ways: map[string]*way{}, said: map[jobKey]string{}}
}

// close ends all measuring, and waits for it to end.
func (t *running) close() {
	for _, m := range t.meters {
		m.cancel()
	}
	for _, m := range t.meters {
		<-m.done
	}
}

// over reports whether the job that was named has ended.
func (t *running) over() bool { return t.name != "" && t.board.ended(t.key()) }

// key names the job that was named on the command line.
func (t *running) key() jobKey { return jobKey{t.namespace, t.name} }

// looking polls the cluster every lookEvery in its own goroutine, so drawing never waits for
// it. looked tells how each look went; stop ends it, at once.
func (t *running) looking(ctx context.Context) (looked <-chan error, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan error)
	var work sync.WaitGroup
	work.Go(func() {
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			err := t.look(ctx)
			select {
			case results <- err:
			case <-ctx.Done():
				return
			}
		}
	})
	return results, func() {
		cancel()
		work.Wait()
	}
}

// look finds the jobs, begins to measure those that have come, and stops measuring those that have gone.
func (t *running) look(ctx context.Context) error {
	found, err := t.find(ctx)
	if err != nil {
		return err
	}
	there := map[jobKey]*kubernetes.Found{}
	for _, f := range found {
		there[jobKey{f.Job.Namespace, f.Job.Name}] = f
	}
	for k, m := range t.meters {
		f := there[k]
		switch {
		case f == nil || f.Job.UID != m.uid:
			t.end(k, &job.Outcome{Cause: job.Unknown, Message: "the job was deleted"})
		case f.Finished:
			t.end(k, f.Outcome)
		}
	}
	for _, f := range found {
		k := jobKey{f.Job.Namespace, f.Job.Name}
		m := t.meters[k]
		left := m == nil && k != t.key() && lingers(f) // it ended before we came
		if !f.Finished && !left && !t.board.ended(k) && (m == nil || m.again()) {
			t.begin(ctx, k, f)
		}
	}
	return nil
}

// lingers reports whether the command of a job has ended and no other attempt is known to follow.
func lingers(f *kubernetes.Found) bool {
	n := len(f.Attempts)
	return n > 0 && f.Attempts[n-1].Left
}

// find asks the cluster for the jobs to show. A job that was named and deleted while it was measured is none.
func (t *running) find(ctx context.Context) ([]*kubernetes.Found, error) {
	if t.name == "" {
		return t.list.FindAll(ctx, t.selector)
	}
	found, err := t.list.Find(ctx, t.name)
	switch {
	case errors.Is(err, kubernetes.ErrNotFound) && t.meters[t.key()] != nil:
		return nil, nil // it was deleted
	case err != nil:
		return nil, err
	case found.Finished && t.meters[t.key()] == nil:
		return nil, &job.Hinted{
			Err:  fmt.Errorf("job %s has ended: %s", t.name, ui.Printable(found.Outcome.Summary())),
			Hint: "{hodei} describe " + t.name,
		}
	}
	return []*kubernetes.Found{found}, nil
}

// again reports whether to try again to measure a job that could not be measured.
func (m *measured) again() bool {
	select {
	case <-m.done:
		return m.full || !m.failed.IsZero() && time.Since(m.failed) >= againWait
	default:
		return false
	}
}

// end stops measuring a job that has ended as o says. Its agent may have told the board of the end already.
func (t *running) end(k jobKey, o *job.Outcome) {
	m := t.meters[k]
	m.cancel()
	<-m.done
	delete(t.meters, k)
	t.board.take(k, follow.Reading{Outcome: o})
}

// begin starts to measure a job, until it ends, if there is room for one more.
func (t *running) begin(ctx context.Context, k jobKey, f *kubernetes.Found) {
	m := &measured{uid: f.Job.UID, cancel: func() {}, done: make(chan struct{})}
	t.meters[k] = m
	if t.busy() >= follow.MaxJobs {
		m.full = true
		close(m.done)
		t.board.set(k, fmt.Sprintf("not measured: %d jobs are, at once; choose with -l", follow.MaxJobs))
		return
	}
	w, err := t.way(ctx, k.namespace)
	if err == nil && !w.may {
		err = errors.New("the tunnel to its agent is forbidden (create pods/portforward)")
	}
	if err != nil {
		m.failed = time.Now()
		close(m.done)
		t.board.set(k, err.Error())
		return
	}
	t.board.set(k, starts(f))
	ctx, m.cancel = context.WithCancel(ctx)
	go func() {
		defer close(m.done)
		defer m.cancel()
		if err := t.measure(ctx, k, w.provider, f); err != nil && ctx.Err() == nil {
			m.failed = time.Now()
			t.board.set(k, err.Error())
		}
	}()
}

// starts says what a job waits for that is about to be measured.
func starts(f *kubernetes.Found) string {
	if len(f.Attempts) == 0 {
		return "waiting for its Pod"
	}
	if last := f.Attempts[len(f.Attempts)-1]; !last.Running {
		return "waiting for its agent"
	}
	return meeting
}

// measure puts readings of a job onto the board until the job ends.
func (t *running) measure(ctx context.Context, k jobKey, p *kubernetes.Provider, f *kubernetes.Found) error {
	run, err := p.Attach(ctx, f, kubernetes.RunOptions{})
	if err != nil {
		return err
	}
	m := &follow.Meter{
		Job: run, Spec: f.Spec, Namespace: k.namespace, Interval: t.interval, Tell: func(r follow.Reading) { t.board.take(k, r) },
		// In a cell of a table there is no room for where in hodei it happened.
		TurnedAway: func(f *coordinator.Fault) {
			t.board.take(k, follow.Reading{Waiting: follow.FaultNote(&coordinator.Fault{Message: f.Message})})
		},
	}
	return m.Run(ctx)
}

// busy counts the meters that run, but for the one that is about to begin.
func (t *running) busy() int {
	n := -1 // begin has put its own in already
	for _, m := range t.meters {
		select {
		case <-m.done:
		default:
			n++
		}
	}
	return n
}

// way returns how the jobs of a namespace are reached. It finds that out once for each namespace.
func (t *running) way(ctx context.Context, namespace string) (*way, error) {
	if w := t.ways[namespace]; w != nil {
		return w, nil
	}
	p, err := t.in(namespace)
	if err != nil {
		return nil, err
	}
	may, err := p.MayTunnel(ctx)
	if err != nil {
		return nil, err
	}
	t.ways[namespace] = &way{p, may}
	return t.ways[namespace], nil
}
