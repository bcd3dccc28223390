package agent

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hodei-jobs/hodei/agent/handover"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

const (
	// idleInterval is between two samples that nobody has asked for: enough for the
	// curve of a job that somebody asks about later, and a figure that is at most so
	// old where a container goes before its end could be measured.
	idleInterval = 10 * time.Second
	// leastInterval is what the most eager coordinator gets. Ten samples a second, sent
	// and all, were 0.37 % of a core; one was 0.05 %.
	leastInterval = 100 * time.Millisecond
)

// sampler keeps what the job has used, for all attachments. It measures as often as
// the most eager of them asks. Who reads the latest sample reads memory.
type sampler struct {
	last atomic.Pointer[hodeipb.Metrics] // never changed in place

	mu sync.Mutex
	// wishes are the intervals of the attachments that want samples.
	wishes []time.Duration
	series hodeipb.Series
	taken  uint64
	over   bool
	// changed is closed and replaced at every sample, and at the end.
	changed chan struct{}
	// wished tells run that wishes have changed.
	wished chan struct{}
}

func newSampler() *sampler {
	return &sampler{changed: make(chan struct{}), wished: make(chan struct{}, 1)}
}

// latest is the last sample; nil: there is none.
func (s *sampler) latest() *hodeipb.Metrics { return s.last.Load() }

// join makes samples come at least every interval, or leastInterval, until leave.
func (s *sampler) join(interval time.Duration) (leave func()) {
	s.mu.Lock()
	s.wishes = append(s.wishes, interval)
	s.mu.Unlock()
	s.tell()
	return func() {
		s.mu.Lock()
		i := slices.Index(s.wishes, interval) // one is as good as another
		s.wishes = slices.Delete(s.wishes, i, i+1)
		s.mu.Unlock()
		s.tell()
	}
}

func (s *sampler) tell() {
	select {
	case s.wished <- struct{}{}:
	default: // run has not seen the last change yet, and will see both
	}
}

// interval is that of the most eager.
func (s *sampler) interval() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.wishes) == 0 {
		return idleInterval
	}
	return max(min(slices.Min(s.wishes), idleInterval), leastInterval)
}

// start measures until finish, which takes the last sample, with what the launcher has
// said at its end; it returns the first and the last usage, nil where nothing could be
// measured.
func (s *sampler) start(m *meter) (finish func(*handover.Exit) (first, last *hodeipb.Usage)) {
	s.take(m.measure(), false)
	first := s.latest().GetUsage()
	stop := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() { s.run(m.measure, stop) })
	return func(exit *handover.Exit) (*hodeipb.Usage, *hodeipb.Usage) {
		close(stop)
		work.Wait()
		m.end(exit)
		s.take(m.measure(), true)
		return first, s.latest().GetUsage()
	}
}

// take keeps a sample; nil: nothing can be measured. last: no other follows.
func (s *sampler) take(m *hodeipb.Metrics, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m != nil {
		s.last.Store(m)
		s.series.Add(m, last)
		s.taken++
	}
	s.over = s.over || last
	close(s.changed)
	s.changed = make(chan struct{})
}

// run takes samples until stop is closed, the first one an interval from now. An
// interval that becomes shorter counts from the last sample.
func (s *sampler) run(measure func() *hodeipb.Metrics, stop <-chan struct{}) {
	began := time.Now()
	timer := time.NewTimer(s.interval())
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			began = time.Now()
			s.take(measure(), false)
		case <-s.wished:
		case <-stop:
			return
		}
		timer.Reset(time.Until(began.Add(s.interval())))
	}
}

// after gives the samples later than t that are still there, oldest first.
func (s *sampler) after(t time.Time) []*hodeipb.Metrics {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.series.After(t)
}

// state gives the last sample, whether it is the last of all, and what tells of the
// next.
func (s *sampler) state() (m *hodeipb.Metrics, over bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last.Load(), s.over, s.changed
}

// count is how many samples were taken.
func (s *sampler) count() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}
