package kubernetes

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// Labels and annotations of everything that belongs to a job.
const (
	LabelJob       = "hodei.io/job"
	LabelProvider  = "hodei.io/provider"
	LabelManagedBy = "app.kubernetes.io/managed-by"
	ManagedBy      = "hodei"
	// AnnotationSpec holds the job.Spec as JSON.
	AnnotationSpec = "hodei.io/spec"
	// annotationRun holds a random word of the Submit that made the Job.
	annotationRun = "hodei.io/run"
)

// Names and places inside the Pod.
const (
	agentContainer = "agent"
	jobContainer   = "job"

	workerProgram = "/usr/local/bin/hodei-worker" // in the worker's image
	runDir        = "/run/hodei"
	launcherPath  = runDir + "/hodei-worker"
	socketPath    = runDir + "/agent.sock"
	spoolDir      = "/var/spool/hodei"
	certsDir      = "/etc/hodei/certs"

	// agentPort on the Pod's loopback: below the ephemeral range, so that no
	// connection of the job's has it, and registered for nothing.
	agentPort = 25051
	// agentUser is the "nonroot" of common base images.
	agentUser = 65532

	// neverStarted is the agent's exit status when no launcher came.
	neverStarted = 90
)

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

// settings are a provider's, resolved.
type settings struct {
	provider       string
	namespace      string
	workerImage    string
	pullPolicy     corev1.PullPolicy
	pullSecrets    []string
	serviceAccount string
	serverName     string // of the job's coordinator, in its certificate
}

// renderJob makes the Job of a spec.
func renderJob(spec *job.Spec, s settings) (*batchv1.Job, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	labels := map[string]string{
		LabelJob:                    spec.Name,
		LabelProvider:               s.provider,
		LabelManagedBy:              ManagedBy,
		"app.kubernetes.io/name":    "hodei-worker",
		"app.kubernetes.io/part-of": "hodei",
	}
	pod, err := renderPod(spec, s)
	if err != nil {
		return nil, err
	}
	j := &batchv1.Job{
		TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{
			Name: spec.Name, Namespace: s.namespace, Labels: labels,
			Annotations: map[string]string{AnnotationSpec: string(text)},
		},
		Spec: batchv1.JobSpec{
			BackoffLimit:            &spec.Retries,
			TTLSecondsAfterFinished: seconds32(spec.TTL),
			ActiveDeadlineSeconds:   deadline(spec),
			PodFailurePolicy:        failurePolicy(spec.Retries),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{
					Labels:      labels,
					Annotations: map[string]string{"kubectl.kubernetes.io/default-container": jobContainer},
				},
				Spec: *pod,
			},
		},
	}
	return j, nil
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

// failurePolicy says which failed attempts are followed by another. The order
// is the order of evaluation.
func failurePolicy(retries int32) *batchv1.PodFailurePolicy {
	agent := agentContainer
	disrupted := batchv1.PodFailurePolicyActionIgnore
	if retries == 0 {
		disrupted = batchv1.PodFailurePolicyActionFailJob
	}
	return &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
		{ // the command never started: it can safely be started again
			Action: batchv1.PodFailurePolicyActionIgnore,
			OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
				ContainerName: &agent, Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{neverStarted},
			},
		},
		{ // the agent died: the command may have succeeded, it must not run twice
			Action: batchv1.PodFailurePolicyActionFailJob,
			OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
				ContainerName: &agent, Operator: batchv1.PodFailurePolicyOnExitCodesOpNotIn, Values: []int32{neverStarted},
			},
		},
		{
			Action: disrupted,
			OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{
				{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue},
			},
		},
	}}
}

