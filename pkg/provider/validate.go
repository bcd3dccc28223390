package provider

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// Validate returns the first thing wrong with c, as a [job.FieldError] whose path is made of the
// file's keys. Of what is Kubernetes' it checks what a person gets wrong; the API server
// has the last word.
func (c Config) Validate() error {
	switch c.Type {
	case Kubernetes:
	case Local:
		if !reflect.DeepEqual(c, Config{Type: Local}) {
			return job.WrongField("type", "a provider of type %q has no other key", Local)
		}
		return nil
	default:
		return job.InvalidField("type", c.Type, "want %q or %q", Kubernetes, Local)
	}
	for _, check := range []func() error{
		c.checkNames, c.checkJob, c.checkResources,
		func() error { return checkSelector("node_selector", c.NodeSelector) },
		func() error { return checkTolerations(c.Tolerations) },
		func() error { return checkAffinity(c.Affinity) },
		func() error { return checkSpread(c.TopologySpread) },
		c.checkLabels, c.checkAnnotations, c.checkSecurityContext, c.checkVolumes,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c Config) checkNames() error {
	if c.Namespace != "" && len(validation.IsDNS1123Label(c.Namespace)) > 0 {
		return job.InvalidField("namespace", c.Namespace, "want lower-case letters, digits and dashes, at most 63")
	}
	if c.Kubeconfig != "" && !filepath.IsAbs(c.Kubeconfig) {
		return job.InvalidField("kubeconfig", c.Kubeconfig, "want the whole path, from the root")
	}
	for _, text := range []struct{ key, value string }{{"context", c.Context}, {"kubeconfig", c.Kubeconfig}} {
		if err := job.CheckText(text.value); err != nil {
			return job.InvalidField(text.key, text.value, "holds %v", err)
		}
	}
	if err := c.checkImage(); err != nil {
		return err
	}
	return c.checkObjects()
}

// checkImage checks the worker's image, and how it is pulled.
func (c Config) checkImage() error {
	if err := job.CheckImage("image", c.Image); err != nil {
		return err
	}
	switch corev1.PullPolicy(c.ImagePullPolicy) {
	case "", corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever:
	default:
		return job.InvalidField("image_pull_policy", c.ImagePullPolicy,
			"want %q, %q or %q", corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)
	}
	for _, name := range c.ImagePullSecrets {
		if !isName(name) {
			return job.InvalidField("image_pull_secrets", name, "want the name of a Secret")
		}
	}
	return nil
}

// checkObjects checks the names of what the provider's Pods refer to.
func (c Config) checkObjects() error {
	for _, n := range []struct{ key, value, want string }{
		{"service_account", c.ServiceAccount, "a service account"},
		{"priority_class", c.PriorityClass, "a PriorityClass"},
		{"runtime_class", c.RuntimeClass, "a RuntimeClass"},
		{"queue", c.Queue, "a LocalQueue, at most 63 characters"},
	} {
		tooLong := n.key == "queue" && len(n.value) > validation.LabelValueMaxLength // it is a label's value
		if n.value != "" && (!isName(n.value) || tooLong) {
			return job.InvalidField(n.key, n.value, "want the name of %s", n.want)
		}
	}
	domain, _, whole := strings.Cut(c.GPUResource, "/")
	native := domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io")
	if c.GPUResource != "" && (!whole || native || !isKey(c.GPUResource)) {
		return job.InvalidField("gpu_resource", c.GPUResource, "want DOMAIN/NAME of an extended resource, such as %s", DefaultGPUResource)
	}
	return nil
}

// checkJob checks the defaults of a job that are no resources, and ebpf.
func (c Config) checkJob() error {
	if _, _, err := job.ParseUser(string(c.User)); err != nil {
		return err // of user, which is the key's name too
	}
	for _, d := range []struct {
		key   string
		value *metav1.Duration
	}{{"ttl", c.TTL}, {"start_timeout", c.StartTimeout}} {
		if d.value != nil && d.value.Duration < time.Second { // a Job counts in seconds
			return job.InvalidField(d.key, d.value.Duration, "want 1s or more")
		}
	}
	if err := c.checkUserNamespace(); err != nil {
		return err
	}
	if c.EBPF == EBPFRequire && c.HostUsers != nil && !*c.HostUsers {
		return job.InvalidField("host_users", false, "the agent of a Pod with a user namespace can't have eBPF, and ebpf is %q",
			EBPFRequire)
	}
	switch c.EBPF {
	case "", EBPFOff, EBPFAuto, EBPFRequire:
		return nil
	}
	return job.InvalidField("ebpf", c.EBPF, "want %q, %q or %q", EBPFOff, EBPFAuto, EBPFRequire)
}

// MaxUserNamespaceID is the highest uid and gid of a Pod that has a user namespace: the
// kubelet gives each 65536 of the node's.
const MaxUserNamespaceID = 65535

// checkUserNamespace refuses ids that no Pod has whose host_users is false.
func (c Config) checkUserNamespace() error {
	if c.HostUsers == nil || *c.HostUsers {
		return nil
	}
	uid, gid, _ := job.ParseUser(string(c.User)) // checked before
	sc := cmp.Or(c.SecurityContext, &corev1.PodSecurityContext{})
	for _, id := range []struct {
		key   string
		value *int64
	}{
		{"user", uid}, {"user", gid}, {"security_context.runAsUser", sc.RunAsUser},
		{"security_context.runAsGroup", sc.RunAsGroup}, {"security_context.fsGroup", sc.FSGroup},
	} {
		if id.value != nil && *id.value > MaxUserNamespaceID {
			return job.InvalidField(id.key, *id.value, "with host_users: false want 0 to %d", MaxUserNamespaceID)
		}
	}
	return nil
}

func (c Config) checkResources() error {
	for _, r := range []struct {
		key            string
		amount         job.Amount
		request, limit *resource.Quantity
	}{
		{"cpu", job.CPUs, c.CPU, c.CPULimit}, {"memory", job.Memory, c.Memory, c.MemoryLimit},
		{"ephemeral_storage", job.Disk, c.EphemeralStorage, nil},
	} {
		if err := r.amount.CheckPair(r.key, r.request, r.key+"_limit", r.limit); err != nil {
			return err
		}
	}
	return nil
}

// reserved says whose a label's or an annotation's key is, if not the user's.
func reserved(key string) string {
	domain, _, _ := strings.Cut(key, "/")
	switch key {
	case "app.kubernetes.io/name", "app.kubernetes.io/part-of", "app.kubernetes.io/managed-by", "kubectl.kubernetes.io/default-container":
		return "hodei sets it itself"
	case "job-name", "controller-uid":
		return "the Job's controller sets it itself"
	case "kueue.x-k8s.io/queue-name":
		return "it is what the key queue sets"
	}
	switch {
	case domain == "hodei.io" || strings.HasSuffix(domain, ".hodei.io"):
		return "hodei.io is hodei's own"
	case domain == "batch.kubernetes.io":
		return "the Job's controller sets it itself"
	}
	return ""
}

func (c Config) checkLabels() error {
	for _, key := range slices.Sorted(maps.Keys(c.Labels)) {
		if whose := reserved(key); whose != "" {
			return job.InvalidField("labels."+key, c.Labels[key], "%s", whose)
		}
	}
	return checkSelector("labels", c.Labels)
}

func (c Config) checkAnnotations() error {
	for _, key := range slices.Sorted(maps.Keys(c.Annotations)) {
		if whose := reserved(key); whose != "" {
			return job.InvalidField("annotations."+key, c.Annotations[key], "%s", whose)
		}
		if !isKey(strings.ToLower(key)) { // as the API server does
			return job.InvalidField("annotations", key, "want a key such as example.com/name")
		}
	}
	if err := apivalidation.ValidateAnnotationsSize(c.Annotations); err != nil {
		return job.WrongField("annotations", "%v", err)
	}
	return nil
}

// checkSelector checks labels, or what is compared with labels.
func checkSelector(path string, labels map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if !isKey(key) {
			return job.InvalidField(path, key, "want a label's key, such as example.com/name")
		}
		if value := labels[key]; len(validation.IsValidLabelValue(value)) > 0 {
			return job.InvalidField(path+"."+key, value, "want at most 63 letters, digits, dashes, underscores and dots")
		}
	}
	return nil
}

