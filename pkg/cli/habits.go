package cli

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// Hints for people who type the commands of other programs, by the command under which the word
// was typed. A hint is a command of hodei or, until there is one, a line for kubectl.
// [typedLine.fill] fills in what is in braces.
var commandHabits = map[string]map[string]string{
	"hodei": {
		"wait": "{hodei} attach {job}", "status": "{hodei} describe {job}", "show": "{hodei} describe {job}", "inspect": "{hodei} describe {job}", "info": "{hodei} describe {job}",
		"ps": "{hodei} jobs", "ls": "{hodei} jobs", "list": "{hodei} jobs", "get": "{hodei} jobs", "history": "{hodei} jobs",
		"stats": "{hodei} top", "tail": "{hodei} logs -f {job}", "output": "{hodei} logs {job}",
		"cancel": deleteJob, "delete": deleteJob, "rm": deleteJob, "remove": deleteJob, "stop": deleteJob, "kill": deleteJob, "terminate": deleteJob,
		"exec": execInJob, "shell": execInJob, "ssh": execInJob, "sh": execInJob, "bash": execInJob, "debug": execInJob,
		"cp":           "{copy}",
		"events":       "kubectl events{at} --for job/{job}",
		"port-forward": "kubectl port-forward{at} job/{job} PORT",
		"suspend":      `kubectl patch job {job}{at} -p '{"spec":{"suspend":true}}'`,
		"pause":        `kubectl patch job {job}{at} -p '{"spec":{"suspend":true}}'`,
		"resume":       `kubectl patch job {job}{at} -p '{"spec":{"suspend":false}}'`,
		"submit":       runCommand, "start": runCommand, "create": runCommand, "launch": runCommand,
		"init": "{hodei} install", "setup": "{hodei} install", "upgrade": "{hodei} install", "update": "{hodei} install",
		"config": "{hodei} provider list", "context": "{hodei} provider list", "contexts": "{hodei} provider list", "use": "{hodei} provider use {job}", "check": "{hodei} doctor", "health": "{hodei} doctor",
	},
	"provider": {
		"delete": "{hodei} provider remove {job}", "create": "{hodei} provider add {job}", "new": "{hodei} provider add {job}",
		"show": "{hodei} provider get {job}", "describe": "{hodei} provider get {job}", "inspect": "{hodei} provider get {job}",
		"edit": "{hodei} provider set {job}", "update": "{hodei} provider set {job}", "switch": "{hodei} provider use {job}", "check": "{hodei} provider test {job}",
	},
	"certs": {
		"create": "{hodei} certs generate", "new": "{hodei} certs generate", "init": "{hodei} certs generate", "show": "{hodei} certs inspect", "list": "{hodei} certs inspect",
		"check": "{hodei} certs inspect", "renew": "{hodei} certs rotate", "install": "{hodei} certs apply",
	},
}

// Hints that several habits share.
const (
	deleteJob  = "kubectl delete job {job}{at}"
	execInJob  = "kubectl exec -it job/{job} -c job{at} -- {command}"
	runCommand = "{hodei} run -- {command}"
	runByHand  = "stdin and a terminal reach no job yet; in a namespace that takes any Pod: kubectl run NAME -it --rm --restart=Never --image={image} -n default -- {command}"
	byProvider = "it is a setting of a provider: {hodei} {provider} "
)

// leftOut stands for a flag that is not needed.
const leftOut = "-"

