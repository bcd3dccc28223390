package kubernetes

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// agentSecurity is the security context of the agent. Where the user is left to the
// cluster, the agent's is too: who refuses a fixed uid refuses it in every container.
// The worker's image then says 65532 itself, and the kubelet checks that it is not root.
//
// With eBPF it has the capabilities for it, and then it is root all the same: Kubernetes
// has no ambient capabilities, so that of those that are added another user's process has
// none, capabilities(7), and no_new_privs keeps it from getting them from its file. It is
// not the root of other containers: it may not pass over the modes of files, nor take
// another user, nor get any capability beside the three.
func agentSecurity(user string, ebpf bool) *corev1.SecurityContext {
	no, yes := false, true
	sc := &corev1.SecurityContext{
		RunAsNonRoot: &yes, AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	if user != job.UserImage {
		uid, gid := int64(agentUser), int64(agentUser)
		sc.RunAsUser, sc.RunAsGroup = &uid, &gid
	}
	if ebpf {
		sc.RunAsUser, sc.RunAsGroup, sc.RunAsNonRoot = id(0), id(agentUser), &no
		sc.Capabilities.Add = slices.Clone(ebpfCapabilities)
	}
	return sc
}

// security returns the security contexts of the Pod and of the command, for what
// --user says and for the provider's, which may be nil.
//
// The Pod's own has no user: the agent, which may inherit one too, has another. In the
// provider's it is the command's, where --user says nothing.
func security(user string, theirs *corev1.PodSecurityContext) (*corev1.PodSecurityContext, *corev1.SecurityContext, error) {
	uid, gid, err := job.ParseUser(user)
	if err != nil {
		return nil, nil, err
	}
	pod := &corev1.PodSecurityContext{}
	if theirs != nil {
		pod = theirs.DeepCopy()
	}
	if user == "" {
		uid, gid = pod.RunAsUser, pod.RunAsGroup
		if uid == nil {
			uid = id(agentUser)
			gid = cmp.Or(gid, id(agentUser))
		}
	}
	pod.RunAsUser, pod.RunAsGroup = nil, nil
	if pod.SeccompProfile == nil {
		pod.SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
	}
	return pod, jobSecurity(uid, gid), nil
}

func id(n int64) *int64 { return &n }

// jobSecurity is the security context of the command. Without a wish it runs as
// an ordinary user without any capability, whatever the image says: most images
// say root only because they say nothing.
func jobSecurity(uid, gid *int64) *corev1.SecurityContext {
	no, yes := false, true
	sc := &corev1.SecurityContext{
		RunAsUser: uid, RunAsGroup: gid, RunAsNonRoot: &yes, AllowPrivilegeEscalation: &no,
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	if uid != nil && *uid == 0 {
		// Root was asked for by name: it gets what containers usually have, but
		// for raw sockets, with which it could forge other Pods' traffic.
		sc.RunAsNonRoot = nil
		sc.Capabilities = &corev1.Capabilities{Drop: []corev1.Capability{"NET_RAW"}}
	}
	return sc
}
