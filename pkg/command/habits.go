package command

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// habit is what helps people who type the commands and flags of other programs.
type habit struct {
	// words are commands, or flags without their dashes, with spaces between them.
	words string
	// hint is a command of hodei or, until there is one, a line for kubectl; TypedLine.fill fills in
	// what is in braces. Of a flag it may also be leftOut, or = and the name that the flag has here.
	hint string
}

// hintFor returns the hint for a word; empty: there is none.
func hintFor(habits []habit, word string) string {
	for _, h := range habits {
		if slices.Contains(strings.Fields(h.words), word) {
			return h.hint
		}
	}
	return ""
}

// commandHabits are the habits of commands, by the name of the command under which one was typed.
var commandHabits = map[string][]habit{
	"hodei": {
		{"status show inspect info", "{hodei} describe {job}"},
		{"ps ls list get history", "{hodei} jobs"},
		{"stats", "{hodei} top"},
		{"tail", "{hodei} logs -f {job}"},
		{"output", "{hodei} logs {job}"},
		{"stop terminate abort scancel", "{hodei} cancel {job}"},
		{"kill", "{hodei} cancel {job}, or {hodei} signal {job} SIGNAL"},
		{"rm remove", "{hodei} delete {job}"},
		{"shell ssh sh bash debug", execInJob},
		{"cp", "{copy}"},
		{"events", "kubectl events{at} --for job/{job}"},
		{"port-forward", "kubectl port-forward{at} job/{job} PORT"},
		{"suspend pause", `kubectl patch job {job}{at} -p '{"spec":{"suspend":true}}'`},
		{"resume", `kubectl patch job {job}{at} -p '{"spec":{"suspend":false}}'`},
		{"submit start create launch", runCommand},
		{"retry restart again repeat requeue", "{hodei} rerun {job}"},
		{"init setup upgrade update", "{hodei} install"},
		{"config context contexts", "{hodei} provider list"},
		{"use", "{hodei} provider use {job}"},
		{"check health", "{hodei} doctor"},
	},
	"provider": {
		{"delete", "{hodei} provider remove {job}"},
		{"create new", "{hodei} provider add {job}"},
		{"show describe inspect", "{hodei} provider get {job}"},
		{"edit update", "{hodei} provider set {job}"},
		{"switch", "{hodei} provider use {job}"},
		{"check", "{hodei} provider test {job}"},
	},
	"certs": {
		{"create new init", "{hodei} certs generate"},
		{"show list check", "{hodei} certs inspect"},
		{"renew", "{hodei} certs rotate"},
		{"install", "{hodei} certs apply"},
	},
}

// flagHabits are the habits of flags, by the name of the command.
var flagHabits = map[string][]habit{
	"hodei": {
		{"v V", "{hodei} --version"},
	},
	"run": {
		{"cpus c", "=cpu"},
		{"m mem", "=memory"},
		{"gpus", "=gpu"},
		{"u uid", "=user"},
		{"w cwd working-dir", "=workdir"},
		{"restart backoff-limit", "=retries"},
		{"background async", "=detach"},
		{"silent", "=quiet"},
		{"ns N", "=namespace"},
		{"deadline active-deadline-seconds", "=timeout"},
		{"ttl-seconds-after-finished", "=ttl"},
		{"grace-period stop-timeout", "=grace"},
		{"disk storage", "=ephemeral-storage"},
		{"auto-remove", "=rm"},
		{"force", "=replace"},
		{"wait watch attach command f", leftOut},
		{"interactive", "=stdin"},
		{"limits", "{hodei} run {limits} -- {command}"},
		{"requests", "{hodei} run {requests} -- {command}"},
		{"env-file", "kubectl create configmap job-env --from-env-file={value}{at} && " +
			"{hodei} run --env-from configmap/job-env -- {command}"},
		{"label labels l", byProvider + "--label {value}"},
		{"annotation annotations", byProvider + "--annotation {value}"},
		{"node-selector selector constraint", byProvider + "--node-selector {value}"},
		{"priority-class", byProvider + "--priority-class {value}"},
		{"runtime-class runtime", byProvider + "--runtime-class {value}"},
		{"service-account serviceaccount", byProvider + "--service-account {value}"},
		{"queue", byProvider + "--queue {value}"},
		{"image-pull-policy pull", byProvider + "--image-pull-policy {value}"},
		{"image-pull-secret image-pull-secrets", byProvider + "--image-pull-secret {value}"},
		{"ebpf", byProvider + "--ebpf {value}"},
		{"v volume volumes mount", byProvider + "-f FILE, with volumes"},
		{"toleration tolerations", byProvider + "-f FILE, with tolerations"},
		{"affinity", byProvider + "-f FILE, with affinity"},
		{"security-context", byProvider + "-f FILE, with security_context"},
		{"overrides", byProvider + "-f FILE"},
		{"p publish port", "kubectl port-forward{at} job/NAME {value}"},
	},
	"attach": {
		{"f follow", leftOut},
		{"interactive", "=stdin"},
	},
	"logs": {
		{"lines", "=tail"},
		{"since-time", "=since"},
		{"w watch", "=follow"},
		{"t", "=timestamps"},
		{"c container", "kubectl logs{at} job/{job} -c {value}"},
		{"p previous", "{hodei} logs --attempt 1 {job}"},
	},
	"jobs": {
		{"f follow", "=watch"},
		{"a all", "=all-namespaces"},
		{"label labels", "=selector"},
		{"q quiet", "{hodei} jobs -o name"},
	},
	"cancel": {
		{"grace-period timeout", "=grace"},
		{"now", "=force"},
		{"s signal", "{hodei} signal {job} {value}"},
		{"wait", leftOut},
	},
	"wait": {
		{"condition", "=for"},
		{"f follow", "{hodei} attach {job}"},
	},
	"delete": {
		{"force now", "{hodei} cancel --force {job}"},
		{"grace-period", "{hodei} cancel --grace {value}s {job}"},
		{"wait ignore-not-found cascade", leftOut},
		{"f filename", "{hodei} delete NAME"},
	},
	"describe": {
		{"o", "=output"},
	},
}