func renderPod(spec *job.Spec, s settings) (*corev1.PodSpec, error) {
	user, err := jobSecurity(spec.User)
	if err != nil {
		return nil, err
	}
	// The provider's policy is for the worker's image; of another one the user, or
	// Kubernetes by its tag, knows better.
	image, pullPolicy := spec.Image, corev1.PullPolicy("")
	if image == "" {
		image, pullPolicy = s.workerImage, s.pullPolicy
	}
	no := false
	runDirMount := corev1.VolumeMount{Name: "hodei-run", MountPath: runDir}
	runDirReadOnly := runDirMount
	runDirReadOnly.ReadOnly = true
	grace := int64(math.Ceil((spec.Grace + graceMargin).Seconds()))

	launch := []string{launcherPath, "launch", "--socket=" + socketPath, "--grace=" + spec.Grace.String()}
	if spec.MergeOutput {
		launch = append(launch, "--merge-output")
	}
	launch = append(append(launch, "--"), spec.Command...)
	for i := range launch {
		launch[i] = literal(launch[i])
	}

	pod := &corev1.PodSpec{
		RestartPolicy:                 corev1.RestartPolicyNever,
		AutomountServiceAccountToken:  &no,
		EnableServiceLinks:            &no,
		ShareProcessNamespace:         &no,
		ServiceAccountName:            s.serviceAccount,
		TerminationGracePeriodSeconds: &grace,
		SecurityContext: &corev1.PodSecurityContext{
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Containers: []corev1.Container{
			{
				Name: agentContainer, Image: s.workerImage, ImagePullPolicy: s.pullPolicy,
				Command:         []string{workerProgram, "agent"},
				Env:             agentEnv(spec, s),
				Resources:       agentResources(spec),
				SecurityContext: agentSecurity(spec.User),
				// The kubelet starts no later container before this has returned.
				Lifecycle: &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{
					Exec: &corev1.ExecAction{Command: []string{workerProgram, "copy", launcherPath}},
				}},
				VolumeMounts: []corev1.VolumeMount{
					runDirMount,
					{Name: "hodei-spool", MountPath: spoolDir},
					{Name: "hodei-certs", MountPath: certsDir, ReadOnly: true},
				},
			},
			{
				Name: jobContainer, Image: image, ImagePullPolicy: pullPolicy,
				Command:         launch,
				WorkingDir:      spec.Workdir,
				Env:             jobEnv(spec.Env),
				EnvFrom:         jobEnvFrom(spec.EnvFrom),
				Resources:       jobResources(spec),
				SecurityContext: user,
				VolumeMounts:    []corev1.VolumeMount{runDirReadOnly},
			},
		},
		Volumes: []corev1.Volume{
			{Name: "hodei-run", VolumeSource: emptyDir(runDirBytes)},
			{Name: "hodei-spool", VolumeSource: emptyDir(spec.LogSpool.Value() + spoolMargin)},
			{Name: "hodei-certs", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
				SecretName: spec.Name, DefaultMode: mode(0o444),
				Items: []corev1.KeyToPath{ // never the server's key
					{Key: "ca.crt", Path: "ca.crt"}, {Key: "client.crt", Path: "client.crt"}, {Key: "client.key", Path: "client.key"},
				},
			}}},
		},
	}
	for _, name := range s.pullSecrets {
		pod.ImagePullSecrets = append(pod.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	return pod, nil
}

// agentSecurity is the security context of the agent. Where the user is left to the
// cluster, the agent's is too: who refuses a fixed uid refuses it in every container.
// The worker's image then says 65532 itself, and the kubelet checks that it is not root.
func agentSecurity(user string) *corev1.SecurityContext {
	no, yes := false, true
	sc := &corev1.SecurityContext{
		RunAsNonRoot: &yes, AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	if user != job.UserImage {
		uid, gid := int64(agentUser), int64(agentUser)
		sc.RunAsUser, sc.RunAsGroup = &uid, &gid
	}
	return sc
}

// jobSecurity is the security context of the command. Without a wish it runs as
// an ordinary user without any capability, whatever the image says: most images
// say root only because they say nothing.
func jobSecurity(user string) (*corev1.SecurityContext, error) {
	uid, gid, err := job.ParseUser(user)
	if err != nil {
		return nil, err
	}
	no, yes := false, true
	sc := &corev1.SecurityContext{
		RunAsUser: uid, RunAsGroup: gid, RunAsNonRoot: &yes, AllowPrivilegeEscalation: &no,
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	if uid == nil && user != job.UserImage {
		id := int64(agentUser)
		sc.RunAsUser, sc.RunAsGroup = &id, &id
	}
	if uid != nil && *uid == 0 {
		// Root was asked for by name: it gets what containers usually have, but
		// for raw sockets, with which it could forge other Pods' traffic.
		sc.RunAsNonRoot = nil
		sc.Capabilities = &corev1.Capabilities{Drop: []corev1.Capability{"NET_RAW"}}
	}
	return sc, nil
}

// literal keeps Kubernetes from expanding $(NAME) in commands and variables:
// what was typed is what runs.
func literal(s string) string { return strings.ReplaceAll(s, "$", "$$") }

func agentEnv(spec *job.Spec, s settings) []corev1.EnvVar {
	field := func(name, path string) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
	}
	env := []corev1.EnvVar{
		field("HODEI_NAMESPACE", "metadata.namespace"),
		field("HODEI_ATTEMPT", "metadata.name"),
		field("HODEI_ATTEMPT_UID", "metadata.uid"),
	}
	for _, v := range [][2]string{
		{"HODEI_JOB", spec.Name},
		{"HODEI_SOCKET", socketPath},
		{"HODEI_SPOOL_DIR", spoolDir},
		{"HODEI_SPOOL_BYTES", strconv.FormatInt(spec.LogSpool.Value(), 10)},
		{"HODEI_LISTEN", fmt.Sprintf("127.0.0.1:%d", agentPort)},
		{"HODEI_SERVER_NAME", s.serverName},
		{"HODEI_CA_CERT_PATH", certsDir + "/ca.crt"},
		{"HODEI_CLIENT_CERT_PATH", certsDir + "/client.crt"},
		{"HODEI_CLIENT_KEY_PATH", certsDir + "/client.key"},
		{"HODEI_START_TIMEOUT", spec.StartTimeout.String()},
		{"HODEI_TIMEOUT", spec.Timeout.String()},
		{"HODEI_GRACE", spec.Grace.String()},
		{"HODEI_LINGER", spec.Linger.String()},
		{"HODEI_RETRIES", strconv.Itoa(int(spec.Retries))},
		{"HODEI_LOG_OVERFLOW", spec.LogOverflow},
		{"HODEI_DETACHED", oneIf(spec.Detached)},
		{"HODEI_CONTAINER_LOGS", oneIf(spec.ContainerLogs)},
	} {
		if v[1] != "" {
			env = append(env, corev1.EnvVar{Name: v[0], Value: v[1]})
		}
	}
	return env
}

// oneIf is "1" for true; the agent takes a variable that is not there for false.
func oneIf(on bool) string {
	if on {
		return "1"
	}
	return ""
}

func jobEnv(vars []job.EnvVar) []corev1.EnvVar {
	var env []corev1.EnvVar
	for _, v := range vars {
		env = append(env, corev1.EnvVar{Name: v.Name, Value: literal(v.Value)})
	}
	return env
}

func jobEnvFrom(sources []job.EnvSource) []corev1.EnvFromSource {
	var env []corev1.EnvFromSource
	for _, s := range sources {
		if s.Secret != "" {
			env = append(env, corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: s.Secret}}})
		} else {
			env = append(env, corev1.EnvFromSource{ConfigMapRef: &corev1.ConfigMapEnvSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: s.ConfigMap}}})
		}
	}
	return env
}

