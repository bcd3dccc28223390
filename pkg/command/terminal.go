package command

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hodei-jobs/hodei/pkg/terminal"
)

// detachKeys is the name of the flag of DetachKeysFlag.
const detachKeys = "detach-keys"

// DetachKeysFlag adds --detach-keys.
func DetachKeysFlag(flags *pflag.FlagSet, to *string) {
	flags.StringVar(to, detachKeys, terminal.DefaultDetachKeys,
		"With -t: keys that leave the command running, characters and ctrl-X with commas in between. Empty: none.")
}

// Terminal checks that stdin and stdout are a terminal, for a command that is to have one, and returns the keys
// that leave it. stdin and tty say whether it reads what is typed here and has a terminal; keys is the value of
// --detach-keys.
func (a *Env) Terminal(cmd *cobra.Command, stdin, tty bool, keys string) (terminal.Keys, error) {
	if !tty {
		if cmd.Flags().Changed(detachKeys) {
			return nil, Usagef(cmd, "--%s is for a terminal: add -it", detachKeys)
		}
		return nil, nil
	}
	if !stdin {
		return nil, Usagef(cmd, "-t needs -i: somebody has to type at the terminal")
	}
	parsed, err := terminal.ParseKeys(keys)
	if err != nil {
		return nil, Usagef(cmd, "--%s %q: %w", detachKeys, keys, err)
	}
	if why := terminal.Missing(a.In, a.Stdout()); why != "" {
		return nil, Usagef(cmd, "-t shows the command's terminal in this one, and %s: leave -t out", why)
	}
	return parsed, nil
}
