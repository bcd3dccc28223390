package provider

import (
	"cmp"
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// The types of provider.
const (
	Kubernetes = "kubernetes" // Pods of a cluster
	Local      = "local"      // processes of this machine
)

// What a provider of type Kubernetes gets for what was left out: the names of the
// user's guide, and of the manifests that hodei install applies.
const (
	DefaultNamespace      = "hodei-jobs-workers"
	DefaultImage          = "hodei-jobs-worker:latest"
	DefaultServiceAccount = "hodei-jobs-worker"
	// DefaultImagePullPolicy lets an image that was loaded into the nodes be used whatever its
	// tag. Kubernetes' own rule pulls latest each time, and an image that was loaded is in no
	// registry; while such a pull is tried, other Pods of that image on the node fail too.
	DefaultImagePullPolicy = "IfNotPresent"
	// DefaultGPUResource is what the most common device plugin calls its GPUs.
	DefaultGPUResource = "nvidia.com/gpu"
)

// What the key ebpf may say. Empty is EBPFOff: the agent would have to run as root, with
// capabilities that let it read the memory of its node, and that is nobody's choice but
// the provider's owner's.
const (
	// EBPFOff leaves eBPF out: the agent has no capability.
	EBPFOff = contract.EBPFOff
	// EBPFAuto gives the agent what eBPF takes where the namespace is not known to
	// forbid it, and measures without elsewhere.
	EBPFAuto = contract.EBPFAuto
	// EBPFRequire gives it to the agent in any case: a job that can't be measured so
	// does not run.
	EBPFRequire = contract.EBPFRequire
)

// Config is one provider, under the keys of the user's guide. The file holds what
// the user said and nothing else; [Config.WithDefaults] fills in the rest.
// Values with an inside of their own are Kubernetes', in its words.
type Config struct {
	// Type is Kubernetes or Local.
	Type string `json:"type"`
	// Context of the kubeconfig; empty means its current one.
	Context string `json:"context,omitempty"`
	// Kubeconfig is a file; empty means kubectl's own choice.
	Kubeconfig string `json:"kubeconfig,omitempty"`
	// Namespace of the workers.
	Namespace string `json:"namespace,omitempty"`
	// Image of the worker's agent.
	Image string `json:"image,omitempty"`
	// ImagePullPolicy of the worker's image is Always, IfNotPresent or Never.
	ImagePullPolicy string `json:"image_pull_policy,omitempty"`
	// ImagePullSecrets are names of Secrets of the workers' namespace.
	ImagePullSecrets []string `json:"image_pull_secrets,omitempty"`
	// ServiceAccount of the workers' Pods.
	ServiceAccount string `json:"service_account,omitempty"`

	// What a job gets that doesn't say otherwise: see [Config.SetDefaults].
	CPU              *resource.Quantity `json:"cpu,omitempty"`
	CPULimit         *resource.Quantity `json:"cpu_limit,omitempty"`
	Memory           *resource.Quantity `json:"memory,omitempty"`
	MemoryLimit      *resource.Quantity `json:"memory_limit,omitempty"`
	EphemeralStorage *resource.Quantity `json:"ephemeral_storage,omitempty"`
	User             User               `json:"user,omitempty"`
	TTL              *metav1.Duration   `json:"ttl,omitempty"`
	StartTimeout     *metav1.Duration   `json:"start_timeout,omitempty"`
	// ContainerLogs says whether jobs copy their output to their container's log; nil:
	// detached ones do.
	ContainerLogs *bool `json:"container_logs,omitempty"`
	// Exec lets commands be run beside those of all jobs.
	Exec bool `json:"exec,omitempty"`

	// GPUResource is the extended resource that a job's GPUs are counted in.
	GPUResource string `json:"gpu_resource,omitempty"`
	// Queue is a LocalQueue of Kueue's, in which Jobs wait until they are admitted.
	Queue string `json:"queue,omitempty"`

	// Where Pods go.
	NodeSelector   map[string]string                 `json:"node_selector,omitempty"`
	Tolerations    []corev1.Toleration               `json:"tolerations,omitempty"`
	Affinity       *corev1.Affinity                  `json:"affinity,omitempty"`
	TopologySpread []corev1.TopologySpreadConstraint `json:"topology_spread,omitempty"`
	PriorityClass  string                            `json:"priority_class,omitempty"`
	RuntimeClass   string                            `json:"runtime_class,omitempty"`

	// Labels and Annotations of Jobs and Pods, beside hodei's own.
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// SecurityContext of the Pods. Its runAsUser and runAsGroup are the command's
	// alone, and only where no user is named.
	SecurityContext *corev1.PodSecurityContext `json:"security_context,omitempty"`
	// HostUsers false gives each Pod a user namespace of its own; nil is true, as in a Pod.
	HostUsers *bool `json:"host_users,omitempty"`
	// Volumes are mounted in the job's container alone.
	Volumes []Volume `json:"volumes,omitempty"`
	// AllowHostPath is the second word that a volume of type hostPath needs.
	AllowHostPath bool `json:"allow_host_path,omitempty"`
	// EBPF is EBPFOff, which empty means too, EBPFAuto or EBPFRequire.
	EBPF Switch `json:"ebpf,omitempty"`
}

// User is as --user: UID, UID:GID or job.UserImage. It is read from a number too, for
// a uid in YAML is one.
type User string

// UnmarshalJSON implements json.Unmarshaler.
func (u *User) UnmarshalJSON(data []byte) error {
	var uid int64
	if err := json.Unmarshal(data, &uid); err == nil {
		*u = User(data)
		return nil
	}
	return json.Unmarshal(data, (*string)(u))
}

// Switch is a word such as EBPFOff. It is read from a truth value too, for YAML takes
// on and off for one.
type Switch string

// UnmarshalJSON implements json.Unmarshaler.
func (s *Switch) UnmarshalJSON(data []byte) error {
	var on bool
	if err := json.Unmarshal(data, &on); err == nil {
		*s = map[bool]Switch{true: "on", false: EBPFOff}[on]
		return nil
	}
	return json.Unmarshal(data, (*string)(s))
}

// Volume is a volume of the job's container: one source in Kubernetes' words, and
// where it is mounted.
type Volume struct {
	Name      string `json:"name"`
	MountPath string `json:"mountPath"`
	SubPath   string `json:"subPath,omitempty"`
	ReadOnly  bool   `json:"readOnly,omitempty"`

	PersistentVolumeClaim *corev1.PersistentVolumeClaimVolumeSource `json:"persistentVolumeClaim,omitempty"`
	ConfigMap             *corev1.ConfigMapVolumeSource             `json:"configMap,omitempty"`
	Secret                *corev1.SecretVolumeSource                `json:"secret,omitempty"`
	EmptyDir              *corev1.EmptyDirVolumeSource              `json:"emptyDir,omitempty"`
	Projected             *corev1.ProjectedVolumeSource             `json:"projected,omitempty"`
	CSI                   *corev1.CSIVolumeSource                   `json:"csi,omitempty"`
	Ephemeral             *corev1.EphemeralVolumeSource             `json:"ephemeral,omitempty"`
	// HostPath needs Config.AllowHostPath.
	HostPath *corev1.HostPathVolumeSource `json:"hostPath,omitempty"`
}

// Pod returns v's two halves as a Pod has them.
func (v Volume) Pod() (corev1.Volume, corev1.VolumeMount) {
	return corev1.Volume{Name: v.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: v.PersistentVolumeClaim, ConfigMap: v.ConfigMap, Secret: v.Secret, EmptyDir: v.EmptyDir,
			Projected: v.Projected, CSI: v.CSI, Ephemeral: v.Ephemeral, HostPath: v.HostPath,
		}},
		corev1.VolumeMount{Name: v.Name, MountPath: v.MountPath, SubPath: v.SubPath, ReadOnly: v.ReadOnly}
}

