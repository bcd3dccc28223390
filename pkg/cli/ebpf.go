package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// labelWait is how long the change of a provider may take that asks for a namespace's
// label: the change is made without the answer too.
const labelWait = 5 * time.Second

// ebpfNeeds is what eBPF takes, beside a namespace that allows it.
const ebpfNeeds = "the agent's container runs as root with the capabilities BPF, PERFMON and NET_ADMIN, which Pod Security baseline and restricted forbid; " +
	"nodes have Linux 6.1 or later with BTF (/sys/kernel/btf/vmlinux)"

// sayEBPF says what a provider that was added or changed needs for its ebpf, and what its
// namespace says to it. The provider is as it was told to be, whatever that is.
func (a *app) sayEBPF(ctx context.Context, name string, c provider.Config) {
	if c.EBPF != provider.EBPFAuto && c.EBPF != provider.EBPFRequire {
		return
	}
	fmt.Fprintf(a.ErrOut, "ebpf %s needs: %s\n", c.EBPF, ebpfNeeds)
	ctx, cancel := context.WithTimeout(ctx, labelWait)
	defer cancel()
	*a.kube.Context, *a.kube.KubeConfig = c.Context, c.Kubeconfig
	c = c.WithDefaults()
	p, err := a.kubernetesProvider(name, c)
	if err != nil {
		fmt.Fprintf(a.ErrOut, "its namespace's Pod Security label is not known: %s\n", ui.Printable(kubernetes.Explain(err).Message))
		return
	}
	security := p.PodSecurity(ctx)
	fmt.Fprintf(a.ErrOut, "%s%s\n", ui.Printable(security.String()), ebpfConsequence(c, security))
	if security.Err == nil && security.Forbids() != "" {
		fmt.Fprintf(a.ErrOut, "hint: %s\n", a.named(ebpfHint(name, c)))
	}
}

// ebpfConsequence is what a namespace's Pod Security makes of jobs, as the end of a sentence.
func ebpfConsequence(c provider.Config, security kubernetes.PodSecurity) string {
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

// ebpf looks whether the agents may have what the provider's ebpf asks for. Whether the
// nodes can do it, the agents find out.
func (k *clusterChecks) ebpf(ctx context.Context) check {
	const name = "ebpf"
	switch k.provider.EBPF {
	case provider.EBPFAuto:
		spec := &job.Spec{Name: "hodei-check", Command: []string{"true"}}
		k.place.SetDefaults(spec)
		_, without, err := k.place.Plan(ctx, spec)
		switch {
		case err != nil:
			return failedCheck(name, err)
		case without != "":
			return checked(name, checkWarning, ebpfHint(k.name, k.provider), "jobs run without it: %s", without)
		}
	case provider.EBPFRequire:
	default:
		return checked(name, checkSkipped, "", "the provider does not ask for it")
	}
	security := k.place.PodSecurity(ctx)
	switch {
	case security.Err != nil:
		return checked(name, checkWarning, "", "%s%s", security, ebpfConsequence(k.provider, security))
	case security.Forbids() != "":
		return checked(name, checkError, ebpfHint(k.name, k.provider), "%s%s", security, ebpfConsequence(k.provider, security))
	}
	return checked(name, checkOK, "", "%s; whether the nodes can do it, their agents find out", security)
}

// ebpfHint is what to type where the namespace does not allow the agent's capabilities.
func ebpfHint(name string, c provider.Config) string {
	return "see docs/providers.md#ebpf, and type: " + kubernetes.EBPFCommand(name, c)
}
