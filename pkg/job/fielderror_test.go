package job

import (
	"errors"
	"fmt"
	"testing"
)

func TestFieldError(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"a text", InvalidField("name", "a b", "want %s", "letters"), `name: "a b": want letters`},
		{"no text", InvalidField("name", "", "want letters"), `name: "": want letters`},
		{"a number", InvalidField("retries", int32(5000), "want 0 to 1000"), "retries: 5000: want 0 to 1000"},
		{"a list", InvalidField("values", []string{"a", "b"}, "want one"), `values: ["a" "b"]: want one`},
		{"no value", WrongField("command", "must be given"), "command: must be given"},
		{"the whole", WrongField("", "too large"), "too large"},
		{"another field", &FieldError{Path: "cpu", Value: "2", Detail: "more than", Beside: "cpu_limit", BesideValue: "1"},
			"cpu: 2: more than cpu_limit: 1"},
		{"seen from above",
			Below("providers.prod", &FieldError{Path: "cpu", Value: "2", Detail: "more than", Beside: "cpu_limit", BesideValue: "1"}),
			"providers.prod.cpu: 2: more than cpu_limit: 1"},
		{"the whole from above", Below("config", WrongField("", "too large")), "config: too large"},
		{"in another error", Below("config", fmt.Errorf("in short: %w", WrongField("cpu", "must be given"))), "config.cpu: must be given"},
		{"an error of another kind", Below("config", errors.New("it is away")), "it is away"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.err.Error(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestFieldErrorWithHint(t *testing.T) {
	err := error(WrongField("command[1]", "is long").WithHint("shorten it"))
	if e, ok := errors.AsType[*FieldError](err); !ok || e.Path != "command[1]" || HintOf(err) != "shorten it" ||
		err.Error() != "command[1]: is long" {
		t.Errorf("got %#v", err)
	}
}