// flagHabits is the same for flags, by command. A value that begins with "=" is the flag's
// name here.
var flagHabits = map[string]map[string]string{
	"hodei": {"v": "{hodei} --version", "V": "{hodei} --version"},
	"run": {
		"cpus": "=cpu", "c": "=cpu", "m": "=memory", "mem": "=memory", "gpus": "=gpu", "u": "=user", "uid": "=user", "w": "=workdir", "cwd": "=workdir", "working-dir": "=workdir",
		"restart": "=retries", "backoff-limit": "=retries", "background": "=detach", "async": "=detach", "silent": "=quiet", "ns": "=namespace", "N": "=namespace",
		"deadline": "=timeout", "active-deadline-seconds": "=timeout", "ttl-seconds-after-finished": "=ttl", "grace-period": "=grace", "stop-timeout": "=grace",
		"disk": "=ephemeral-storage", "storage": "=ephemeral-storage",
		"rm": leftOut, "wait": leftOut, "watch": leftOut, "attach": leftOut, "command": leftOut, "f": leftOut,
		"i": runByHand, "t": runByHand, "interactive": runByHand, "tty": runByHand, "stdin": runByHand,
		"limits": "{hodei} run {limits} -- {command}", "requests": "{hodei} run {requests} -- {command}",
		"env-file": "kubectl create configmap job-env --from-env-file={value}{at} && {hodei} run --env-from configmap/job-env -- {command}",
		"label":    byProvider + "--label {value}", "labels": byProvider + "--label {value}", "l": byProvider + "--label {value}",
		"annotation": byProvider + "--annotation {value}", "annotations": byProvider + "--annotation {value}",
		"node-selector": byProvider + "--node-selector {value}", "selector": byProvider + "--node-selector {value}", "constraint": byProvider + "--node-selector {value}",
		"priority-class": byProvider + "--priority-class {value}", "runtime-class": byProvider + "--runtime-class {value}", "runtime": byProvider + "--runtime-class {value}",
		"service-account": byProvider + "--service-account {value}", "serviceaccount": byProvider + "--service-account {value}", "queue": byProvider + "--queue {value}",
		"image-pull-policy": byProvider + "--image-pull-policy {value}", "pull": byProvider + "--image-pull-policy {value}",
		"image-pull-secret": byProvider + "--image-pull-secret {value}", "image-pull-secrets": byProvider + "--image-pull-secret {value}", "ebpf": byProvider + "--ebpf {value}",
		"v": byProvider + "-f FILE, with volumes", "volume": byProvider + "-f FILE, with volumes", "volumes": byProvider + "-f FILE, with volumes", "mount": byProvider + "-f FILE, with volumes",
		"toleration": byProvider + "-f FILE, with tolerations", "tolerations": byProvider + "-f FILE, with tolerations", "affinity": byProvider + "-f FILE, with affinity",
		"security-context": byProvider + "-f FILE, with security_context", "overrides": byProvider + "-f FILE",
		"p": "kubectl port-forward{at} job/NAME {value}", "publish": "kubectl port-forward{at} job/NAME {value}", "port": "kubectl port-forward{at} job/NAME {value}",
	},
	"attach": {"f": leftOut, "follow": leftOut, "i": execInJob, "t": execInJob, "stdin": execInJob, "tty": execInJob},
	"logs": {
		"lines": "=tail", "since-time": "=since", "w": "=follow", "watch": "=follow", "t": "=timestamps",
		"c": "kubectl logs{at} job/{job} -c {value}", "container": "kubectl logs{at} job/{job} -c {value}", "p": "{hodei} logs --attempt 1 {job}", "previous": "{hodei} logs --attempt 1 {job}",
	},
	"jobs":     {"f": "=watch", "follow": "=watch", "a": "=all-namespaces", "all": "=all-namespaces", "label": "=selector", "labels": "=selector", "q": "{hodei} jobs -o name", "quiet": "{hodei} jobs -o name"},
	"describe": {"o": "=output"},
}

// typedLine is a command line that hodei does not understand, as far as it can be read.
type typedLine struct {
	*app
	words   []string // those that are no flags, from the command on
	command []string // what stands behind --
	// provider is the one that was meant, and its settings; empty: none, or this machine.
	provider string
	config   provider.Config
}

// readTyped sorts what was typed, without complaining. Flags that every command takes are
// set: the hint may depend on them.
func (a *app) readTyped(global *pflag.FlagSet) *typedLine {
	t := &typedLine{app: a}
	t.sort(global)
	a.quiet = true // a hint is all that is said
	name, c, err := a.chooseProvider()
	if err != nil || c.Type == provider.Local {
		name, c = "", provider.Config{Type: provider.Kubernetes, Namespace: *a.kube.Namespace}.WithDefaults()
	}
	t.provider, t.config = name, c
	return t
}

func (t *typedLine) sort(global *pflag.FlagSet) {
	for i := 0; i < len(t.args); i++ {
		arg := t.args[i]
		name, value, given := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		flag := global.Lookup(name)
		if flag == nil && len(name) == 1 {
			flag = global.ShorthandLookup(name)
		}
		switch {
		case arg == "--":
			t.command = t.args[i+1:]
			return
		case !strings.HasPrefix(arg, "-") || arg == "-":
			t.words = append(t.words, arg)
		case flag == nil:
		case !given && flag.NoOptDefVal == "" && i+1 < len(t.args):
			i++
			value = t.args[i]
			fallthrough
		default:
			_ = global.Set(flag.Name, value) // what is wrong with it is not the point now
		}
	}
}

// word is the nth of the words, or what stands for it.
func (t *typedLine) word(n int, missing string) string {
	if n < len(t.words) {
		return shell.Quote(t.words[n])
	}
	return missing
}

// withoutKind are arguments that name a job as kubectl does, job/NAME or job NAME, with its
// name alone.
func withoutKind(args []string) []string {
	isKind := func(word string) bool { return slices.Contains([]string{"job", "jobs", "job.batch"}, word) }
	if len(args) > 1 && isKind(args[0]) {
		return args[1:]
	}
	if len(args) > 0 {
		if kind, name, _ := strings.Cut(args[0], "/"); isKind(kind) && name != "" {
			return append([]string{name}, args[1:]...)
		}
	}
	return args
}

