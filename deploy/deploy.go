// Package deploy holds what hodei install puts into a cluster: the manifests of
// deploy/kubernetes, and what the installer's choices make of them ([Objects]).
// [Rights] lists what their roles grant, and why. It knows no cluster.
package deploy

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/yaml"
)

//go:embed kubernetes/rbac.yaml
var rbac []byte

//go:embed kubernetes/network-policy.yaml
var networkPolicy []byte

// The names that the manifests give.
const (
	SystemNamespace  = "hodei-system"
	WorkersNamespace = "hodei-jobs-workers"
	// UserRole is the ClusterRole for people.
	UserRole = "hodei-user"
)

// AnnotationCreatedBy is "hodei" on a namespace that hodei has made, and that
// uninstalling it deletes. The manifests can't set it: they don't know what is there.
const AnnotationCreatedBy = "hodei.io/created-by"

// Selector matches the labels of everything that the manifests make.
const Selector = LabelName + "=hodei," + LabelPartOf + "=hodei"

// The labels of Selector.
const (
	LabelName   = "app.kubernetes.io/name"
	LabelPartOf = "app.kubernetes.io/part-of"
)

// PodSecurityLabels are those by which a namespace refuses Pods that do not meet a
// standard (the first), warns of them, and notes them in the audit log.
var PodSecurityLabels = []string{
	"pod-security.kubernetes.io/enforce", "pod-security.kubernetes.io/warn", "pod-security.kubernetes.io/audit",
}

// Values of Options.Profile: the Pod Security standard of the workers' namespace.
const (
	ProfileRestricted = "restricted"
	ProfileBaseline   = "baseline"
	// ProfilePrivileged keeps nothing out, so that the agents may measure with eBPF: who
	// may create Jobs there may then take over its nodes. docs/security.md weighs it.
	ProfilePrivileged = "privileged"
)

// Values of Options.NetworkPolicy.
const (
	// NetworkInternet lets workers reach DNS, the coordinator and public addresses.
	NetworkInternet = "internet"
	// NetworkPrivate lets them reach private addresses too, so other Pods, the nodes
	// and the API server among them; metadata servers never.
	NetworkPrivate = "private"
	// NetworkNone leaves the policy out.
	NetworkNone = "none"
)

// Options are the installer's choices. The zero value is the manifests as they are.
type Options struct {
	// WorkersNamespace is where jobs run; "" is WorkersNamespace. It is none of
	// Kubernetes' own, and not SystemNamespace.
	WorkersNamespace string
	// Profile is ProfileRestricted, which "" means too, ProfileBaseline or ProfilePrivileged.
	Profile string
	// NetworkPolicy is NetworkInternet, which "" means too, NetworkPrivate or NetworkNone.
	NetworkPolicy string
	// Quota bounds what all jobs of the namespace request together; see ParseQuota.
	// Empty: no bound.
	Quota corev1.ResourceList
}

// Objects returns what is to be applied, in that order: namespaces come before
// what is in them. The error names the choice that makes no sense.
func Objects(o Options) ([]*unstructured.Unstructured, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	objects, err := decode(rbac)
	if err != nil {
		return nil, err
	}
	if o.NetworkPolicy != NetworkNone {
		policies, err := decode(networkPolicy)
		if err != nil {
			return nil, err
		}
		objects = append(objects, policies...)
	}
	objects = append(objects, quotaObjects(o.Quota)...)
	for _, object := range objects {
		if object.GetKind() == "Namespace" && object.GetName() == WorkersNamespace && o.Profile != ProfileRestricted {
			setProfile(object, o.Profile)
		}
		if object.GetKind() == "NetworkPolicy" && o.NetworkPolicy == NetworkPrivate {
			if err := allowPrivate(object); err != nil {
				return nil, err
			}
		}
		if o.WorkersNamespace != WorkersNamespace {
			move(object, o.WorkersNamespace)
		}
	}
	return objects, nil
}

func (o *Options) setDefaults() error {
	if o.WorkersNamespace == "" {
		o.WorkersNamespace = WorkersNamespace
	}
	if o.Profile == "" {
		o.Profile = ProfileRestricted
	}
	if o.NetworkPolicy == "" {
		o.NetworkPolicy = NetworkInternet
	}
	profiles := []string{ProfileRestricted, ProfileBaseline, ProfilePrivileged}
	policies := []string{NetworkInternet, NetworkPrivate, NetworkNone}
	switch problems := validation.IsDNS1123Label(o.WorkersNamespace); {
	case len(problems) > 0:
		return fmt.Errorf("workers' namespace %q: %s", o.WorkersNamespace, problems[0])
	case o.WorkersNamespace == SystemNamespace:
		return fmt.Errorf("workers' namespace %q is the coordinator's, whose Secrets no job may mount", SystemNamespace)
	case o.WorkersNamespace == corev1.NamespaceDefault || strings.HasPrefix(o.WorkersNamespace, "kube-"):
		return fmt.Errorf("workers' namespace %q is Kubernetes' own: its Pods would have to meet Pod Security %q",
			o.WorkersNamespace, o.Profile)
	case !slices.Contains(profiles, o.Profile):
		return fmt.Errorf("profile %q: want %s, %s or %s", o.Profile, profiles[0], profiles[1], profiles[2])
	case !slices.Contains(policies, o.NetworkPolicy):
		return fmt.Errorf("network policy %q: want %s, %s or %s", o.NetworkPolicy, policies[0], policies[1], policies[2])
	}
	return nil
}

// decode reads the objects of a manifest.
func decode(manifest []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for d := yaml.NewYAMLToJSONDecoder(bytes.NewReader(manifest)); ; {
		object := &unstructured.Unstructured{}
		err := d.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
}

// setProfile has a namespace enforce a Pod Security standard, warn of what does not
// meet it, and note it in the audit log.
func setProfile(namespace *unstructured.Unstructured, profile string) {
	labels := namespace.GetLabels()
	for _, label := range PodSecurityLabels {
		labels[label] = profile
	}
	namespace.SetLabels(labels)
}

// move makes an object of the workers' namespace one of another: its own name, the
// namespace that it is in, and those of a binding's subjects.
func move(object *unstructured.Unstructured, namespace string) {
	if object.GetKind() == "Namespace" && object.GetName() == WorkersNamespace {
		object.SetName(namespace)
	}
	if object.GetNamespace() == WorkersNamespace {
		object.SetNamespace(namespace)
	}
	subjects, _ := object.Object["subjects"].([]any)
	for _, subject := range subjects {
		if s, ok := subject.(map[string]any); ok && s["namespace"] == WorkersNamespace {
			s["namespace"] = namespace
		}
	}
}