// WithDefaults returns c with the defaults of its type in the fields that are
// empty and have one.
func (c Config) WithDefaults() Config {
	if c.Type != Kubernetes {
		return c
	}
	c.Namespace = cmp.Or(c.Namespace, DefaultNamespace)
	c.Image = cmp.Or(c.Image, DefaultImage)
	c.ImagePullPolicy = cmp.Or(c.ImagePullPolicy, DefaultImagePullPolicy)
	c.ServiceAccount = cmp.Or(c.ServiceAccount, DefaultServiceAccount)
	c.GPUResource = cmp.Or(c.GPUResource, DefaultGPUResource)
	return c
}

// SetDefaults fills in what is zero in spec, and has a default in c. What was asked
// for wins: a limit of c's below the request of spec, or a request above its limit,
// is left out. It comes before job.Spec's own SetDefaults.
func (c Config) SetDefaults(spec *job.Spec) {
	setPair(&spec.CPU, &spec.CPULimit, c.CPU, c.CPULimit)
	setPair(&spec.Memory, &spec.MemoryLimit, c.Memory, c.MemoryLimit)
	spec.EphemeralStorage = cmp.Or(spec.EphemeralStorage, c.EphemeralStorage)
	spec.User = cmp.Or(spec.User, string(c.User))
	spec.Exec = spec.Exec || c.Exec
	if c.TTL != nil {
		spec.TTL = cmp.Or(spec.TTL, c.TTL.Duration)
	}
	if c.StartTimeout != nil {
		spec.StartTimeout = cmp.Or(spec.StartTimeout, c.StartTimeout.Duration)
	}
}

func setPair(request, limit **resource.Quantity, defaultRequest, defaultLimit *resource.Quantity) {
	if *request != nil && defaultLimit != nil && defaultLimit.Cmp(**request) < 0 {
		defaultLimit = nil
	}
	if *limit != nil && defaultRequest != nil && defaultRequest.Cmp(**limit) > 0 {
		defaultRequest = nil
	}
	*request, *limit = cmp.Or(*request, defaultRequest), cmp.Or(*limit, defaultLimit)
}
