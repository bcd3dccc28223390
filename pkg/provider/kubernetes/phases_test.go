package kubernetes

import (
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

func TestPodPhases(t *testing.T) {
	made := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	at := func(seconds int) metav1.Time { return metav1.NewTime(made.Add(time.Duration(seconds) * time.Second)) }
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "x", CreationTimestamp: at(0)}}
	scheduled := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: at(5)}
	running := func(name string, seconds int) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at(seconds)}}}
	}
	ended := func(name, reason string, seconds int) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name,
			State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: reason, StartedAt: at(seconds)}}}
	}
	for _, test := range []struct {
		name       string
		only       bool
		conditions []corev1.PodCondition
		containers []corev1.ContainerStatus
		want       string
	}{
		{"just made", true, nil, nil, "submitted 0"},
		{"one of several", false, nil, nil, "submitted 3"},
		{"not to be scheduled", true,
			[]corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, LastTransitionTime: at(4)}}, nil,
			"submitted 0"},
		{"waiting", true, []corev1.PodCondition{scheduled}, []corev1.ContainerStatus{{Name: manifest.AgentContainer},
			{Name: manifest.JobContainer}},
			"submitted 0, scheduled 5"},
		{"runs", true, []corev1.PodCondition{scheduled}, []corev1.ContainerStatus{running(manifest.JobContainer, 7),
			running(manifest.AgentContainer, 6)},
			"submitted 0, scheduled 5, agent up 6, running 7"},
		{"in one second", true, []corev1.PodCondition{scheduled},
			[]corev1.ContainerStatus{running(manifest.JobContainer, 5), running(manifest.AgentContainer, 5)},
			"submitted 0, scheduled 5, agent up 5, running 5"},
		{"over", true, []corev1.PodCondition{scheduled},
			[]corev1.ContainerStatus{ended(manifest.AgentContainer, "Completed", 6), ended(manifest.JobContainer, "Error", 7)},
			"submitted 0, scheduled 5, agent up 6, running 7"},
		{"it could not be started", true, []corev1.PodCondition{scheduled},
			[]corev1.ContainerStatus{ended(manifest.AgentContainer, "Error", 6), ended(manifest.JobContainer, "StartError", 7)},
			"submitted 0, scheduled 5, agent up 6"},
	} {
		t.Run(test.name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "x-1", CreationTimestamp: at(3)},
				Status: corev1.PodStatus{Conditions: test.conditions, ContainerStatuses: test.containers}}
			var got []string
			for _, e := range podPhases(j, pod, test.only) {
				got = append(got, fmt.Sprintf("%s %.0f", e.Phase, e.Time.Sub(made).Seconds()))
			}
			if strings.Join(got, ", ") != test.want {
				t.Errorf("got %s, want %s", strings.Join(got, ", "), test.want)
			}
		})
	}
}
