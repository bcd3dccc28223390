package command

import (
	"slices"
	"strings"
)

// carried are the flags that a hint's commands need so that they reach the same cluster and
// namespace. Each begins with a space.
type carried struct {
	hodei     string // for commands of hodei
	kubectl   string // for kubectl, which knows no provider
	namespace string // for commands of hodei that are about jobs
}

// clusterCommands are hodei's commands that are about a cluster; jobCommands are those of them that are about jobs of
// one namespace.
var (
	jobCommands = []string{
		"run", "rerun", "jobs", "describe", "top", "logs", "attach", "report", "advise", "cancel", "wait", "signal", "delete", "exec",
	}
	clusterCommands = append([]string{"doctor", "install", "uninstall", "certs apply"}, jobCommands...)
)

// kubectlVerbs are kubectl's commands that are about a cluster.
var kubectlVerbs = []string{
	"apply", "auth", "cluster-info", "cp", "create", "delete", "describe", "edit", "events", "exec", "get",
	"label", "logs", "patch", "port-forward", "run", "top", "wait",
}

// carry adds to the commands of a hint the flags that they don't have yet. It leaves alone what stands after --: the
// job's own command.
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

// firstWords returns the first word of a text, and the first two.
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
