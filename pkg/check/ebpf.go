package check

import (
	"context"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// ebpf checks whether agents may have the capabilities that the provider's ebpf asks for. Whether the nodes can do
// eBPF, only the agents find out.
func (k *Cluster) ebpf(ctx context.Context) Result {
	const name = "ebpf"
	switch k.provider.EBPF {
	case provider.EBPFAuto:
		spec := &job.Spec{Name: "hodei-check", Command: []string{"true"}}
		k.place.SetDefaults(spec)
		_, without, err := k.place.Plan(ctx, spec)
		switch {
		case err != nil:
			return Failed(name, err)
		case without != "":
			return New(name, Warning, EBPFHint(k.name, k.provider), "jobs run without it: %s", without)
		}
	case provider.EBPFRequire:
	default:
		return New(name, Skipped, "", "the provider does not ask for it")
	}
	security := k.place.PodSecurity(ctx)
	switch {
	case security.Err != nil:
		return New(name, Warning, "", "%s%s", security, EBPFConsequence(k.provider, security))
	case security.Forbids() != "":
		return New(name, Error, EBPFHint(k.name, k.provider), "%s%s", security, EBPFConsequence(k.provider, security))
	}
	return New(name, OK, "", "%s; whether the nodes can do it, their agents find out", security)
}

// EBPFConsequence returns what a namespace's Pod Security means for jobs of a provider that asks for eBPF, as the end
// of a sentence about that Pod Security; empty: nothing.
func EBPFConsequence(c provider.Config, security kubernetes.PodSecurity) string {
	auto := c.EBPF == provider.EBPFAuto
	switch {
	case auto && c.User == job.UserImage:
		return "; jobs run without eBPF, for their user is left to the cluster (user: image), and the agent would have to be root"
	case security.Forbids() == "":
		return ""
	case auto:
		return "; jobs run without eBPF"
	case security.Err != nil:
		return "; if it forbids them, no job starts"
	}
	return "; no job starts"
}

// EBPFHint returns what to type if the namespace does not allow the agent's capabilities. name is the provider's.
func EBPFHint(name string, c provider.Config) string {
	return "see docs/providers.md#ebpf, and type: " + kubernetes.EBPFCommand(name, c)
}