// kindHint is the hint for arguments that name a job as kubectl does; empty: they don't.
func (a *app) kindHint(cmd *cobra.Command, args []string) string {
	named, at := withoutKind(args), slices.Index(a.args, args[0])
	if cmd.Name() == "run" || !slices.Contains(jobCommands, cmd.Name()) || slices.Equal(named, args) || len(named) != 1 {
		return ""
	}
	if at < 0 || !slices.Equal(a.args[at:min(at+len(args), len(a.args))], args) { // flags stand between them
		return ""
	}
	return "did you mean: " + (&typedLine{app: a}).retyped(at, len(args), "{hodei} "+cmd.Name()+" "+shell.Quote(named[0]), named...)
}

// fill puts what was typed into a hint; value is that of the flag in question.
func (t *typedLine) fill(hint, value string) string {
	command := "sh"
	if len(t.command) > 0 {
		command = shell.Line(t.command)
	}
	return strings.NewReplacer(
		"{job}", t.word(1, "NAME"), "{command}", command, "{at}", " -n "+shell.Quote(t.config.Namespace), "{provider}", t.settings(), "{value}", quotedOr(value, "VALUE"),
		"{copy}", t.copying(), "{image}", quotedOr(t.valueOf("--image"), "IMAGE"),
		"{requests}", resourceFlags(value, ""), "{limits}", resourceFlags(value, "-limit"),
	).Replace(hint)
}

// copying is the line that copies to or from a job, which kubectl knows by its Pod alone.
func (t *typedLine) copying() string {
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
		return fmt.Sprintf(`"$(kubectl get pods%s -l %s=%s -o jsonpath='{.items[0].metadata.name}')":%s`, " -n "+shell.Quote(t.config.Namespace), kubernetes.LabelJob, shell.Quote(name), shell.Quote(path))
	}
	return "kubectl cp -n " + shell.Quote(t.config.Namespace) + " -c job " + side(from) + " " + side(to)
}

func quotedOr(value, missing string) string {
	if value == "" {
		return missing
	}
	return shell.Quote(value)
}

// settings is the command for the settings of the provider in use.
func (t *typedLine) settings() string {
	if t.provider == "" {
		return "provider add NAME"
	}
	return "provider set " + shell.Quote(t.provider)
}

// resourceFlags are the flags of run for what kubectl run takes as cpu=1,memory=1Gi.
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

// find returns where among the arguments a flag stands, such as --label or -v, and its
// value, be it in the same argument or in the next one.
func (t *typedLine) find(flag string) (at int, value string) {
	for i, arg := range t.args {
		name, value, given := strings.Cut(arg, "=")
		switch {
		case arg == "--":
			return -1, ""
		case name != flag:
		case given:
			return i, value
		case i+1 < len(t.args) && !strings.HasPrefix(t.args[i+1], "-"):
			return i, t.args[i+1]
		default:
			return i, ""
		}
	}
	return -1, ""
}

func (t *typedLine) valueOf(flag string) string {
	_, value := t.find(flag)
	return value
}

// maxRetyped is how long a command line may be that is shown again with another word.
const maxRetyped = 160

// confidential reports whether a flag's value must not be shown again, because logs keep what
// hodei says.
// An e among flags of one letter counts, such as -qe: it may be -e.
func confidential(arg string) bool {
	name, _, _ := strings.Cut(arg, "=")
	if strings.HasPrefix(arg, "--") {
		return name == "--env" || name == "--token"
	}
	return strings.HasPrefix(arg, "-") && strings.Contains(name, "e")
}

// retyped returns the command line with other words in place of n arguments from i on. If it is
// too long, or has a confidential value, it returns short.
func (t *typedLine) retyped(i, n int, short string, words ...string) string {
	own := t.args
	if dash := slices.Index(own, "--"); dash >= 0 {
		own = own[:dash]
	}
	if i < 0 || i+n > len(t.args) || slices.ContainsFunc(own, confidential) || slices.ContainsFunc(words, confidential) {
		return short
	}
	line := "{hodei} " + shell.Line(slices.Replace(slices.Clone(t.args), i, i+n, words...))
	if len(line) > maxRetyped {
		return short
	}
	return line
}

// unknownCommand is of a word that is no command of cmd.
func (a *app) unknownCommand(cmd *cobra.Command, word string) error {
	t := a.readTyped(cmd.Root().PersistentFlags())
	if i := slices.Index(t.words, word); i > 0 {
		t.words = t.words[i:]
	}
	if len(t.words) > 0 {
		t.words = append([]string{t.words[0]}, withoutKind(t.words[1:])...)
	}
	err := fmt.Errorf("unknown command %q for %q", word, cmd.CommandPath())
	hint := commandHabits[cmd.Name()][word]
	if hint != "" {
		return &usageError{cmd: cmd, err: err, hint: t.fill(hint, "")}
	}
	if name := similar(cmd, word); name != "" {
		hint = "did you mean: " + t.retyped(slices.Index(a.args, word), 1, "{hodei} "+name, name)
	}
	return &usageError{cmd: cmd, err: err, hint: hint}
}

