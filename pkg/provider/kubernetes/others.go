package kubernetes

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

// A webhook of the cluster may put containers of its own into a job's Pod, such as a
// service mesh's proxy. The end of an attempt is the end of the two that hodei made; the
// Pod's phase, and so the Job, waits for the others.

// othersWait is how long other containers may keep the next attempt from following. It is the
// time that the kubelet gives a container to end.
const othersWait = 30 * time.Second

// hasEnded tells that both containers have. They are not started again.
func hasEnded(pod *corev1.Pod) bool {
	if explain.PhaseEnded(pod) {
		return true
	}
	ended := 0
	for _, s := range pod.Status.ContainerStatuses {
		if isOurs(s.Name) && s.State.Terminated != nil {
			ended++
		}
	}
	return ended == 2
}

func isOurs(container string) bool {
	return container == manifest.AgentContainer || container == manifest.JobContainer
}

// othersIn returns the containers of others that keep a Pod from ending. Init containers don't:
// the kubelet ends them.
func othersIn(pod *corev1.Pod) []string {
	if explain.PhaseEnded(pod) {
		return nil
	}
	ended := map[string]bool{}
	for _, s := range pod.Status.ContainerStatuses {
		ended[s.Name] = s.State.Terminated != nil
	}
	var others []string
	for _, c := range pod.Spec.Containers {
		if !isOurs(c.Name) && !ended[c.Name] {
			others = append(others, c.Name)
		}
	}
	return others
}

// OthersLeft are the containers of others that run on in a Pod in which both of ours have
// ended.
func OthersLeft(pod *corev1.Pod) []string {
	if !hasEnded(pod) {
		return nil
	}
	return othersIn(pod)
}

// Keeps says in words that containers of others keep a job from completing, and what
// helps; "": there are none.
func Keeps(namespace, name string, others []string) string {
	if len(others) == 0 {
		return ""
	}
	return fmt.Sprintf("the cluster added %s to the job's Pod: job %s completes once that has ended; "+
		"to end it: {hodei} delete -n %s %s",
		containerNames(others), name, namespace, name)
}

func containerNames(names []string) string {
	word := "container "
	if len(names) > 1 {
		word = "containers "
	}
	return explain.OneLine(word + strings.Join(names, ", "))
}

// Keeps is what the package's Keeps says of the latest attempt.
func (r *Run) Keeps() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Keeps(r.job.Namespace, r.job.Name, r.others)
}
