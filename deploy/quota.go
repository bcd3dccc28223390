package deploy

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// quotaKeys are what a quota can bound. They are bounds of requests, by which the
// scheduler counts too. A quota on limits would refuse every Pod of a job, as the
// agent's container has none, and must not: a default for it would be the same
// for all jobs, and one that is too small kills the agent and loses the output.
var quotaKeys = []string{"cpu", "memory", "pods"}

var quotaAmounts = map[corev1.ResourceName]job.Amount{
	corev1.ResourceCPU: job.AllCPUs, corev1.ResourceMemory: job.AllMemory, corev1.ResourcePods: job.AllPods,
}

// quotaName is that of the ResourceQuota and of the LimitRange.
const quotaName = "hodei-jobs"

// defaultRequests count for a container that doesn't say what it needs. A quota
// refuses such a Pod: without them no job would start that has no --cpu or no
// --memory. More would let fewer such jobs run at once, less would let a quota
// admit more of them than the nodes can hold.
var defaultRequests = map[corev1.ResourceName]string{
	corev1.ResourceCPU:    "100m",
	corev1.ResourceMemory: "128Mi",
}

// ParseQuota reads a quota such as "cpu=20,memory=64Gi,pods=50". The keys are cpu
// (cores), memory (bytes) and pods, each at most once; an error names the key, its
// value and what is allowed. "" is no quota.
func ParseQuota(text string) (corev1.ResourceList, error) {
	if text == "" {
		return nil, nil
	}
	quota := corev1.ResourceList{}
	for part := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(part, "=")
		name := corev1.ResourceName(key)
		switch _, again := quota[name]; {
		case !slices.Contains(quotaKeys, key):
			return nil, fmt.Errorf("quota of %q: want KEY=QUANTITY with the keys %s", part, strings.Join(quotaKeys, ", "))
		case !ok || value == "":
			return nil, fmt.Errorf("quota %s has no quantity: want %s=QUANTITY", key, key)
		case again:
			return nil, fmt.Errorf("quota %s is given twice", key)
		}
		quantity, err := quotaAmounts[name].Parse(value)
		if err != nil && value != "0" { // which lets no Pod in, and may be meant
			return nil, fmt.Errorf("quota %s=%w", key, err)
		}
		quota[name] = quantity
	}
	return quota, nil
}

// quotaObjects are a ResourceQuota, and a LimitRange where it needs one.
func quotaObjects(quota corev1.ResourceList) []*unstructured.Unstructured {
	if len(quota) == 0 {
		return nil
	}
	hard, requests := map[string]any{}, map[string]any{}
	for name, quantity := range quota {
		hard[string(name)] = quantity.String()
		if request, ok := defaultRequests[name]; ok {
			requests[string(name)] = request
		}
	}
	objects := []*unstructured.Unstructured{workersObject("ResourceQuota", map[string]any{"hard": hard})}
	if len(requests) > 0 {
		objects = append(objects, workersObject("LimitRange", map[string]any{
			"limits": []any{map[string]any{"type": "Container", "defaultRequest": requests}},
		}))
	}
	return objects
}

func workersObject(kind string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1",
		"kind":       kind,
		"metadata": map[string]any{
			"name": quotaName, "namespace": WorkersNamespace,
			"labels": map[string]any{LabelName: "hodei", LabelPartOf: "hodei"},
		},
		"spec": spec,
	}}
}
