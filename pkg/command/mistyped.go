package command

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hodei-jobs/hodei/pkg/shell"
)

// unknownCommand returns the usage error for a word that is no command of cmd.
func (a *Env) unknownCommand(cmd *cobra.Command, word string) error {
	t := a.readTyped(cmd.Root().PersistentFlags())
	if i := slices.Index(t.words, word); i > 0 {
		t.words = t.words[i:]
	}
	if len(t.words) > 0 {
		t.words = append([]string{t.words[0]}, withoutKind(t.words[1:])...)
	}
	err := fmt.Errorf("unknown command %q for %q", word, cmd.CommandPath())
	hint := hintFor(commandHabits[cmd.Name()], word)
	if hint != "" {
		return &UsageError{Cmd: cmd, Err: err, Hint: t.fill(hint, "")}
	}
	if name := similar(cmd, word); name != "" {
		hint = "did you mean: " + t.Retyped(slices.Index(a.Args, word), 1, "{hodei} "+name, name)
	}
	return &UsageError{Cmd: cmd, Err: err, Hint: hint}
}

// unknownFlag returns the usage error for a flag that cmd does not have.
func (a *Env) unknownFlag(cmd *cobra.Command, err *pflag.NotExistError) error {
	t := a.readTyped(cmd.Root().PersistentFlags())
	if cmd == cmd.Root() && len(t.words) > 0 { // it is a flag of a command that is not known either
		return a.unknownCommand(cmd, t.words[0])
	}
	if cmd.HasParent() && len(t.words) > 0 {
		t.words = t.words[max(0, slices.Index(t.words, cmd.Name())):]
	}
	name, flag := err.GetSpecifiedName(), "--"+err.GetSpecifiedName()
	if short, _, _ := strings.Cut(err.GetSpecifiedShortnames(), "="); short != "" {
		flag = "-" + short
	}
	return &UsageError{Cmd: cmd, Err: err, Hint: t.flagHint(cmd, name, flag)}
}

// flagHint returns the hint for a flag that cmd does not have; empty: there is none. name is the
// flag's without its dashes.
func (t *TypedLine) flagHint(cmd *cobra.Command, name, flag string) string {
	at, value := t.find(flag)
	habit := hintFor(flagHabits[cmd.Name()], name)
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
		return "leave it out: " + t.Retyped(at, 1, flag)
	case renamed && at < 0:
		return "did you mean: --" + instead
	case renamed:
		words := []string{"--" + instead}
		if _, value, given := strings.Cut(t.Args[at], "="); given {
			words[0] += "=" + value
		}
		return "did you mean: " + t.Retyped(at, 1, "--"+instead, words...)
	}
	return t.fill(habit, value)
}

// similarFlag returns the name of the flag of cmd that is spelled nearly like name; empty: none is.
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

// similar returns the name of the command of parent that is spelled nearly like name; empty: none is.
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

// ValueApart returns the hint for a flag whose value was typed as the first of args, though the flag takes it only
// after "=", such as --dry-run server. It is empty if there is no such flag. args must not be empty.
func (a *Env) ValueApart(cmd *cobra.Command, args []string) string {
	at := slices.Index(a.Args, args[0])
	if at <= 0 || strings.Contains(a.Args[at-1], "=") {
		return ""
	}
	name, long := strings.CutPrefix(a.Args[at-1], "--")
	flag := cmd.Flags().Lookup(name)
	if !long || flag == nil || flag.NoOptDefVal == "" {
		return ""
	}
	if flag.Value.Type() == "bool" && args[0] != "true" && args[0] != "false" {
		return ""
	}
	words := a.Args[at-1] + "=" + args[0]
	return a.Retyped(at-1, 2, words, words)
}

// withoutKind returns arguments that name a job as kubectl does, job/NAME or job NAME, with the name
// alone; others it returns as they are.
func withoutKind(args []string) []string {
	if len(args) > 1 && isKind(args[0]) {
		return args[1:]
	}
	named := slices.Clone(args)
	for i, arg := range args {
		if kind, name, _ := strings.Cut(arg, "/"); isKind(kind) && name != "" {
			named[i] = name
		}
	}
	return named
}

// isKind reports whether kubectl calls jobs so.
func isKind(word string) bool { return slices.Contains([]string{"job", "jobs", "job.batch"}, word) }

// severalJobs are the commands that take the names of several jobs.
var severalJobs = []string{"cancel", "wait", "signal", "delete"}

// namesKind reports whether arguments of cmd name a job as kubectl does, job/NAME, or job NAME where the first would be
// taken for one more job.
func namesKind(cmd *cobra.Command, args []string) bool {
	hasKind := func(arg string) bool { return strings.Contains(arg, "/") }
	if !slices.Contains(severalJobs, cmd.Name()) {
		return len(args) > 0 && hasKind(args[0])
	}
	return slices.ContainsFunc(args, hasKind) || len(args) > 1 && isKind(args[0])
}

// kindHint returns the hint for arguments that name a job as kubectl does; empty: they don't.
// What stands behind -- is the command's own.
func (a *Env) kindHint(cmd *cobra.Command, args []string) string {
	if dash := cmd.ArgsLenAtDash(); dash > 0 {
		args = args[:dash]
	}
	named, at := withoutKind(args), slices.Index(a.Args, args[0])
	if cmd.Name() == "run" || !slices.Contains(jobCommands, cmd.Name()) || slices.Equal(named, args) ||
		len(named) != 1 && !slices.Contains(severalJobs, cmd.Name()) {
		return ""
	}
	if at < 0 || !slices.Equal(a.Args[at:min(at+len(args), len(a.Args))], args) { // flags stand between them
		return ""
	}
	return "did you mean: " + a.Retyped(at, len(args), "{hodei} "+cmd.Name()+" "+shell.Line(named), named...)
}
