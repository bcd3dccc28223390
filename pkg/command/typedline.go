package command

import (
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// TypedLine is a command line that hodei does not understand, as far as it can be read. With only an Env it has
// [Env.Retyped].
type TypedLine struct {
	*Env
	words   []string // those that are no flags, from the command on
	command []string // what stands behind --
	// provider is the one that was meant, and its settings; empty: none, or this machine.
	provider string
	config   provider.Config
}

// readTyped reads what was typed, without complaining. The global flags among it, which every
// command takes, are set: the hint may depend on them.
func (a *Env) readTyped(global *pflag.FlagSet) *TypedLine {
	t := &TypedLine{Env: a}
	t.sort(global)
	a.quiet = true // a hint is all that is said
	name, c, err := a.ChooseProvider()
	if err != nil || c.Type == provider.Local {
		name, c = "", provider.Config{Type: provider.Kubernetes, Namespace: *a.Kube.Namespace}.WithDefaults()
	}
	t.provider, t.config = name, c
	return t
}

// sort fills in words and command, and sets the global flags that were given.
func (t *TypedLine) sort(global *pflag.FlagSet) {
	for i := 0; i < len(t.Args); i++ {
		arg := t.Args[i]
		name, value, given := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		flag := global.Lookup(name)
		if flag == nil && len(name) == 1 {
			flag = global.ShorthandLookup(name)
		}
		switch {
		case arg == "--":
			t.command = t.Args[i+1:]
			return
		case !strings.HasPrefix(arg, "-") || arg == "-":
			t.words = append(t.words, arg)
		case flag == nil:
		case !given && flag.NoOptDefVal == "" && i+1 < len(t.Args):
			i++
			value = t.Args[i]
			fallthrough
		default:
			_ = global.Set(flag.Name, value) // what is wrong with it is not the point now
		}
	}
}

// word returns the nth of the words as it is typed, or missing if there are fewer.
func (t *TypedLine) word(n int, missing string) string {
	if n < len(t.words) {
		return shell.Quote(t.words[n])
	}
	return missing
}

// find returns where among the arguments a flag stands, such as --label or -v, and its
// value, be it in the same argument or in the next one.
func (t *TypedLine) find(flag string) (at int, value string) {
	for i, arg := range t.Args {
		name, value, given := strings.Cut(arg, "=")
		switch {
		case arg == "--":
			return -1, ""
		case name != flag:
		case given:
			return i, value
		case i+1 < len(t.Args) && !strings.HasPrefix(t.Args[i+1], "-"):
			return i, t.Args[i+1]
		default:
			return i, ""
		}
	}
	return -1, ""
}

// maxRetyped bounds, in bytes, a command line that is shown again with another word.
const maxRetyped = 160

// confidential reports whether a flag's value must not be shown again, because logs keep what hodei
// says. An e among flags of one letter counts, such as -qe: it may be -e.
func confidential(arg string) bool {
	name, _, _ := strings.Cut(arg, "=")
	if strings.HasPrefix(arg, "--") {
		return name == "--env" || name == "--token"
	}
	return strings.HasPrefix(arg, "-") && strings.Contains(name, "e")
}

// Retyped returns, for a hint, the command line with words in place of n arguments from i on. If i is negative, or the
// line is longer than 160 bytes or has a confidential value, it returns short.
func (a *Env) Retyped(i, n int, short string, words ...string) string {
	own := a.Args
	if dash := slices.Index(own, "--"); dash >= 0 {
		own = own[:dash]
	}
	if i < 0 || i+n > len(a.Args) || slices.ContainsFunc(own, confidential) || slices.ContainsFunc(words, confidential) {
		return short
	}
	line := "{hodei} " + shell.Line(slices.Replace(slices.Clone(a.Args), i, i+n, words...))
	if len(line) > maxRetyped {
		return short
	}
	return line
}
