package kubernetes

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

// wordsWait bounds how long the report of a failure waits for the container's last words.
const wordsWait = 5 * time.Second

// Bounds of what is read of the log of a container that never came to its command. A
// launcher that does not know a flag lists those that it knows behind that.
var wordsLines, wordsBytes int64 = 20, 4096

// maxWords is what is told of them, in bytes.
const maxWords = 500

// NeverStarted reports whether a Pod has ended without its command having started, as its
// agent, or what the agent left, says. If the agent does not say so, the command may have
// started.
func NeverStarted(pod *corev1.Pod) bool {
	agent := explain.AgentEnd(pod)
	return evictedItself(pod) ||
		agent != nil && (agent.ExitCode == contract.ExitNeverStarted || agent.ExitCode == contract.ExitStartTimeout)
}

// StartTimedOut tells that a Pod has ended because its start timeout was over.
func StartTimedOut(pod *corev1.Pod) bool {
	agent := explain.AgentEnd(pod)
	return evictedItself(pod) || agent != nil && agent.ExitCode == contract.ExitStartTimeout
}

// evictedItself tells that the agent had its Pod evicted: the name of its volume is in the
// kubelet's message, and nothing else ever fills that.
func evictedItself(pod *corev1.Pod) bool {
	return pod.Status.Reason == "Evicted" && strings.Contains(pod.Status.Message, `"`+manifest.EvictionVolume+`"`)
}

// neverStartedOutcome is the end of an attempt whose agent says that the command never
// started; command is how the job's container ended, nil if it has not, or never began.
func neverStartedOutcome(agent, command *corev1.ContainerStateTerminated) *job.Outcome {
	o := &job.Outcome{Cause: job.StartTimeout, NeverStarted: true, Code: job.ExitFailed,
		Message: "the command never started: " + explain.OneLine(agent.Message)}
	switch {
	case agent.ExitCode == contract.ExitStartTimeout || command == nil:
	case command.Reason == "OOMKilled":
		o.Cause, o.Message = job.OOMKilled, "memory reached its limit before the command started, and the kernel killed the launcher"
	default:
		o.Cause = job.AgentLost
	}
	return o
}

// endedHow says in a few words how a container did.
func endedHow(t *corev1.ContainerStateTerminated) string {
	how := fmt.Sprintf("exit code %d", t.ExitCode)
	if reason := explain.OneLine(t.Reason); reason != "" {
		how += " (" + reason + ")"
	}
	if said := explain.StartError(t.Message); said != "" {
		how += ": " + said
	}
	return how
}

// withWords adds to the outcome of an attempt that never started why it did not: what its
// job's container wrote last, which can't be the command's, or what the kubelet said of that
// container. It adds nothing without the right to read it, or an answer.
func (p *Provider) withWords(ctx context.Context, pod *corev1.Pod, o *job.Outcome) *job.Outcome {
	if o.NeverStarted && o.Cause == job.StartTimeout {
		return p.withTrouble(ctx, pod, o)
	}
	command := commandEnd(pod)
	if o.Cause != job.AgentLost || !o.NeverStarted || command == nil || explain.NeverRan(command) || command.ExitCode == 0 {
		return o
	}
	words := p.lastWords(ctx, pod)
	if words == "" {
		return o
	}
	told := *o
	told.Message = "the command never started: " + words
	if strings.Contains(words, tooLongWords) {
		told.Cause = job.ConfigError
	}
	return &told
}

// withTrouble adds to a start timeout what an event says of why the job's container did
// not start: its Pod has lost it with its end.
func (p *Provider) withTrouble(ctx context.Context, pod *corev1.Pod, o *job.Outcome) *job.Outcome {
	ctx, cancel := context.WithTimeout(ctx, wordsWait)
	defer cancel()
	events, err := p.client.CoreV1().Events(pod.Namespace).List(ctx, metav1.ListOptions{FieldSelector: fields.Set{
		"involvedObject.kind": "Pod", "involvedObject.name": pod.Name, "involvedObject.uid": string(pod.UID),
		"type": corev1.EventTypeWarning,
	}.String()})
	if err != nil {
		return o
	}
	trouble := lastTrouble(events.Items)
	if trouble == "" {
		return o
	}
	told := *o
	told.Message += ": " + trouble
	return &told
}

// lastTrouble is what the latest event says that tells more than a reason in a word; "":
// none does.
func lastTrouble(events []corev1.Event) string {
	var text string
	var at time.Time
	for _, e := range events {
		said := explain.OneLine(e.Message)
		if e.Reason == "Evicted" || strings.HasPrefix(said, "Error: ") || e.LastTimestamp.Time.Before(at) {
			continue // our own doing; the reason alone
		}
		text, at = said, e.LastTimestamp.Time
	}
	return shortWords(text)
}

// tooLongWords are the kernel's for E2BIG.
const tooLongWords = "argument list too long"

// unknownFlagWords are those of a launcher of an earlier version, for a flag that it does
// not know.
const unknownFlagWords = "flag provided but not defined: "

// lastWords is the line of what the job's container has written that says why it ended; ""
// if that is not known.
func (p *Provider) lastWords(ctx context.Context, pod *corev1.Pod) string {
	ctx, cancel := context.WithTimeout(ctx, wordsWait)
	defer cancel()
	log, err := p.client.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{
		Container: manifest.JobContainer, TailLines: &wordsLines, LimitBytes: &wordsBytes}).Stream(ctx)
	if err != nil {
		return ""
	}
	defer log.Close()
	text, err := io.ReadAll(io.LimitReader(log, wordsBytes))
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	why := lines[len(lines)-1]
	for _, line := range lines {
		if strings.HasPrefix(line, unknownFlagWords) {
			why = line
		}
	}
	return shortWords(explain.OneLine(strings.ToValidUTF8(why, "")))
}

func shortWords(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxWords)], "") }

// startFailure is the end of a run whose only Pod has ended with o before any command ran: what
// kept it from starting, if the Pod says so.
func (p *Provider) startFailure(pod *corev1.Pod, o *job.Outcome) *job.Failure {
	if v := p.named(explain.Pod(pod)); v.Failure != nil {
		v.Failure.NeverStarted = true
		return v.Failure
	}
	return p.neverStartedFailure(pod, o)
}

// neverStartedFailure is the outcome of an attempt that never started as the end of a run.
func (p *Provider) neverStartedFailure(pod *corev1.Pod, o *job.Outcome) *job.Failure {
	f := &job.Failure{Cause: o.Cause, Message: o.Message, NeverStarted: o.NeverStarted}
	again := "kubectl describe pod -n " + pod.Namespace + " " + pod.Name
	if o.NeverStarted {
		again = "the command did not run: it can safely be run again"
	}
	f.Hint = cmp.Or(NeverStartedHint(o), p.EBPFHint(o), explain.ClockHint(o.Message, pod.Namespace, pod.Labels[manifest.LabelJob]), again)
	return f
}

// NeverStartedHint is what helps where a command never started; "" where that is not known,
// and of any other outcome.
func NeverStartedHint(o *job.Outcome) string {
	switch {
	case !o.NeverStarted:
	case strings.Contains(o.Message, tooLongWords):
		return "pass less: the kernel takes 128 KiB in one variable or argument, and some 2 MiB in all of them; " +
			"a large value can be mounted as a file: docs/providers.md#volumes"
	case strings.Contains(o.Message, unknownFlagWords):
		return "check that the worker's image is the one of this version: {hodei} version"
	case o.Cause == job.OOMKilled:
		return "run it again with more memory: --memory SIZE"
	case o.Cause == job.StartTimeout:
		return "allow more with --start-timeout"
	}
	return ""
}
