package check

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// checkedNodes bounds the nodes that are looked at: each is some 10 KiB on the wire.
const checkedNodes = 100

// volumeLimits looks for nodes whose kubelet does not enforce limits of volumes. An agent whose
// start timeout is over needs them to end its Pod. Such a kubelet reports no disk at all.
func (k *Cluster) volumeLimits(ctx context.Context) Result {
	const name = "volume limits"
	nodes, err := k.CoreV1().Nodes().List(ctx, metav1.ListOptions{Limit: checkedNodes})
	if err != nil {
		return Failed(name, err)
	}
	if lax := withoutLimits(nodes.Items); len(lax) > 0 {
		return New(name, Warning,
			"let their kubelets have localStorageCapacityIsolation: true; until then, after a start that never came: {hodei} jobs",
			"not enforced on %s: a job there whose image never comes is ended by the next hodei run or hodei jobs alone",
			strings.Join(lax, ", "))
	}
	return New(name, OK, "", "enforced on every node (%d looked at)", len(nodes.Items))
}

// withoutLimits are the names of the nodes that report no disk for Pods.
func withoutLimits(nodes []corev1.Node) []string {
	var lax []string
	for _, n := range nodes {
		if _, counted := n.Status.Allocatable[corev1.ResourceEphemeralStorage]; !counted {
			lax = append(lax, n.Name)
		}
	}
	return lax
}
