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

// labelWait bounds the question for a namespace's label. The provider has been changed by then, so nothing depends
// on the answer.
const labelWait = 5 * time.Second

// ebpfNeeds is what eBPF needs, in words.
const ebpfNeeds = "the agent's container runs as root with the capabilities BPF, PERFMON and NET_ADMIN, " +
	"which Pod Security baseline and restricted forbid; " +
	"nodes have Linux 6.1 or later with BTF (/sys/kernel/btf/vmlinux)"

// ebpfTeller says what eBPF needs, after a provider that asks for it was added or changed.
type ebpfTeller struct {
	ErrOut io.Writer
	// reach returns the provider with a name and settings, at the cluster that these mean.
	reach func(name string, c provider.Config) (*kubernetes.Provider, error)
	// named makes a hint ready to be typed.
	named func(hint string) string
}

func newEBPFTeller(env *command.Env) ebpfTeller {
	return ebpfTeller{ErrOut: env.ErrOut, reach: env.ProviderAt, named: env.Named}
}

// say says what the provider needs if it asks for eBPF, and whether its namespace allows that. The error is ctx's
// alone.
func (t ebpfTeller) say(ctx context.Context, name string, c provider.Config) error {
	if c.EBPF != provider.EBPFAuto && c.EBPF != provider.EBPFRequire {
		return nil
	}
	fmt.Fprintf(t.ErrOut, "ebpf %s needs: %s\n", c.EBPF, ebpfNeeds)
	asking, cancel := context.WithTimeout(ctx, labelWait)
	defer cancel()
	c = c.WithDefaults()
	p, err := t.reach(name, c)
	if err != nil {
		fmt.Fprintf(t.ErrOut, "its namespace's Pod Security label is not known: %s\n", ui.Printable(kubernetes.Explain(err).Message))
		return nil
	}
	security := p.PodSecurity(asking)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	fmt.Fprintf(t.ErrOut, "%s%s\n", ui.Printable(security.String()), check.EBPFConsequence(c, security))
	if security.Err == nil && security.Forbids() != "" {
		fmt.Fprintf(t.ErrOut, "hint: %s\n", t.named(check.EBPFHint(name, c)))
	}
	return nil
}
