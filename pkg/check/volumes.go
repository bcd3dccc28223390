package check

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// checkedNodes bounds how many nodes are checked: each is some 10 KiB on the wire.
const checkedNodes = 100

// volumeLimits checks that the nodes' kubelets enforce limits of volumes. After a start timeout, the agent needs such
// a limit to end its Pod. A kubelet that enforces none reports no disk at all.
func (k *Cluster) volumeLimits(ctx context.Context) Result {
	const name = "volume limits"
	nodes, err := k.CoreV1().Nodes().List(ctx, metav1.ListOptions{Limit: checkedNodes})
	if err != nil {
		return Failed(name, err)
	}
	if lax := withoutLimits(nodes.Items); len(lax) > 0 {
		const hint = "let their kubelets have localStorageCapacityIsolation: true; " +
			"until then, after a start that never came: {hodei} jobs"
		return New(name, Warning, hint,
			"not enforced on %s: a job there whose image never comes is ended by the next hodei run or hodei jobs alone",
			strings.Join(lax, ", "))
	}
	return New(name, OK, "", "enforced on every node (%d looked at)", len(nodes.Items))
}

// withoutLimits returns the names of the nodes that report no disk for Pods.
func withoutLimits(nodes []corev1.Node) []string {
	var lax []string
	for _, n := range nodes {
		if _, counted := n.Status.Allocatable[corev1.ResourceEphemeralStorage]; !counted {
			lax = append(lax, n.Name)
		}
	}
	return lax
}
