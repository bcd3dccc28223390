package kubernetes

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestNotReady(t *testing.T) {
	at := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	for _, test := range []struct {
		name       string
		conditions []corev1.NodeCondition
		want       string
	}{
		{"nothing known", nil, ""},
		{"ready", []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}, ""},
		{"its kubelet is silent", []corev1.NodeCondition{{Type: corev1.NodeDiskPressure, Status: corev1.ConditionFalse},
			{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, LastTransitionTime: at,
				Message: "Kubelet stopped\nposting node status."}},
			"node n1 is not ready since " + stamp(at.Time) + ": Kubelet stopped posting node status."},
	} {
		t.Run(test.name, func(t *testing.T) {
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{Conditions: test.conditions}}
			if got := notReadySaid(node); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
