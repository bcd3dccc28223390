// Package manifest writes a job down as Kubernetes' objects, and reads it from them. Start with
// [Job], which makes the batch/v1 Job of a job.Spec and a provider's [Settings], and [Secret],
// which makes the Secret that belongs to it; [SpecOf] and [CertsOf] are the ways back. It also
// names what others look for in these objects: labels, annotations, containers, the agent's port.
// It is pure: it asks no cluster, and the same arguments make the same objects.
package manifest

import (
	"maps"
	"math"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
)

// Labels of the Job, its Secret and its Pods, and annotations of the Job.
const (
	// LabelJob has the job's name.
	LabelJob = "hodei.io/job"
	// LabelProvider has the provider's name; "" for the current context.
	LabelProvider = "hodei.io/provider"
	// LabelManagedBy has ManagedBy on all that hodei makes.
	LabelManagedBy = "app.kubernetes.io/managed-by"
	ManagedBy      = "hodei"
	// AnnotationSpec holds the job.Spec as JSON, without the command and its variables:
	// [SpecOf] puts them together.
	AnnotationSpec = "hodei.io/spec"
	// AnnotationRun holds a random word of the Submit that made the Job.
	AnnotationRun = "hodei.io/run"
	// AnnotationCancelled is on a Job that somebody cancels by deleting it: since when.
	AnnotationCancelled = "hodei.io/cancelled"
	// LabelQueue puts a Job into a queue of Kueue's.
	LabelQueue = "kueue.x-k8s.io/queue-name"
)

// AnnotationEBPF is on the Job of a provider with ebpf: auto whose agent was not given
// what eBPF takes: why not, in one sentence.
const AnnotationEBPF = "hodei.io/ebpf"

// Names and places inside the Pod.
const (
	// AgentContainer and JobContainer are the two containers that hodei makes.
	AgentContainer = "agent"
	JobContainer   = "job"

	workerProgram = "/usr/local/bin/hodei-worker" // in the worker's image
	runDir        = "/run/hodei"
	socketPath    = runDir + "/agent.sock"
	spoolDir      = "/var/spool/hodei"
	certsDir      = "/etc/hodei/certs"
	// homeDir is where the launcher makes a home for a command that has none.
	homeDir = "/hodei"

	// AgentPort on the Pod's loopback: below the ephemeral range, so that no
	// connection of the job's has it, and registered for nothing.
	AgentPort = 25051
	// AgentUser is the "nonroot" of common base images: the group of all jobs, and the uid
	// of those that have a user namespace.
	AgentUser = 65532

	// EvictionVolume is the volume that an agent overfills when its start timeout is over. The
	// kubelet then evicts the Pod, even if the job's container waits for its image. The
	// volume's name in the Pod's message is all that is left of the agent's reason.
	EvictionVolume = "hodei-start-timeout"
	evictionDir    = "/run/hodei-start-timeout"
)

// LauncherPath is where the worker's program is in the job's container, whatever else
// is in its image.
const LauncherPath = runDir + "/hodei-worker"

const (
	// spoolMargin keeps the limit of the spool's volume above the spool's cap: a
	// volume beyond its limit evicts the Pod.
	spoolMargin = 64 << 20
	// runDirBytes holds the launcher, three times over.
	runDirBytes = 64 << 20
	// agentLogBytes holds the log of the agent's container, which the kubelet keeps
	// to five files of 10 MiB, and the Pod's /etc/hosts.
	agentLogBytes = 64 << 20
	// containerLogBytes holds the log of the job's container, if the output is copied
	// there. The kubelet keeps five files of it and begins a new one at 10 MiB, but it
	// looks only every 10 s: a job that only prints wrote 750 MB of log between two
	// looks (75 MB/s; containerd 1.6 on 2 cores). Less would evict such jobs, more
	// lets their files grow so much beyond --ephemeral-storage.
	containerLogBytes = 4 << 30
	// deadlineMargin is what activeDeadlineSeconds leaves for scheduling and
	// deletion on top of what the agent keeps itself.
	deadlineMargin = 5 * time.Minute
	// graceMargin is what the Pod gets on top of the job's own grace: the agent
	// ships the last output in it.
	graceMargin = 15 * time.Second
)

// DefaultEphemeralStorage bounds what the job writes to its own file system and
// volumes; without a bound one job fills the node's disk and evicts the others.
const DefaultEphemeralStorage = "10Gi"

// Settings are a provider's, and what one job adds to them.
type Settings struct {
	// Provider is the provider's name; "" for the current context. Namespace is where its jobs go.
	Provider, Namespace string
	// Config has the provider's settings, with their defaults.
	Config provider.Config
	// ServerName is that of the job's coordinator, in its certificate.
	ServerName string
	// WithoutEBPF is why the agent is not given what the provider's ebpf says; "": it is.
	WithoutEBPF string
}

// EBPF is what the agent is told of eBPF; "" is off.
func (s Settings) EBPF() string {
	if s.WithoutEBPF != "" || s.Config.EBPF == provider.EBPFOff {
		return ""
	}
	return string(s.Config.EBPF)
}