// unknownFlag is of a flag that cmd does not have.
func (a *app) unknownFlag(cmd *cobra.Command, err *pflag.NotExistError) error {
	t := a.readTyped(cmd.Root().PersistentFlags())
	if cmd == cmd.Root() && len(t.words) > 0 { // the command is not known, and so are its flags not
		return a.unknownCommand(cmd, t.words[0])
	}
	if cmd.HasParent() && len(t.words) > 0 {
		t.words = t.words[max(0, slices.Index(t.words, cmd.Name())):]
	}
	name, flag := err.GetSpecifiedName(), "--"+err.GetSpecifiedName()
	if short, _, _ := strings.Cut(err.GetSpecifiedShortnames(), "="); short != "" {
		flag = "-" + short
	}
	return &usageError{cmd: cmd, err: err, hint: t.flagHint(cmd, name, flag)}
}

// flagHint returns the hint for flag, which is called name, or empty.
func (t *typedLine) flagHint(cmd *cobra.Command, name, flag string) string {
	at, value := t.find(flag)
	habit := flagHabits[cmd.Name()][name]
	if i := slices.Index(t.words, value); value != "" && i > 0 {
		t.words = slices.Delete(t.words, i, i+1) // it is the flag's
	}
	instead, renamed := strings.CutPrefix(habit, "=")
	if habit == "" {
		instead = similarFlag(cmd, name)
		renamed = instead != ""
	}
	switch {
	case habit == leftOut && name == "f" && strings.Contains(value, "."): // a file, not what follows
		return t.fill("kubectl apply{at} -f {value}", value)
	case habit == leftOut && at >= 0:
		return "leave it out: " + t.retyped(at, 1, flag)
	case renamed && at < 0:
		return "did you mean: --" + instead
	case renamed:
		words := []string{"--" + instead}
		if _, value, given := strings.Cut(t.args[at], "="); given {
			words[0] += "=" + value
		}
		return "did you mean: " + t.retyped(at, 1, "--"+instead, words...)
	}
	return t.fill(habit, value)
}

// similarFlag is the name of a flag of cmd that is spelled nearly so; empty: there is none.
func similarFlag(cmd *cobra.Command, name string) string {
	if len(name) < 2 {
		return ""
	}
	names := &cobra.Command{} // it knows how to compare them
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
		}
	})
	return similar(names, name)
}

// similar is the command of parent whose name is spelled nearly so; empty: there is none.
func similar(parent *cobra.Command, name string) string {
	parent.SuggestionsMinimumDistance = 2
	if len(name) <= 4 { // else every short word is like every other
		parent.SuggestionsMinimumDistance = 1
	}
	if found := parent.SuggestionsFor(name); len(found) > 0 {
		return found[0]
	}
	return ""
}

// valueApart returns the hint for a flag whose value was typed as an argument of its own,
// though the flag takes it only after "=", such as --dry-run server. Empty: there is no such
// flag.
func (a *app) valueApart(cmd *cobra.Command, args []string) string {
	at := slices.Index(a.args, args[0])
	if at <= 0 || strings.Contains(a.args[at-1], "=") {
		return ""
	}
	name, long := strings.CutPrefix(a.args[at-1], "--")
	flag := cmd.Flags().Lookup(name)
	if !long || flag == nil || flag.NoOptDefVal == "" {
		return ""
	}
	if flag.Value.Type() == "bool" && args[0] != "true" && args[0] != "false" {
		return ""
	}
	words := a.args[at-1] + "=" + args[0]
	return (&typedLine{app: a}).retyped(at-1, 2, words, words)
}

// usageArgs makes every command's argument errors usage errors, with a hint where what was
// meant is known.
func (a *app) usageArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			_, usage := errors.AsType[*usageError](err)
			switch {
			case usage:
				return err
			case err == nil:
				if len(args) > 0 && strings.Contains(args[0], "/") {
					if hint := a.kindHint(cmd, args); hint != "" {
						return &usageError{cmd: cmd, err: fmt.Errorf("%q is no name of a job", args[0]), hint: hint}
					}
				}
				return nil
			case cmd.HasSubCommands():
				return a.unknownCommand(cmd, args[0])
			case len(args) > 0:
				return &usageError{cmd: cmd, err: err, hint: cmp.Or(a.valueApart(cmd, args), a.kindHint(cmd, args))}
			}
			return &usageError{cmd: cmd, err: err}
		}
	}
	for _, c := range cmd.Commands() {
		a.usageArgs(c)
	}
}
