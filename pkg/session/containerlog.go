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

// restNote is how long hodei reads the rest of a log in silence once its job is over. After that a person is told why
// it takes so long: the kubelet gives out some ten thousand lines a second, and a command may print millions.
const restNote = 5 * time.Second

// followContainer shows the log of the job's container in a Pod, in place of the output that its agent would send.
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
