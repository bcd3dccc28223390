package kubernetes

import (
	"cmp"
	"fmt"
	"syscall"

	"google.golang.org/protobuf/encoding/protojson"
	corev1 "k8s.io/api/core/v1"

	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

// podOutcome reads how an attempt ended from a Pod that has ended.
func podOutcome(pod *corev1.Pod) *job.Outcome {
	cause, said := disruption(pod)
	if said == "" && pod.DeletionTimestamp != nil {
		said = fmt.Sprintf("Pod %s was deleted", pod.Name)
	}
	return outcomeOf(pod, cause, said)
}

// suspendedOutcome is podOutcome of a Pod that was deleted because its Job was
// suspended; said is what becomes of that.
func suspendedOutcome(pod *corev1.Pod, said string) *job.Outcome {
	return outcomeOf(pod, job.Preempted, said)
}

// outcomeOf reads how an attempt ended; disrupted is the cause when the cluster took
// the Pod away, else "", and said what is said of it.
func outcomeOf(pod *corev1.Pod, disrupted job.Cause, said string) *job.Outcome {
	var agent, command *corev1.ContainerStateTerminated
	for _, s := range pod.Status.ContainerStatuses {
		switch s.Name {
		case manifest.AgentContainer:
			agent = s.State.Terminated
		case manifest.JobContainer:
			command = s.State.Terminated
		}
	}
	if agent != nil && agent.ExitCode == 0 {
		record := &hodeipb.ExitRecord{}
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(agent.Message), record); err == nil {
			o := wire.Outcome(record)
			o.Message = explain.OneLine(o.Message)
			return withEvidence(o, command, disrupted, said)
		}
	}
	switch {
	case agent != nil && agent.ExitCode == contract.ExitStartTimeout: // evicted, as it wished, or not
		return neverStartedOutcome(agent, command)
	case evictedItself(pod): // its own words are lost
		return &job.Outcome{Cause: job.StartTimeout, NeverStarted: true, Code: job.ExitFailed,
			Message: "the command never started: its start timeout was over, and the agent had its Pod evicted"}
	}
	o := &job.Outcome{Cause: disrupted, Message: said, NeverStarted: NeverStarted(pod)}
	switch {
	case o.Cause != "":
	case agent == nil:
		o.Cause = job.Unknown
		if o.Message == "" {
			o.Message = fmt.Sprintf("Pod %s ended without a word from its agent", pod.Name)
		}
	case agent.ExitCode == contract.ExitNeverStarted:
		return neverStartedOutcome(agent, command)
	case agent.ExitCode == contract.ExitNoEBPF:
		return ebpfOutcome(explain.OneLine(agent.Message))
	default:
		o.Cause = job.AgentLost
		o.Message = fmt.Sprintf("the agent ended with exit code %d (%s)", agent.ExitCode, explain.OneLine(agent.Reason))
		if said := explain.OneLine(agent.Message); said != "" {
			o.Message += ": " + said
		}
	}
	return o
}

// withEvidence lets the Pod's end say who killed a launcher that left no word, or
// the command as the Pod was told to end, or what a command answered that exited by itself.
func withEvidence(o *job.Outcome, command *corev1.ContainerStateTerminated, disrupted job.Cause, said string) *job.Outcome {
	if o.PodEnded {
		return job.Settled(o, &job.Outcome{Cause: disrupted, Message: said})
	}
	if o.Cause != job.Unknown || command == nil {
		return o
	}
	o.Code = int(command.ExitCode)
	switch n := command.ExitCode - 128; {
	case command.Reason == "OOMKilled":
		o.Cause, o.Message = job.OOMKilled, "memory reached its limit and the kernel killed the job's first process"
	case disrupted != "":
		o.Cause = disrupted
		if said != "" {
			o.Message = said
		}
	case n > 0 && n <= 64:
		o.Cause, o.Signal = job.Signaled, syscall.Signal(n)
	}
	return o
}

func isDisrupted(pod *corev1.Pod) bool {
	cause, _ := disruption(pod)
	return cause != ""
}

// disruption is the cause when the cluster took the Pod away, else "", and what is said
// of it.
func disruption(pod *corev1.Pod) (cause job.Cause, said string) {
	said = explain.OneLine(pod.Status.Message)
	for _, c := range pod.Status.Conditions {
		if c.Type != corev1.DisruptionTarget || c.Status != corev1.ConditionTrue {
			continue
		}
		said = cmp.Or(said, explain.OneLine(c.Message))
		switch c.Reason {
		case corev1.PodReasonPreemptionByScheduler:
			return job.Preempted, said
		case "DeletionByTaintManager", "DeletionByPodGC":
			return job.NodeLost, said
		}
		cause = job.Evicted // unless the kubelet, which has ended it, says more
	}
	switch pod.Status.Reason {
	case "Evicted":
		return job.Evicted, said
	case "Preempting": // by the kubelet, for a Pod that the node can't do without
		return job.Preempted, said
	case "NodeLost", "NodeShutdown", "Shutdown", "Terminated": // the last: the node is being shut down
		return job.NodeLost, said
	}
	return cause, said
}