func (c Config) checkSecurityContext() error {
	sc := c.SecurityContext
	if sc == nil {
		return nil
	}
	for _, id := range []struct {
		key   string
		value *int64
	}{{"runAsUser", sc.RunAsUser}, {"runAsGroup", sc.RunAsGroup}, {"fsGroup", sc.FSGroup}} {
		if id.value != nil && len(validation.IsValidUserID(*id.value)) > 0 {
			return job.InvalidField("security_context."+id.key, *id.value, "want 0 to %d", 1<<31-1)
		}
	}
	for i, id := range sc.SupplementalGroups {
		if len(validation.IsValidGroupID(id)) > 0 {
			return job.InvalidField(fmt.Sprintf("security_context.supplementalGroups[%d]", i), id, "want 0 to %d", 1<<31-1)
		}
	}
	for i, s := range sc.Sysctls {
		if len(s.Name) > 253 || !sysctlPattern.MatchString(s.Name) {
			return job.InvalidField(fmt.Sprintf("security_context.sysctls[%d].name", i), s.Name,
				"want a kernel parameter, such as net.core.somaxconn")
		}
	}
	if p := sc.SeccompProfile; p != nil {
		if err := checkProfile("security_context.seccompProfile", string(p.Type), p.LocalhostProfile); err != nil {
			return err
		}
	}
	if p := sc.AppArmorProfile; p != nil {
		return checkProfile("security_context.appArmorProfile", string(p.Type), p.LocalhostProfile)
	}
	return nil
}

// sysctlPattern is Kubernetes' own.
var sysctlPattern = regexp.MustCompile(`^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$`)

// checkProfile checks that a profile of the node is named where one is meant.
func checkProfile(path, kind string, local *string) error {
	switch named := local != nil && *local != ""; {
	case kind == "":
		return job.InvalidField(path+".type", "", "want RuntimeDefault, Localhost or Unconfined")
	case kind == "Localhost" && !named:
		return job.WrongField(path+".localhostProfile", "must be given where type is Localhost")
	case kind != "Localhost" && local != nil:
		return job.InvalidField(path+".localhostProfile", *local, "must be left out where type is %s", kind)
	}
	return nil
}

func isName(s string) bool { return len(validation.IsDNS1123Subdomain(s)) == 0 }
func isKey(s string) bool  { return len(validation.IsQualifiedName(s)) == 0 }
