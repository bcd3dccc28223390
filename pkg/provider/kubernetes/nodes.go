package kubernetes

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
)

const (
	// nodeLook is the time between two looks at a node that does not take a Pod up: it is
	// known for not ready some 40 s after its kubelet has died. nodeWait bounds one.
	nodeLook, nodeWait = 10 * time.Second, 2 * time.Second
	// overdueWait is how long after its grace period a deleted Pod may still be there before
	// hodei takes its node for lost. The kubelet kills at the end of the grace period, and then
	// has to unmount and to report.
	overdueWait = 30 * time.Second
)

// lookAtNode adds to the trouble with a node that has not taken up the Pod what the cluster knows of
// the node, if we may read that.
func (w *watcher) lookAtNode(ctx context.Context, now time.Time) {
	node := w.nodeToLookAt(now)
	if node == "" {
		return
	}
	if why := w.run.provider.notReady(ctx, node); why != "" {
		w.trouble = explain.UntakenVerdict(node, why)
	}
}

// notReady says since when a node is not ready, and why; "" where it is, or nobody tells us.
func (p *Provider) notReady(ctx context.Context, name string) string {
	ctx, cancel := context.WithTimeout(ctx, nodeWait)
	defer cancel()
	node, err := p.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return ""
	}
	return notReadySaid(node)
}

func notReadySaid(node *corev1.Node) string {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
			return fmt.Sprintf("node %s is not ready since %s: %s", node.Name, stamp(c.LastTransitionTime.Time), explain.OneLine(c.Message))
		}
	}
	return ""
}

// toldToEnd notes by when a Pod that is being deleted must have ended.
func (a *attempt) toldToEnd(pod *corev1.Pod, now time.Time) {
	if pod.DeletionTimestamp == nil || !a.overdue.IsZero() {
		return
	}
	var grace time.Duration
	if s := pod.DeletionGracePeriodSeconds; s != nil {
		grace = time.Duration(*s) * time.Second
	}
	a.overdue = now.Add(grace + overdueWait)
	a.disrupted, _ = disruption(pod)
}

// nodeEvent tells of an event under way that explains a silence; "": it does not.
func nodeEvent(e *corev1.Event) string {
	if e.Reason == "NodeNotReady" && e.InvolvedObject.Kind == "Pod" {
		return fmt.Sprintf("the node of %s is not ready: waiting for it", e.InvolvedObject.Name)
	}
	return ""
}
