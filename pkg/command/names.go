package command

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// Names takes from least to most arguments, each of which names something: most is 1 or 2. [Env.ExplainUsage] makes its
// errors usage errors.
func Names(least, most int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch n := len(args); {
		case n < least:
			return errors.New("no name is given")
		case n > most && most == 1:
			return fmt.Errorf("one name is taken, and %q is one more", args[most])
		case n > most:
			return fmt.Errorf("two names are taken, and %q is one more", args[most])
		}
		return nil
	}
}
