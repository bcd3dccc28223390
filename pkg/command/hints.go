package command

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// Named returns a hint ready to be typed; empty if it would only repeat what was just typed.
func (a *Env) Named(hint string) string {
	hint = a.typeable(a.overruled(hint))
	line := hint
	if i := strings.Index(hint, a.Name+" "); i > 0 && strings.HasSuffix(hint[:i], ": ") && !strings.Contains(hint[:i], "then") {
		line = hint[i:] // what stands before says why, and is nothing to do first
	}
	if slices.Equal(sortedWords(line), sortedWords(a.Name+" "+shell.Line(a.Args))) {
		return ""
	}
	return hint
}

// sortedWords are the words of a command line, so that the order of its flags does not
// matter.
func sortedWords(line string) []string {
	words := strings.Fields(line)
	for i, word := range words {
		switch word {
		case "-n":
			words[i] = "--namespace"
		case "-o":
			words[i] = "--output"
		}
	}
	slices.Sort(words)
	return words
}

// typeable makes the commands in a text ready to be typed: it adds the program's name, and the
// flags that lead them to this command's cluster.
func (a *Env) typeable(text string) string {
	if !strings.Contains(text, "{hodei}") && !strings.Contains(text, "kubectl ") {
		return text
	}
	return strings.ReplaceAll(carry(text, a.toCarry()), "{hodei}", a.Name)
}

// overruling are the variables that count more than the settings of the provider in use, by the flag
// of 'hodei provider set' that a hint names.
var overruling = map[string]string{
	"namespace": "HODEI_K8S_NAMESPACE", "service-account": "HODEI_K8S_SERVICE_ACCOUNT",
	"image": "HODEI_K8S_IMAGE", "image-pull-policy": "HODEI_K8S_IMAGE_PULL_POLICY",
}

// overruled adds to a hint at a provider's setting that a variable counts more.
func (a *Env) overruled(hint string) string {
	_, set, found := strings.Cut(hint, "{hodei} provider set ")
	if !found || a.ProviderFlag != "" {
		return hint
	}
	for flag, variable := range overruling {
		if strings.Contains(set, " --"+flag+" ") && a.Getenv(variable) != "" {
			return hint + "; " + variable + " is set, and counts more: change or unset it"
		}
	}
	return hint
}

// toCarry are the flags that hints of this command carry.
func (a *Env) toCarry() carried {
	if a.cmd == nil && a.target == nil { // no command runs
		return carried{}
	}
	by := a.wanted()
	flags := carried{hodei: flags(by), kubectl: flags(place.Asked{Context: by.Context, Kubeconfig: by.Kubeconfig})}
	if t := a.target; t != nil {
		if bare, err := a.Home().Decide(place.Asked{}); err == nil && bare.LeadsTo(*t) {
			flags.hodei = ""
		}
		flags.kubectl = a.kubectlFlags(*t)
	}
	if n := a.otherNamespace; n != "" {
		flags.namespace = " -n " + shell.Quote(n)
	}
	if a.cmd != nil {
		more := Typed(a.cmd.Flags(), clusterFlags...)
		flags.hodei, flags.kubectl = flags.hodei+more, flags.kubectl+more
	}
	return flags
}

// flags are by as it is typed; each begins with a space.
func flags(by place.Asked) string {
	var b strings.Builder
	for _, f := range []struct{ name, value string }{{"provider", by.Provider}, {"kubeconfig", by.Kubeconfig}, {"context", by.Context}} {
		if f.value != "" {
			b.WriteString(" --" + f.name + " " + shell.Quote(f.value))
		}
	}
	return b.String()
}

// kubectlFlags lead kubectl to t.
func (a *Env) kubectlFlags(t place.Target) string {
	by := place.Asked{Context: t.Config.Context, Kubeconfig: t.Config.Kubeconfig}
	if k, err := a.Home().Look(by.Kubeconfig); err == nil && k.Current == by.Context {
		by.Context = ""
	}
	return flags(by)
}

// The kube flags that a hint repeats: without them it is about another cluster, or
// another caller. A token or a password is in no hint.
var (
	clusterFlags = []string{"cluster", "server", "certificate-authority", "tls-server-name", "insecure-skip-tls-verify", "proxy-url"}
	CallerFlags  = []string{"user", "as", "as-uid", "as-group", "as-user-extra", "client-certificate", "client-key"}
)

// Typed are those of the flags that were given, for a hint; each begins with a space.
func Typed(flags *pflag.FlagSet, names ...string) string {
	var text strings.Builder
	for _, name := range names {
		flag := flags.Lookup(name)
		if flag == nil || !flag.Changed {
			continue
		}
		values := []string{flag.Value.String()}
		if list, ok := flag.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		for _, value := range values {
			if flag.NoOptDefVal == value {
				fmt.Fprintf(&text, " --%s", name)
			} else {
				fmt.Fprintf(&text, " --%s=%s", name, shell.Quote(value))
			}
		}
	}
	return text.String()
}
