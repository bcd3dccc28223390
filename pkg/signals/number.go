package signals

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxNumber is the highest signal of Linux, SIGRTMAX.
const maxNumber = 64

// linux are the names of Linux's signals without SIG, by their numbers on all architectures that Kubernetes runs on.
// The commands of jobs run on Linux, whatever hodei runs on.
var linux = []string{
	1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 5: "TRAP", 6: "ABRT", 7: "BUS", 8: "FPE", 9: "KILL", 10: "USR1", 11: "SEGV",
	12: "USR2", 13: "PIPE", 14: "ALRM", 15: "TERM", 16: "STKFLT", 17: "CHLD", 18: "CONT", 19: "STOP", 20: "TSTP", 21: "TTIN",
	22: "TTOU", 23: "URG", 24: "XCPU", 25: "XFSZ", 26: "VTALRM", 27: "PROF", 28: "WINCH", 29: "IO", 30: "PWR", 31: "SYS",
}

// Names returns the names of Linux's signals as kill(1) takes them: HUP, INT, ...
func Names() []string { return linux[1:] }

// Number returns the number on Linux of the signal that text names, as kill(1) takes it: by its name with or without SIG,
// in any case, or by its number.
func Number(text string) (int32, error) {
	if n, err := strconv.Atoi(text); err == nil {
		if n < 1 || n > maxNumber {
			return 0, fmt.Errorf("signal %d: want 1 to %d", n, maxNumber)
		}
		return int32(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if n := slices.Index(linux, name); n > 0 && name != "" {
		return int32(n), nil
	}
	return 0, fmt.Errorf("signal %q: want a name, such as USR1 or SIGUSR1, or a number", text)
}

// LinuxName returns the name of a signal of Linux by its number: SIGUSR1.
func LinuxName(number int32) string {
	if number > 0 && int(number) < len(linux) {
		return "SIG" + linux[number]
	}
	return fmt.Sprintf("signal %d", number)
}
