package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// carried are the flags that a hint's commands need so that they reach the same cluster and
// namespace. Each begins with a space.
type carried struct {
	hodei     string // for commands of hodei
	kubectl   string // for kubectl, which knows no provider
	namespace string // for commands of hodei that are about jobs
}

// clusterCommands are those of hodei that are about a cluster, and jobCommands those of
// them that are about jobs of one namespace.
var (
	jobCommands     = []string{"run", "jobs", "describe", "top", "logs", "attach", "report", "advise"}
	clusterCommands = append([]string{"doctor", "install", "uninstall", "certs apply"}, jobCommands...)
)

// kubectlVerbs are kubectl's commands that are about a cluster.
var kubectlVerbs = []string{"apply", "auth", "cluster-info", "cp", "create", "delete", "describe", "edit", "events", "exec", "get", "label", "logs", "patch", "port-forward", "run", "top", "wait"}

// overruling are the variables that count more than the settings of the provider in use, by the flag
// of 'hodei provider set' that a hint names.
var overruling = map[string]string{
	"namespace": "HODEI_K8S_NAMESPACE", "service-account": "HODEI_K8S_SERVICE_ACCOUNT",
	"image": "HODEI_K8S_IMAGE", "image-pull-policy": "HODEI_K8S_IMAGE_PULL_POLICY",
}

// overruled adds to a hint at a provider's setting that a variable counts more.
func (a *app) overruled(hint string) string {
	_, set, found := strings.Cut(hint, "{hodei} provider set ")
	if !found || a.providerFlag != "" {
		return hint
	}
	for flag, variable := range overruling {
		if strings.Contains(set, " --"+flag+" ") && a.getenv(variable) != "" {
			return hint + "; " + variable + " is set, and counts more: change or unset it"
		}
	}
	return hint
}

// carry adds to the commands of a hint the flags that they don't have yet. After -- stands the
// job's own command, whatever it is called.
func carry(hint string, flags carried) string {
	hint, command, dash := strings.Cut(hint, " -- ")
	var b strings.Builder
	for _, part := range splitCommands(hint) {
		b.WriteString(flags.into(part))
	}
	if dash {
		b.WriteString(" -- " + command)
	}
	return b.String()
}

// splitCommands cuts a hint before each of its commands.
func splitCommands(hint string) []string {
	var parts []string
	for {
		next := -1
		for _, program := range []string{"{hodei} ", "kubectl "} {
			if i := strings.Index(hint[min(1, len(hint)):], program); i >= 0 && (next < 0 || i+1 < next) {
				next = i + 1
			}
		}
		if next < 0 {
			return append(parts, hint)
		}
		parts, hint = append(parts, hint[:next]), hint[next:]
	}
}

// into puts the flags into a part of a hint that begins with a command.
func (flags carried) into(part string) string {
	program, rest, _ := strings.Cut(part, " ")
	own := rest
	for _, end := range []string{"; ", ", ", ": "} { // other words
		own, _, _ = strings.Cut(own, end)
	}
	has := func(flags ...string) bool {
		return slices.ContainsFunc(flags, func(flag string) bool { return strings.Contains(own, flag) })
	}
	verb, command := firstWords(own)
	switch {
	case program == "kubectl":
		if slices.Contains(kubectlVerbs, verb) && !has("--context", "--kubeconfig") {
			program += flags.kubectl
		}
		return program + " " + rest
	case program != "{hodei}":
		return part
	case command == "provider add": // it takes the current context
		if has("--context", "--kubeconfig") {
			return part
		}
		return program + " " + command + flags.kubectl + rest[len(command):]
	}
	aboutJob := slices.Contains(jobCommands, verb)
	if strings.HasPrefix(command, "certs ") {
		aboutJob = has("--job", "--finish")
	}
	switch {
	case aboutJob && verb != "certs", slices.Contains(clusterCommands, verb):
		command = verb
	case aboutJob, slices.Contains(clusterCommands, command), has("--secrets"):
	default:
		return part
	}
	if has("--provider ") {
		return part
	}
	add := ""
	if !has("--context", "--kubeconfig") {
		add = flags.hodei
	}
	if aboutJob && !has(" -n ", "--namespace", " -A", "--all-namespaces") {
		add += flags.namespace
	}
	return program + " " + command + add + rest[len(command):]
}

// firstWords are the first word of a text, and the first two.
func firstWords(text string) (one, two string) {
	end := func(s string) int {
		if i := strings.IndexAny(s, " ,;"); i >= 0 {
			return i
		}
		return len(s)
	}
	n := end(text)
	one = text[:n]
	if n == len(text) || text[n] != ' ' {
		return one, one
	}
	return one, text[:n+1+end(text[n+1:])]
}

// toCarry are the flags that hints of this command carry.
func (a *app) toCarry() carried {
	if a.cmd == nil && a.target == nil { // no command runs
		return carried{}
	}
	by := a.wanted()
	flags := carried{hodei: flags(by), kubectl: flags(place.Asked{Context: by.Context, Kubeconfig: by.Kubeconfig})}
	if t := a.target; t != nil {
		if bare, err := a.home().Decide(place.Asked{}); err == nil && bare.LeadsTo(*t) {
			flags.hodei = ""
		}
		flags.kubectl = a.kubectlFlags(*t)
	}
	if n := a.otherNamespace; n != "" {
		flags.namespace = " -n " + shell.Quote(n)
	}
	if a.cmd != nil {
		more := typed(a.cmd.Flags(), clusterFlags...)
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
func (a *app) kubectlFlags(t place.Target) string {
	by := place.Asked{Context: t.Config.Context, Kubeconfig: t.Config.Kubeconfig}
	if k, err := a.home().Look(by.Kubeconfig); err == nil && k.Current == by.Context {
		by.Context = ""
	}
	return flags(by)
}

// The kube flags that a hint repeats: without them it is about another cluster, or
// another caller. A token or a password is in no hint.
var (
	clusterFlags = []string{"cluster", "server", "certificate-authority", "tls-server-name", "insecure-skip-tls-verify", "proxy-url"}
	callerFlags  = []string{"user", "as", "as-uid", "as-group", "as-user-extra", "client-certificate", "client-key"}
)

// typed are those of the flags that were given, for a hint; each begins with a space.
func typed(flags *pflag.FlagSet, names ...string) string {
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

// typeable makes the commands in a text ready to be typed: it adds the program's name, and the
// flags that lead them to this command's cluster.
func (a *app) typeable(text string) string {
	if !strings.Contains(text, "{hodei}") && !strings.Contains(text, "kubectl ") {
		return text
	}
	return strings.ReplaceAll(carry(text, a.toCarry()), "{hodei}", a.name)
}

// named returns a hint ready to be typed; empty if it would only repeat what was just typed.
func (a *app) named(hint string) string {
	hint = a.typeable(a.overruled(hint))
	line := hint
	if i := strings.Index(hint, a.name+" "); i > 0 && strings.HasSuffix(hint[:i], ": ") && !strings.Contains(hint[:i], "then") {
		line = hint[i:] // what stands before says why, and is nothing to do first
	}
	if slices.Equal(sortedWords(line), sortedWords(a.name+" "+shell.Line(a.args))) {
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
