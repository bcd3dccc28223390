package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/hodei-jobs/hodei/pkg/check"
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
	fmt.Fprintf(a.ErrOut, "%s%s\n", ui.Printable(security.String()), check.EBPFConsequence(c, security))
	if security.Err == nil && security.Forbids() != "" {
		fmt.Fprintf(a.ErrOut, "hint: %s\n", a.named(check.EBPFHint(name, c)))
	}
}
