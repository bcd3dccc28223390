package joblog

import (
	"context"
	"errors"

	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// Inexact is the note on output that comes from a container's log.
const Inexact = "this is the container's log: both streams as one, without what the kubelet has cut off"

// containerTail returns the container's log of an attempt. there is true if the attempt was there when we came: then
// Since and Tail apply to it.
func (v *Viewer) containerTail(c *kubernetes.Provider, pod string, there, follow bool) *Tail {
	options := kubernetes.ContainerLogOptions{Follow: follow}
	if there {
		options.Since = v.Since
	}
	if there && v.Tail >= 0 {
		lines := int64(v.Tail)
		options.TailLines = &lines
	}
	if v.Stream != hodeipb.Stream_STREAM_UNSPECIFIED {
		options.Stream = output.StreamName(v.Stream)
	}
	return NewTail(place.Cluster{Provider: c}, pod, options)
}

// containerSink returns the job's sink, which notes before the first byte that the output is Inexact.
func (v *Viewer) containerSink(j *history.Job) *notedSink {
	s, events := output.Unplaced(v.sinkOf(j))
	return &notedSink{Sink: s, note: func() error {
		v.finder.Note(Inexact)
		return events.Note(Inexact)
	}}
}

// showContainer shows the container's log of an attempt that has a Pod, as far as it goes now.
func (v *Viewer) showContainer(ctx context.Context, j *history.Job, a *history.Attempt) error {
	s := v.containerSink(j)
	t := v.containerTail(v.finder.Cluster, a.Name, true, false)
	err := t.Show(ctx, s)
	part := v.isPart(t)
	copied := j.Found.Spec.ContainerLogs
	printed := uint64(0)
	if a.Pod.Outcome != nil {
		printed = a.Pod.Outcome.OutputBytes
	}
	switch unread, ok := errors.AsType[*UnreadError](err); {
	case ok && !copied:
		v.finder.Note(unread.Error())
		return gone(j.Name, a.Name, printed)
	case err != nil:
		return err
	case part && s.noted:
		return nil
	case s.noted:
		return v.compare(j, t, a.Pod.Outcome)
	// The log is empty. That is right only for a job that copies its output there and has printed nothing.
	case !copied, !part && printed > 0:
		return gone(j.Name, a.Name, printed)
	}
	return nil
}

// isPart reports whether only a part of a container's log was shown: not from its beginning, or not both streams. If
// it has fewer lines than Tail, all of it was.
func (v *Viewer) isPart(t *Tail) bool {
	return t.options.TailLines != nil && t.lines >= v.Tail || !t.options.Since.IsZero() || t.options.Stream != ""
}

// compare tells of output that an attempt has printed and the container's log lacks. outcome is how the attempt ended;
// nil: it runs.
func (v *Viewer) compare(j *history.Job, t *Tail, outcome *job.Outcome) error {
	if outcome == nil {
		return nil
	}
	if g, missing := t.Missing(outcome); missing {
		return v.saying(j).Gap(g)
	}
	if t.offset == 0 {
		v.silent(t.pod, outcome)
	}
	return nil
}

// followContainers shows the container's log of an attempt, or of the next one if a is nil, until it ends. Unless that
// attempt alone was asked for, it goes on with those that follow, to the job's end.
func (v *Viewer) followContainers(ctx context.Context, j *history.Job, a *history.Attempt) error {
	cluster := v.finder.Cluster
	run, err := cluster.Attach(ctx, j.Found, kubernetes.RunOptions{NoTunnel: true})
	if err != nil {
		return err
	}
	defer run.Close()
	wanted := ""
	if a != nil {
		wanted = a.Name
	}
	showing, stop := context.WithCancel(ctx)
	defer stop()
	tails := make(chan *Tail)
	var latest *Tail // only Report changes it, which is not called any more once the job is over
	endLatest := func() {
		if latest != nil {
			latest.End()
		}
	}
	attachment := &follow.Attachment{Job: run, Unserved: true, Report: func(e job.Event) {
		switch {
		case e.Waiting && e.Phase == job.Running: // the cluster does not answer
			v.finder.Note(e.Detail)
			return
		case e.Waiting || e.Phase != job.Running:
			return
		}
		endLatest()
		latest = v.containerTail(cluster, e.Detail, wanted == e.Detail, true)
		select {
		case tails <- latest:
		case <-showing.Done():
		}
	}}
	err = attachment.Run(ctx, func(ctx context.Context, e *follow.Events) error {
		defer stop()
		defer context.AfterFunc(e.Over, endLatest)()
		return v.showTails(ctx, e.Over, j, wanted, tails)
	})
	endLatest()
	if errors.Is(err, follow.ErrNotMet) {
		return v.ShowEnded(ctx, j, wanted)
	}
	return err
}

// showTails shows the containers' logs as they come, until over ends. It begins with that of the wanted attempt, or
// with the first one if wanted is empty.
func (v *Viewer) showTails(ctx context.Context, over *follow.End, j *history.Job, wanted string, tails <-chan *Tail) error {
	s := v.containerSink(j)
	for last := (*Tail)(nil); ; {
		select {
		case t := <-tails:
			switch {
			case wanted != "" && last == nil && t.pod != wanted: // before the one that was asked for
				continue
			case v.Attempt > 0 && last != nil: // after it
				return nil
			}
			last = t
			if err := t.Show(ctx, s); err != nil {
				return err
			}
		case <-over.Done():
			switch {
			case over.Outcome == nil:
				return context.Cause(over)
			case last == nil:
				return follow.ErrNotMet
			case v.isPart(last) || over.Outcome.Attempt != "" && over.Outcome.Attempt != last.pod:
				return nil
			}
			return v.compare(j, last, over.Outcome)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// notedSink is a sink that calls note before the first byte.
type notedSink struct {
	output.Sink
	note  func() error
	noted bool
}

// Record passes a record on, after the note.
func (s *notedSink) Record(attempt string, offset uint64, r *hodeipb.Record, data []byte) error {
	if !s.noted {
		s.noted = true
		if err := s.note(); err != nil {
			return err
		}
	}
	return s.Sink.Record(attempt, offset, r, data)
}
