package session

import (
	"context"
	"errors"
	"time"

	"github.com/hodei-jobs/hodei/pkg/joblog"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// restNote is how long hodei reads the rest of a log in silence once its job is over. The
// kubelet gives out some ten thousand lines in a second, and a command prints millions.
const restNote = 5 * time.Second

// followContainer has the log of a Pod's job displayed, in place of the output
// that its agent would send.
func (f *follower) followContainer(c place.Cluster, pod string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tail != nil {
		f.tail.End() // of the attempt before
	} else {
		f.display.Say(func() error {
			f.screen.Note(joblog.Inexact)
			return f.events.Note(joblog.Inexact)
		})
	}
	f.shown = false
	f.runs(pod)
	t := joblog.NewTail(c, pod, kubernetes.ContainerLogOptions{Follow: true})
	f.tail = t
	f.display.Do(func(ctx context.Context) error {
		sink, _ := output.Unplaced(f.sink)
		err := t.Show(ctx, sink)
		if unread, ok := errors.AsType[*joblog.UnreadError](err); ok {
			f.misses(unread.Error())
			return nil
		}
		return err
	})
}
