package provider

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/hodei-jobs/hodei/pkg/check"
	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// labelWait is how long the change of a provider may take that asks for a namespace's
// label: the change is made without the answer too.
const labelWait = 5 * time.Second

// ebpfNeeds is what eBPF takes, beside a namespace that allows it.
const ebpfNeeds = "the agent's container runs as root with the capabilities BPF, PERFMON and NET_ADMIN, " +
	"which Pod Security baseline and restricted forbid; " +
	"nodes have Linux 6.1 or later with BTF (/sys/kernel/btf/vmlinux)"

// ebpfTeller says what the eBPF of a provider needs that was added or changed.
type ebpfTeller struct {
	ErrOut io.Writer
	// reach returns the provider of a name and settings, at the cluster that these mean.
	reach func(name string, c provider.Config) (*kubernetes.Provider, error)
	// named makes a hint ready to be typed.
	named func(hint string) string
}

func newEBPFTeller(env *command.Env) ebpfTeller {
	return ebpfTeller{ErrOut: env.ErrOut, reach: env.ProviderAt, named: env.Named}
}

// say says what the provider needs for its ebpf, and what its namespace says to it. The provider is
// as it was told to be, whatever that is.
func (t ebpfTeller) say(ctx context.Context, name string, c provider.Config) {
	if c.EBPF != provider.EBPFAuto && c.EBPF != provider.EBPFRequire {
		return
	}
	fmt.Fprintf(t.ErrOut, "ebpf %s needs: %s\n", c.EBPF, ebpfNeeds)
	ctx, cancel := context.WithTimeout(ctx, labelWait)
	defer cancel()
	c = c.WithDefaults()
	p, err := t.reach(name, c)
	if err != nil {
		fmt.Fprintf(t.ErrOut, "its namespace's Pod Security label is not known: %s\n", ui.Printable(kubernetes.Explain(err).Message))
		return
	}
	security := p.PodSecurity(ctx)
	fmt.Fprintf(t.ErrOut, "%s%s\n", ui.Printable(security.String()), check.EBPFConsequence(c, security))
	if security.Err == nil && security.Forbids() != "" {
		fmt.Fprintf(t.ErrOut, "hint: %s\n", t.named(check.EBPFHint(name, c)))
	}
}