// Job makes the Job of a spec, which has its defaults. An error says that the spec's user can't be had, by
// itself or with the provider's settings.
func Job(spec *job.Spec, s Settings) (*batchv1.Job, error) {
	text, err := specText(spec)
	if err != nil {
		return nil, err
	}
	labels := merged(s.Config.Labels, map[string]string{
		LabelJob:                    spec.Name,
		LabelProvider:               s.Provider,
		LabelManagedBy:              ManagedBy,
		"app.kubernetes.io/name":    "hodei-worker",
		"app.kubernetes.io/part-of": "hodei",
	})
	jobLabels := labels
	if queue := s.Config.Queue; queue != "" {
		jobLabels = merged(labels, map[string]string{LabelQueue: queue})
	}
	pod, err := renderPod(spec, s)
	if err != nil {
		return nil, err
	}
	ours := map[string]string{AnnotationSpec: text}
	if s.WithoutEBPF != "" {
		ours[AnnotationEBPF] = s.WithoutEBPF
	}
	j := &batchv1.Job{
		TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{
			Name: spec.Name, Namespace: s.Namespace, Labels: jobLabels,
			Annotations: merged(s.Config.Annotations, ours),
		},
		Spec: batchv1.JobSpec{
			BackoffLimit:            backoffLimit(spec.Retries, s.Config.Queue != ""),
			TTLSecondsAfterFinished: seconds32(spec.TTL),
			ActiveDeadlineSeconds:   deadline(spec),
			PodFailurePolicy:        failurePolicy(spec.Retries, s.Config.Queue != ""),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{
					Labels:      labels,
					Annotations: merged(s.Config.Annotations, map[string]string{"kubectl.kubernetes.io/default-container": JobContainer}),
				},
				Spec: *pod,
			},
		},
	}
	return j, nil
}

// merged returns the user's labels or annotations with hodei's own, in a map of its own.
func merged(theirs, ours map[string]string) map[string]string {
	all := maps.Clone(ours)
	for key, value := range theirs {
		if _, taken := all[key]; !taken {
			all[key] = value
		}
	}
	return all
}

// deadline is a backstop for when the agent is not there to keep the timeout:
// it deletes the Pod with its evidence, so it must never come first.
func deadline(spec *job.Spec) *int64 {
	if spec.Timeout == 0 {
		return nil
	}
	// In float64: a hundred retries of a month would overflow a time.Duration.
	attempt := (spec.Timeout + spec.Grace + spec.Linger).Seconds()
	d := (spec.StartTimeout + deadlineMargin).Seconds() + attempt*(float64(spec.Retries)+1)
	n := int64(math.Ceil(min(d, math.MaxInt32))) // 68 years, and all that the controller can count
	return &n
}

// startsWithoutRetries is how many more attempts a job without retries gets after one that
// never started its command. Each costs the job controller's back-off, 10 s and more, in which
// a node or a runtime in trouble may recover.
const startsWithoutRetries = 2

// backoffLimit is how many attempts may fail before the Job does. Attempts whose command never
// started count too, because nothing else would bound them. They never raise the number of
// retries: a failed command runs again that often and no more.
//
// A queued job has one start. Its limit has to bound the failures of its command too, since a
// rule of the failurePolicy can't: when a queue suspends the Job, its Pod ends like one whose
// command failed, and the rule would end a job that is to run again.
func backoffLimit(retries int32, queued bool) *int32 {
	if retries == 0 && !queued {
		retries = startsWithoutRetries
	}
	return &retries
}

// failurePolicy says which failed attempts are followed by another. The order
// is the order of evaluation.
func failurePolicy(retries int32, queued bool) *batchv1.PodFailurePolicy {
	onExit := func(
		action batchv1.PodFailurePolicyAction, container *string, operator batchv1.PodFailurePolicyOnExitCodesOperator, code int32,
	) batchv1.PodFailurePolicyRule {
		return batchv1.PodFailurePolicyRule{Action: action, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
			ContainerName: container, Operator: operator, Values: []int32{code}}}
	}
	agent, command, any := new(AgentContainer), new(JobContainer), (*string)(nil)
	const in, notIn = batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn
	disrupted := batchv1.PodFailurePolicyActionIgnore
	if retries == 0 {
		disrupted = batchv1.PodFailurePolicyActionFailJob
	}
	rules := []batchv1.PodFailurePolicyRule{
		// The command never started: it can safely be started again, but not for ever.
		onExit(batchv1.PodFailurePolicyActionCount, agent, in, contract.ExitNeverStarted),
		// The agent died: the command may have succeeded, it must not run twice. Or its start
		// timeout is over: it must not run any more.
		onExit(batchv1.PodFailurePolicyActionFailJob, agent, notIn, contract.ExitNeverStarted),
		{
			Action: disrupted,
			OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{
				{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue},
			},
		},
	}
	if retries > 0 {
		rules = append(rules, onExit(batchv1.PodFailurePolicyActionCount, command, notIn, 0))
	}
	// Without retries the limit counts only starts. And a command that succeeded must not run
	// again because a container failed that the cluster added to the Pod.
	if retries > 0 || !queued {
		rules = append(rules, onExit(batchv1.PodFailurePolicyActionFailJob, any, notIn, 0))
	}
	return &batchv1.PodFailurePolicy{Rules: rules}
}

func seconds32(d time.Duration) *int32 {
	n := int32(min(d/time.Second, 1<<31-1))
	return &n
}