// Hints that several habits share.
const (
	execInJob  = "{hodei} exec -it {job} -- {command}"
	runCommand = "{hodei} run -- {command}"
	byProvider = "it is a setting of a provider: {hodei} {provider} "
)

// leftOut is the hint for a flag that is not needed.
const leftOut = "-"

// fill puts what was typed into a hint; value is that of the flag in question.
func (t *TypedLine) fill(hint, value string) string {
	command := "sh"
	if len(t.command) > 0 {
		command = shell.Line(t.command)
	}
	return strings.NewReplacer(
		"{job}", t.word(1, "NAME"), "{command}", command, "{value}", quotedOr(value, "VALUE"),
		"{at}", " -n "+shell.Quote(t.config.Namespace), "{provider}", t.settings(),
		"{copy}", t.copying(),
		"{requests}", resourceFlags(value, ""), "{limits}", resourceFlags(value, "-limit"),
	).Replace(hint)
}

// copying returns the line that copies to or from a job. kubectl cp knows a job only by its Pod.
func (t *TypedLine) copying() string {
	from, to := "NAME:PATH", "."
	if len(t.words) > 2 {
		from, to = t.words[1], t.words[2]
	}
	if _, file, there := strings.Cut(from, ":"); there && to == "." { // kubectl wants the file's own name
		to = "./" + path.Base(file)
	}
	side := func(text string) string {
		name, path, there := strings.Cut(text, ":")
		if !there {
			return shell.Quote(text)
		}
		return fmt.Sprintf(`"$(kubectl get pods -n %s -l %s=%s -o jsonpath='{.items[0].metadata.name}')":%s`,
			shell.Quote(t.config.Namespace), kubernetes.LabelJob, shell.Quote(name), shell.Quote(path))
	}
	return "kubectl cp -n " + shell.Quote(t.config.Namespace) + " -c job " + side(from) + " " + side(to)
}

// quotedOr returns value as it is typed, or missing if it is empty.
func quotedOr(value, missing string) string {
	if value == "" {
		return missing
	}
	return shell.Quote(value)
}

// settings returns the command that changes the settings of the provider in use.
func (t *TypedLine) settings() string {
	if t.provider == "" {
		return "provider add NAME"
	}
	return "provider set " + shell.Quote(t.provider)
}

// resourceFlags returns the flags of hodei run for what kubectl run takes as cpu=1,memory=1Gi.
func resourceFlags(value, suffix string) string {
	var flags []string
	for _, v := range strings.Split(value, ",") {
		name, quantity, _ := strings.Cut(v, "=")
		if name == "cpu" || name == "memory" {
			flags = append(flags, "--"+name+suffix+" "+shell.Quote(quantity))
		}
	}
	if len(flags) == 0 {
		return "--cpu" + suffix + " CPUS --memory" + suffix + " BYTES"
	}
	return strings.Join(flags, " ")
}
