package explain

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

// Verdict is what a Pod, or an event about it, says of a start. The zero Verdict: nothing is wrong.
type Verdict struct {
	// Waiting is why nothing happens yet; empty: nothing is wrong.
	Waiting string
	// Failure ends the job: at once, or after the grace.
	Failure *job.Failure
	Grace   time.Duration
	// After is how long it lasts before hodei says so; 0 is as long as of any other start.
	After time.Duration
	// Node is the one that has not taken up the Pod.
	Node string
}

// Pod says what keeps a Pod from running its command.
func Pod(pod *corev1.Pod) Verdict {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			hint := "ask for less with --cpu and --memory, or see: kubectl describe nodes"
			if name := pod.Labels[manifest.LabelProvider]; name != "" && !strings.Contains(c.Message, "Insufficient ") {
				// a node selector, a taint, a volume: the provider's, not the job's
				hint = "see what the provider asks for: {hodei} provider get " + name + ", and what there is: kubectl describe nodes"
			}
			return Verdict{
				Waiting: "no node takes it: " + OneLine(c.Message),
				Failure: &job.Failure{Cause: job.Unschedulable, Message: "no node takes the job: " + OneLine(c.Message), Hint: hint},
				Grace:   forever,
			}
		}
	}
	if untaken(pod) {
		return UntakenVerdict(pod.Spec.NodeName, "")
	}
	for _, s := range pod.Status.ContainerStatuses {
		v := explainContainer(pod, s)
		if v.Failure == nil {
			continue
		}
		if !doomed(pod) {
			return v
		}
		// The job's container was started without a launcher in place, and won't be
		// again. Why, the agent's container knows: its image can't be pulled, or its
		// hook, whose own words the kubelet drops, has left one in its message.
		if agent := AgentEnd(pod); agent != nil && agent.Message != "" {
			v.Failure.Message = "the launcher was not put in place: " + OneLine(agent.Message)
			v.Failure.Hint = cmp.Or(ClockHint(v.Failure.Message, pod.Namespace, pod.Labels[manifest.LabelJob]),
				"kubectl describe nodes, or another worker's image: {hodei} provider set NAME --image IMAGE")
			v.Grace = 0
		} else if s.Name == manifest.AgentContainer {
			v.Grace = 0
		}
		return v
	}
	return Verdict{}
}

// doomed tells a Pod whose job's container the runtime could not start.
func doomed(pod *corev1.Pod) bool {
	for _, s := range pod.Status.ContainerStatuses {
		if t := s.State.Terminated; s.Name == manifest.JobContainer && t != nil && NeverRan(t) {
			return true
		}
	}
	return false
}

// AgentEnd is how the agent's container ended; nil: it has not.
func AgentEnd(pod *corev1.Pod) *corev1.ContainerStateTerminated {
	for _, s := range pod.Status.ContainerStatuses {
		if s.Name == manifest.AgentContainer {
			return s.State.Terminated
		}
	}
	return nil
}

// AgentRuns tells that the agent's container does.
func AgentRuns(pod *corev1.Pod) bool {
	for _, s := range pod.Status.ContainerStatuses {
		if s.Name == manifest.AgentContainer {
			return s.State.Running != nil
		}
	}
	return false
}

// NeverRan tells a container that the runtime could not start.
func NeverRan(t *corev1.ContainerStateTerminated) bool {
	return t.Reason == "StartError" || t.Reason == "ContainerCannotRun"
}

// agentGrace is how long the agent's container is given to say why the job's
// did not start; its status comes a relist of the kubelet later.
const agentGrace = 5 * time.Second

// forever is a grace that only the start timeout ends.
const forever = time.Duration(1<<63 - 1)

// Event says what an event about a Job or a Pod means for the start.
func Event(e *corev1.Event) Verdict {
	message := OneLine(e.Message)
	switch e.Reason {
	case "FailedCreate": // the job controller could not make the Pod
		return explainAdmission(e.Namespace, message)
	case "FailedPostStartHook":
		return Verdict{Waiting: "the launcher is not in place: " + message}
	case "FailedCreatePodSandBox":
		if strings.Contains(message, "user namespaces") {
			return Verdict{Failure: &job.Failure{Cause: job.ConfigError,
				Message: "the node can't give the Pod a user namespace: " + strings.TrimPrefix(message, "Failed to create pod sandbox: "),
				Hint:    "{hodei} provider set NAME --host-users"}}
		}
		return Verdict{Waiting: idPattern.ReplaceAllString(message, " …")}
	case "FailedMount", "FailedAttachVolume":
		return Verdict{Waiting: message}
	}
	return Verdict{}
}

// UntakenSay is how long a kubelet may take to acknowledge a Pod before hodei says so. A
// kubelet that runs does it within a second.
const UntakenSay = 5 * time.Second

// untaken tells that the kubelet of a Pod's node has not taken it up: its acknowledgement
// is the time of the Pod's start.
func untaken(pod *corev1.Pod) bool {
	return pod.Spec.NodeName != "" && pod.Status.StartTime == nil && len(pod.Status.ContainerStatuses) == 0 && !PhaseEnded(pod)
}

// UntakenVerdict is what is said of a Pod that its node has not taken up; why is what is known of the node,
// "" nothing.
func UntakenVerdict(node, why string) Verdict {
	message := fmt.Sprintf("node %s has not taken the job's Pod up: its kubelet does not run, or can't reach the cluster", node)
	if why != "" {
		message = why
	}
	return Verdict{Waiting: message, After: UntakenSay, Grace: forever, Node: node,
		Failure: &job.Failure{Cause: job.NodeLost, Message: message, Hint: "kubectl describe node " + node}}
}

// PhaseEnded tells that all containers of a Pod have ended: the Job counts it then.
func PhaseEnded(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}
