package runflags

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// specFlags has, for each field of a job.Spec by its path, the flag of run that sets it.
var specFlags = map[string]string{
	"name":             "name",
	"image":            "image",
	"env":              "env",
	"envFrom":          "env-from",
	"cpu":              "cpu",
	"cpuLimit":         "cpu-limit",
	"memory":           "memory",
	"memoryLimit":      "memory-limit",
	"ephemeralStorage": "ephemeral-storage",
	"gpu":              "gpu",
	"workdir":          "workdir",
	"user":             "user",
	"timeout":          "timeout",
	"startTimeout":     "start-timeout",
	"retries":          "retries",
	"grace":            "grace",
	"ttl":              "ttl",
	"linger":           "linger",
	"mergeOutput":      "merge-output",
	"stdin":            "stdin",
	"tty":              "tty",
	"exec":             "exec",
	"logSpool":         "log-spool",
	"logOverflow":      "log-overflow",
	"containerLogs":    "container-logs",
	"detached":         "detach",
}

// specError is the usage error of what is wrong with a spec that the command line has led to.
func (f *Flags) specError(spec *job.Spec, err error) error {
	e, ok := errors.AsType[*job.FieldError](err)
	if !ok {
		return command.Usagef(f.cmd, "%w", err)
	}
	return &command.UsageError{Cmd: f.cmd, Err: errors.New(specText(spec, e)), Hint: job.HintOf(err)}
}

// specText writes e in the words of run's command line: "--retries 5000: want 0 to 1000".
func specText(spec *job.Spec, e *job.FieldError) string {
	if e.Path == "command" { // as a whole it can only be missing
		return "no command: nothing stands after --"
	}
	text := e.Detail
	if e.Value != "" {
		text = e.Value + ": " + text
	}
	if e.Path != "" {
		text = typedAs(spec, e.Path) + " " + text
	}
	if e.Beside != "" {
		text += " " + typedAs(spec, e.Beside) + " " + e.BesideValue
	}
	return text
}

// typedAs is what the field at path is called on run's command line: its flag, or which argument
// of the command it is.
func typedAs(spec *job.Spec, path string) string {
	field, rest, _ := strings.Cut(path, "[")
	index, inside, _ := strings.Cut(rest, "]")
	i, _ := strconv.Atoi(index) // 0, which is not used, where the field is no list
	switch {
	case field == "command" && i == 0:
		return "the command"
	case field == "command":
		return fmt.Sprintf("argument %d of the command", i)
	case field == "env" && inside == ".value":
		return "--env " + spec.Env[i].Name
	}
	if flag, ok := specFlags[field]; ok {
		return "--" + flag
	}
	return path
}
