package manifest

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// agentResources has a limit of ephemeral storage for the kubelet's sake. It adds
// up the limits of the containers that have one, and evicts the Pod when all of
// its volumes, writable layers and logs together are larger. Were the job's the
// only one, the output in the spool would count against --ephemeral-storage: with
// this one, which is what hodei itself may write, it never does.
func agentResources(spec *job.Spec) corev1.ResourceRequirements {
	disk := spec.LogSpool.Value() + spoolMargin + runDirBytes + contract.EvictionBytes + agentLogBytes
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("32Mi"),
			// Without it the limit would be requested too, and small nodes refused.
			corev1.ResourceEphemeralStorage: resource.MustParse("0"),
		},
		Limits: corev1.ResourceList{corev1.ResourceEphemeralStorage: *resource.NewQuantity(disk, resource.BinarySI)},
	}
}

// ownStorage is what the job may write to the node's disk, be it to its home.
func ownStorage(spec *job.Spec) resource.Quantity {
	if spec.EphemeralStorage != nil {
		return spec.EphemeralStorage.DeepCopy()
	}
	return resource.MustParse(DefaultEphemeralStorage)
}

// jobResources gives the job what it asked for. The log of its container counts against
// the container's own limit of ephemeral storage, and is hodei's doing, so it is added.
func jobResources(spec *job.Spec, gpuResource string) corev1.ResourceRequirements {
	r := corev1.ResourceRequirements{
		Requests: corev1.ResourceList{
			corev1.ResourceEphemeralStorage: resource.MustParse("0"), // as the agent's
		},
		Limits: corev1.ResourceList{},
	}
	disk := ownStorage(spec)
	if spec.ContainerLogs {
		disk.Add(*resource.NewQuantity(containerLogBytes, resource.BinarySI))
	}
	r.Limits[corev1.ResourceEphemeralStorage] = disk
	asked := spec.Resources()
	for name, bounds := range map[corev1.ResourceName]job.Bounds{corev1.ResourceCPU: asked.CPU, corev1.ResourceMemory: asked.Memory} {
		if bounds.Request != nil {
			r.Requests[name] = *bounds.Request
		}
		if bounds.Limit != nil {
			r.Limits[name] = *bounds.Limit
		}
	}
	if spec.GPU > 0 { // an extended resource has a limit, and a request that is the same
		gpus := *resource.NewQuantity(int64(spec.GPU), resource.DecimalSI)
		r.Requests[corev1.ResourceName(gpuResource)], r.Limits[corev1.ResourceName(gpuResource)] = gpus, gpus
	}
	return r
}
