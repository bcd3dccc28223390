package job

import "fmt"

// What Linux gives a new process, execve(2). The launcher gets the same arguments and
// variables as the command.
const (
	// maxArgBytes is MAX_ARG_STRLEN, 32 pages with the NUL at the end: for one argument,
	// or one variable with its name.
	maxArgBytes = 128<<10 - 1
	// maxArgsBytes is for all of them: a quarter of the stack, which is 8 MiB where nobody
	// has changed it, less what the image, Kubernetes, --env-from and the launcher add.
	maxArgsBytes = 2<<20 - 128<<10
	// argOverhead is a NUL and a pointer for each.
	argOverhead = 1 + 8
)

// TooLargeHint is the way out for what is too large for a command line.
const TooLargeHint = "put it into a file: in the image, or in a ConfigMap among the provider's volumes (docs/providers.md#volumes)"

// checkSizes refuses what no program could be started with.
func (s *Spec) checkSizes() error {
	all := 0
	check := func(path string, bytes int) error {
		all += bytes + argOverhead
		if bytes > maxArgBytes {
			return tooLarge(path, "has", bytes, maxArgBytes)
		}
		return nil
	}
	for i, a := range s.Command {
		if err := check(fmt.Sprintf("command[%d]", i), len(a)); err != nil {
			return err
		}
	}
	for i, e := range s.Env {
		if err := check(fmt.Sprintf("env[%d].value", i), len(e.Name)+1+len(e.Value)); err != nil {
			return err
		}
	}
	if all > maxArgsBytes {
		return tooLarge("", "the command with its variables has", all, maxArgsBytes)
	}
	return nil
}

func tooLarge(path, has string, bytes, most int) error {
	return WrongField(path, "%s %d bytes: Linux takes at most %d", has, bytes, most).WithHint(TooLargeHint)
}
