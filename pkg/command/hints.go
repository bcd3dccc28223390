package command

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// Named returns a hint with its commands ready to be typed: in place of {hodei} stands the program's name, and flags
// lead to the same cluster and namespace. It is empty if it would only repeat what was just typed.
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

// sortedWords returns the words of a command line so that lines with the same flags in another order are equal.
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

// overruling are the variables that overrule settings of the provider in use, by the flag of 'hodei provider set' that
// makes the setting.
var overruling = map[string]string{
	"namespace": "HODEI_K8S_NAMESPACE", "service-account": "HODEI_K8S_SERVICE_ACCOUNT",
	"image": "HODEI_K8S_IMAGE", "image-pull-policy": "HODEI_K8S_IMAGE_PULL_POLICY",
}

// overruled adds to a hint that changes a provider's setting that a variable overrules it, if one is set.
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

// toCarry returns the flags that hints of this command carry.
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

// flags returns by as it is typed; each flag begins with a space.
func flags(by place.Asked) string {
	var b strings.Builder
	for _, f := range []struct{ name, value string }{{"provider", by.Provider}, {"kubeconfig", by.Kubeconfig}, {"context", by.Context}} {
		if f.value != "" {
			b.WriteString(" --" + f.name + " " + shell.Quote(f.value))
		}
	}
	return b.String()
}

// kubectlFlags returns the flags that lead kubectl to t.
func (a *Env) kubectlFlags(t place.Target) string {
	by := place.Asked{Context: t.Config.Context, Kubeconfig: t.Config.Kubeconfig}
	if k, err := a.Home().Look(by.Kubeconfig); err == nil && k.Current == by.Context {
		by.Context = ""
	}
	return flags(by)
}

// clusterFlags and CallerFlags are the kube flags that a hint repeats, because without them it would be about another
// cluster or another caller. A token or a password is in no hint.
var (
	clusterFlags = []string{"cluster", "server", "certificate-authority", "tls-server-name", "insecure-skip-tls-verify", "proxy-url"}
	CallerFlags  = []string{"user", "as", "as-uid", "as-group", "as-user-extra", "client-certificate", "client-key"}
)

// Typed returns those of the named flags that were given, as they are typed, for a hint; each begins with a space. A
// flag that may be repeated stands there once for each value.
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