// agentResources has a limit of ephemeral storage for the kubelet's sake. It adds
// up the limits of the containers that have one, and evicts the Pod when all of
// its volumes, writable layers and logs together are larger. Were the job's the
// only one, the output in the spool would count against --ephemeral-storage: with
// this one, which is what hodei itself may write, it never does.
func agentResources(spec *job.Spec) corev1.ResourceRequirements {
	disk := spec.LogSpool.Value() + spoolMargin + runDirBytes + agentLogBytes
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("32Mi"),
			// Without it the limit would be requested too, and small nodes refused.
			corev1.ResourceEphemeralStorage: resource.MustParse("0"),
		},
		Limits: corev1.ResourceList{corev1.ResourceEphemeralStorage: *resource.NewQuantity(disk, resource.BinarySI)},
	}
}

// jobResources gives the job what it asked for: limits are the requests unless
// they are named. The log of its container counts against the container's own
// limit of ephemeral storage, and is hodei's doing, so it is added.
func jobResources(spec *job.Spec) corev1.ResourceRequirements {
	r := corev1.ResourceRequirements{
		Requests: corev1.ResourceList{
			corev1.ResourceEphemeralStorage: resource.MustParse("0"), // as the agent's
		},
		Limits: corev1.ResourceList{},
	}
	disk := resource.MustParse(DefaultEphemeralStorage)
	if spec.EphemeralStorage != nil {
		disk = spec.EphemeralStorage.DeepCopy()
	}
	if spec.ContainerLogs {
		disk.Add(*resource.NewQuantity(containerLogBytes, resource.BinarySI))
	}
	r.Limits[corev1.ResourceEphemeralStorage] = disk
	for _, x := range []struct {
		name           corev1.ResourceName
		request, limit *resource.Quantity
	}{{corev1.ResourceCPU, spec.CPU, spec.CPULimit}, {corev1.ResourceMemory, spec.Memory, spec.MemoryLimit}} {
		if x.limit == nil {
			x.limit = x.request
		}
		if x.request != nil {
			r.Requests[x.name] = *x.request
		}
		if x.limit != nil {
			r.Limits[x.name] = *x.limit
		}
	}
	return r
}

// renderSecret makes the Secret of a Job that exists.
func renderSecret(owner *batchv1.Job, id *certs.JobCerts) *corev1.Secret {
	ref := metav1.NewControllerRef(owner, batchv1.SchemeGroupVersion.WithKind("Job"))
	ref.BlockOwnerDeletion = nil // OpenShift lets only those set it who may change the Job's finalizers
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: owner.Name, Namespace: owner.Namespace, Labels: owner.Labels,
			OwnerReferences: []metav1.OwnerReference{*ref},
		},
		Type: corev1.SecretTypeOpaque,
		Data: map[string][]byte{
			"ca.crt":     id.CA,
			"client.crt": id.ClientCert, "client.key": id.ClientKey,
			"server.crt": id.ServerCert, "server.key": id.ServerKey,
		},
	}
}

func emptyDir(bytes int64) corev1.VolumeSource {
	return corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: resource.NewQuantity(bytes, resource.BinarySI)}}
}

func mode(m int32) *int32 { return &m }

func seconds32(d time.Duration) *int32 {
	n := int32(min(d/time.Second, 1<<31-1))
	return &n
}
