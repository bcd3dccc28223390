package manifest

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
)

// Each job has a uid of its own. The kernel counts descriptors in flight, pipes, inotify
// watches and more per uid, over all Pods of a node, so jobs of one uid can starve each other.
// The range lies above the uids of people and of most images, and below 2^21, beyond which some
// programs can't write archives. It is so large that on a full node, with 110 Pods, two jobs
// share a uid in less than one of a hundred cases.
const (
	firstOwnUID = 1 << 20
	ownUIDs     = 1 << 20
)

// ownUID is the uid of a job that names none: the same for each of its attempts.
func ownUID(namespace, name string) int64 {
	sum := sha256.Sum256([]byte(namespace + "/" + name))
	return firstOwnUID + int64(binary.BigEndian.Uint32(sum[:])%ownUIDs)
}

// users are the uids and gids of the containers; nil leaves one to the image, or to the
// cluster.
type users struct{ command, group, agent, agentGroup *int64 }

// users are those of a job: what --user says, else the provider's user, else its security
// context, else a uid of the job's own. The agent has the command's uid: where a cluster or
// a node refuses others, one setting is enough for both. Where the command is root, the
// agent is not.
func (s Settings) users(spec *job.Spec) (users, error) {
	uid, gid, err := job.ParseUser(spec.User)
	if err != nil {
		return users{}, err
	}
	if spec.User == job.UserImage { // who refuses a fixed uid refuses it in every container
		return users{}, nil
	}
	own := id(ownUID(s.Namespace, spec.Name))
	if s.OwnUserNamespace() { // whose uids are its own on the node, and few
		own = id(AgentUser)
	}
	if theirs := s.Config.SecurityContext; uid == nil && theirs != nil {
		uid, gid = theirs.RunAsUser, theirs.RunAsGroup
	}
	if uid == nil {
		uid, gid = own, cmp.Or(gid, id(AgentUser))
	}
	if beyond := max(*uid, *cmp.Or(gid, uid)); s.OwnUserNamespace() && beyond > provider.MaxUserNamespaceID {
		e := &job.FieldError{Path: "user", Value: spec.User,
			Detail: fmt.Sprintf("a Pod with a user namespace of its own has no id above %d", provider.MaxUserNamespaceID)}
		return users{}, e.WithHint(fmt.Sprintf("run it again with a lower one: --user %d", AgentUser))
	}
	u := users{command: uid, group: gid, agent: uid, agentGroup: id(AgentUser)}
	if *uid == 0 {
		u.agent = own
		if named, _, _ := job.ParseUser(string(s.Config.User)); named != nil && *named != 0 {
			u.agent = named
		}
	}
	return u, nil
}

// OwnUserNamespace reports whether each Pod of the provider has a user namespace.
func (s Settings) OwnUserNamespace() bool { return s.Config.HostUsers != nil && !*s.Config.HostUsers }

// agentSecurity is the security context of the agent. Where the user is left to the
// cluster, the worker's image says 65532 itself, and the kubelet checks that it is not root.
//
// With eBPF it has the capabilities for it, and then it is root all the same: Kubernetes
// has no ambient capabilities, so that of those that are added another user's process has
// none, capabilities(7), and no_new_privs keeps it from getting them from its file. It is
// not the root of other containers: it may not pass over the modes of files, nor take
// another user, nor get any capability beside the three.
func agentSecurity(u users, ebpf bool) *corev1.SecurityContext {
	no, yes := false, true
	sc := &corev1.SecurityContext{
		RunAsUser: u.agent, RunAsGroup: u.agentGroup,
		RunAsNonRoot: &yes, AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	if ebpf {
		sc.RunAsUser, sc.RunAsGroup, sc.RunAsNonRoot = id(0), id(AgentUser), &no
		sc.Capabilities.Add = slices.Clone(ebpfCapabilities)
	}
	return sc
}

// ebpfCapabilities are what the agent's programs take, capabilities(7): BPF loads any,
// PERFMON those that look into the kernel, NET_ADMIN those that count packets. Pod
// Security baseline and restricted forbid all three.
var ebpfCapabilities = []corev1.Capability{"BPF", "PERFMON", "NET_ADMIN"}

// podSecurity is the security context of the Pod, from the provider's, which may be nil.
// It has no user: that would be the agent's too where it has none.
func podSecurity(theirs *corev1.PodSecurityContext) *corev1.PodSecurityContext {
	pod := &corev1.PodSecurityContext{}
	if theirs != nil {
		pod = theirs.DeepCopy()
	}
	pod.RunAsUser, pod.RunAsGroup = nil, nil
	if pod.SeccompProfile == nil {
		pod.SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
	}
	return pod
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
