package cli

import (
	"context"
	"errors"
	"sync"

	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// containerTail is the container's log of an attempt: of one that was there when we
// came the part that is wanted.
func (o *logsOptions) containerTail(c *kubernetes.Provider, pod string, there, follow bool) *tail {
	options := kubernetes.ContainerLogOptions{Follow: follow}
	if there {
		options.Since = o.since
	}
	if there && o.tail >= 0 {
		lines := int64(o.tail)
		options.TailLines = &lines
	}
	if o.stream != hodeipb.Stream_STREAM_UNSPECIFIED {
		options.Stream = output.StreamName(o.stream)
	}
	return newTail(place.Cluster{Provider: c}, pod, options)
}

// containerSink is the job's sink, which says on stderr what its output is.
func (o *logsOptions) containerSink(name string) *notedSink {
	s, events := output.Unplaced(o.sink(name))
	return &notedSink{Sink: s, note: func() error {
		o.screen.Note(inexact)
		return events.Note(inexact)
	}}
}

// showContainer shows what there is of the container's log of an attempt that has
// a Pod.
func (o *logsOptions) showContainer(ctx context.Context, j *knownJob, a *knownAttempt) error {
	s := o.containerSink(j.name)
	t := o.containerTail(o.cluster, a.name, true, false)
	err := t.show(ctx, s)
	part := o.isPart(t)
	copied := j.found.Spec.ContainerLogs
	printed := uint64(0)
	if a.pod.Outcome != nil {
		printed = a.pod.Outcome.OutputBytes
	}
	switch unread, ok := errors.AsType[*unreadError](err); {
	case ok && !copied:
		o.screen.Note(unread.Error())
		return gone(j.name, a.name, printed)
	case err != nil:
		return err
	case part && s.noted:
		return nil
	case s.noted:
		return o.compare(j, t, a.pod.Outcome)
	// Nothing is what a job has printed that says so, or that copies it there.
	case !copied, !part && printed > 0:
		return gone(j.name, a.name, printed)
	}
	return nil
}

// isPart tells that a container's log was not asked for from its beginning, or not for
// both streams. All lines are fewer than so many last ones.
func (o *logsOptions) isPart(t *tail) bool {
	return t.options.TailLines != nil && t.lines >= o.tail || !t.options.Since.IsZero() || t.options.Stream != ""
}

// compare says what the container's log lacks of what an attempt has printed that ended
// with outcome; nil: it runs.
func (o *logsOptions) compare(j *knownJob, t *tail, outcome *job.Outcome) error {
	if outcome == nil {
		return nil
	}
	if g, missing := t.missing(outcome); missing {
		return o.saying(j.name).Gap(g)
	}
	if t.offset == 0 {
		o.silent(t.pod, outcome)
	}
	return nil
}

// followContainers shows the container's log of an attempt, nil is the next one, and,
// unless it was asked for alone, of those that come, to the job's end.
func (o *logsOptions) followContainers(ctx context.Context, j *knownJob, a *knownAttempt) error {
	run, err := o.cluster.Attach(ctx, j.found, kubernetes.RunOptions{NoTunnel: true})
	if err != nil {
		return err
	}
	defer run.Close()
	watching, stop := context.WithCancel(ctx)
	tails := make(chan *tail)
	over, ended := follow.NewEnd()
	var work sync.WaitGroup
	work.Go(func() {
		latest := &tail{end: func() {}}
		outcome, err := run.Watch(watching, job.Observer{Report: func(e job.Event) {
			switch {
			case e.Waiting && e.Phase == job.Running: // for the cluster
				o.screen.Note(e.Detail)
				return
			case e.Waiting || e.Phase != job.Running:
				return
			}
			latest.end()
			latest = o.containerTail(o.cluster, e.Detail, a != nil && a.name == e.Detail, true)
			select {
			case tails <- latest:
			case <-watching.Done():
			}
		}})
		latest.end()
		ended(outcome, err)
	})
	err = o.showTails(ctx, over, j, a, tails)
	stop()
	work.Wait()
	if errors.Is(err, follow.ErrNotMet) {
		attempt := ""
		if a != nil {
			attempt = a.name
		}
		return o.showEnded(ctx, j, attempt)
	}
	return err
}

// showTails shows the containers' logs as they come, from the wanted one on, until
// over ends.
func (o *logsOptions) showTails(ctx context.Context, over *follow.End, j *knownJob, a *knownAttempt, tails <-chan *tail) error {
	s := o.containerSink(j.name)
	for last := (*tail)(nil); ; {
		select {
		case t := <-tails:
			switch {
			case a != nil && last == nil && t.pod != a.name: // one that was not asked for
				continue
			case o.attempt > 0 && last != nil: // one behind it
				return nil
			}
			last = t
			if err := t.show(ctx, s); err != nil {
				return err
			}
		case <-over.Done():
			switch {
			case over.Outcome == nil:
				return context.Cause(over)
			case last == nil:
				return follow.ErrNotMet
			case o.isPart(last) || over.Outcome.Attempt != "" && over.Outcome.Attempt != last.pod:
				return nil
			}
			return o.compare(j, last, over.Outcome)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// notedSink says something before the first byte.
type notedSink struct {
	output.Sink
	note  func() error
	noted bool
}

func (s *notedSink) Record(attempt string, offset uint64, r *hodeipb.Record, data []byte) error {
	if !s.noted {
		s.noted = true
		if err := s.note(); err != nil {
			return err
		}
	}
	return s.Sink.Record(attempt, offset, r, data)
}
