package runflags

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// TestSpecFlags compares the table with the fields of a Spec and the flags of run.
func TestSpecFlags(t *testing.T) {
	cmd := &cobra.Command{}
	New(&command.Env{}, cmd)
	for path, flag := range specFlags {
		if cmd.Flags().Lookup(flag) == nil {
			t.Errorf("field %s: run has no flag --%s", path, flag)
		}
	}
	var fields []string
	for _, field := range reflect.VisibleFields(reflect.TypeFor[job.Spec]()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name != "command" && name != "endCopied" { // which no flag sets
			fields = append(fields, name)
		}
	}
	slices.Sort(fields)
	if known := slices.Sorted(maps.Keys(specFlags)); !slices.Equal(known, fields) {
		t.Errorf("the table has %v, a Spec has %v", known, fields)
	}
}

func TestSpecError(t *testing.T) {
	one, two := resource.MustParse("1"), resource.MustParse("2")
	for _, test := range []struct {
		name   string
		change func(*job.Spec)
		want   string
		hinted bool
	}{
		{"no command", func(s *job.Spec) { s.Command = nil }, "no command: nothing stands after --", false},
		{"a text", func(s *job.Spec) { s.Name = "A" }, `--name "A": want lower-case letters, digits and dashes, at most 57 of them`, false},
		{"a number", func(s *job.Spec) { s.Retries = 5000 }, "--retries 5000: want 0 to 1000", false},
		{"a duration", func(s *job.Spec) { s.StartTimeout = -1 }, "--start-timeout -1ns: must not be negative", false},
		{"a limit", func(s *job.Spec) { s.CPU, s.CPULimit = &two, &one }, "--cpu 2: more than --cpu-limit 1", false},
		{"an argument", func(s *job.Spec) { s.Command[1] = "\xe9" },
			"argument 1 of the command holds the byte 0xe9, which is not UTF-8", true},
		{"a NUL", func(s *job.Spec) { s.Command[0] = "\x00" }, "the command holds a NUL byte", false},
		{"a variable's name", func(s *job.Spec) { s.Env[1].Name = "" }, `--env "": not a variable's name`, false},
		{"a variable's value", func(s *job.Spec) { s.Env[1].Value = "\x7f" },
			"--env B holds the character U+007F, which YAML can't carry", true},
		{"a source", func(s *job.Spec) { s.EnvFrom = []job.EnvSource{{Secret: "A B"}} },
			`--env-from "A B": want secret/NAME or configmap/NAME`, false},
		{"a long argument", func(s *job.Spec) { s.Command[1] = strings.Repeat("x", 131072) },
			"argument 1 of the command has 131072 bytes: Linux takes at most 131071", true},
		{"a long variable", func(s *job.Spec) { s.Env[0].Value = strings.Repeat("x", 131070) },
			"--env A has 131072 bytes: Linux takes at most 131071", true},
		{"all of it", func(s *job.Spec) { s.Command = slices.Repeat([]string{"x"}, 196_606) },
			"the command with its variables has 1966082 bytes: Linux takes at most 1966080", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &job.Spec{Name: "a", Command: []string{"echo", "a"}, Env: []job.EnvVar{{Name: "A"}, {Name: "B"}}}
			test.change(s)
			err := New(&command.Env{}, &cobra.Command{}).specError(s, s.Validate())
			usage, ok := err.(*command.UsageError)
			if !ok || err.Error() != test.want || (usage.Hint != "") != test.hinted {
				t.Errorf("got %q with %+v, want %q", err, usage, test.want)
			}
		})
	}
}
