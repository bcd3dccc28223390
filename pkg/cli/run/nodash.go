package run

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// noDash is of a command line without -- before the command, or whose -- a flag took.
func noDash(env *command.Env, cmd *cobra.Command, args []string) error {
	at := len(env.Args) - len(args)
	if at >= 2 && env.Args[at-1] == "--" {
		return command.Usagef(cmd, "%s has no value", env.Args[at-2])
	}
	if hint := env.ValueApart(cmd, args); hint != "" {
		return &command.UsageError{Cmd: cmd, Err: fmt.Errorf("%s takes its value after a =", env.Args[at-1]), Hint: hint}
	}
	words := append([]string{"--"}, args...)
	if shell.Needs(args[0]) { // else the next hint would say so
		words = []string{"--", "sh", "-c", shell.Text(args)}
	}
	hint := (&command.TypedLine{Env: env}).Retyped(at, len(args), "{hodei} run -- COMMAND", words...)
	return &command.UsageError{Cmd: cmd, Err: errors.New("no -- before the command"), Hint: hint}
}
