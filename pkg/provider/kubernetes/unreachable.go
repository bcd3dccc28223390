package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/forward"
)

// unreachedWait is how long an agent must have run and been refused before a person
// is told: it listens some 0.1 s after its start, and its Pod's end is known 1 s late.
const unreachedWait = 5 * time.Second

// unreached is the update of tries to reach the agent of a Pod that its node has
// refused for unreachedWait.
type unreached struct {
	pod     string
	refusal error
}

// tried returns what the dialer calls after each try to reach the agent of a Pod.
func (r *Run) tried(ctx context.Context, pod string) func(error) {
	var since time.Time // the first refusal in a row
	return func(refusal error) {
		if _, ok := errors.AsType[*forward.Refusal](refusal); refusal != nil && !ok {
			r.doubt(ctx, right{"create", "", "pods", "portforward"}, refusal)
			return
		}
		switch {
		case refusal == nil:
			since = time.Time{}
			r.meet(ctx)
		case since.IsZero():
			since = time.Now()
		case time.Since(since) >= unreachedWait:
			select {
			case r.updates <- unreached{pod, refusal}:
			default: // the next one will do
			}
		}
	}
}

// unreachable says once of an agent that runs that it can't be reached, and why: the
// job shares the Pod's network, and may have used it up.
func (w *watcher) unreachable(u unreached) {
	a := w.attempts[u.pod]
	if w.unreached || a.ended || a.runsSince.IsZero() || time.Since(a.runsSince) < unreachedWait {
		return
	}
	w.unreached = true
	r := w.run
	namespace := r.provider.settings.Namespace
	hint := fmt.Sprintf("to end the job: kubectl delete job -n %s %s", namespace, r.job.Name)
	if r.spec.ContainerLogs {
		hint = fmt.Sprintf("its output is in the container's log too: kubectl logs -n %s %s; ", namespace, u.pod) + hint
	}
	w.tell.Report(job.Event{Phase: job.Running, Time: time.Now(), Waiting: true,
		Detail: "the agent can't be reached: " + forwarderSaid(u.refusal.Error()) + "; " + hint})
}

// forwarderSaid cuts a refusal to what connecting came to: containerd and CRI-O wrap
// it in names that nobody asked for.
func forwarderSaid(text string) string {
	if i := strings.Index(text, "dial tcp"); i >= 0 {
		text = text[i:]
	}
	return strings.TrimSpace(text)
}
