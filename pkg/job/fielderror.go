package job

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// FieldError is one thing that is wrong with a field of a [Spec] or of a provider's settings.
// Its text has the field's path, as whoever writes a file or a request knows it. A command
// line, whose user knows the field by its flag, makes its own text of the parts.
type FieldError struct {
	// Path of the field, in the names that JSON has for them: retries, env[2].value,
	// volumes[0].mountPath. Empty: what was checked as a whole.
	Path string
	// Value is the field's, as it is shown: 5000, or "a b" in its quotes. Empty: it is not
	// shown.
	Value string
	// Detail is what is wrong, or what is wanted. It stands behind the path and the value:
	// "want 0 to 1000".
	Detail string
	// Beside is the path of the field that Detail compares Path with, from where Path
	// begins, and BesideValue what that one has: cpuLimit and 1, where Detail is "more than".
	// Empty: there is no such field.
	Beside, BesideValue string
}

// InvalidField returns the error about a field whose value is shown: texts, and lists of them, in
// quotes.
func InvalidField(path string, value any, format string, args ...any) *FieldError {
	verb := "%v"
	if kind := reflect.ValueOf(value).Kind(); kind == reflect.String || kind == reflect.Slice {
		verb = "%q"
	}
	return &FieldError{Path: path, Value: fmt.Sprintf(verb, value), Detail: fmt.Sprintf(format, args...)}
}

// WrongField returns the error about a field whose value is not shown: there is none, or it is
// long.
func WrongField(path, format string, args ...any) *FieldError {
	return &FieldError{Path: path, Detail: fmt.Sprintf(format, args...)}
}

// Error returns the text as files and requests have it: "retries: 5000: want 0 to 1000".
func (e *FieldError) Error() string {
	var text strings.Builder
	for _, part := range []string{e.Path, e.Value} {
		if part != "" {
			text.WriteString(part + ": ")
		}
	}
	text.WriteString(e.Detail)
	if e.Beside != "" {
		fmt.Fprintf(&text, " %s: %s", e.Beside, e.BesideValue)
	}
	return text.String()
}

// WithHint returns e with the next thing to type. It can be found in the result.
func (e *FieldError) WithHint(hint string) *Failure {
	return &Failure{Cause: ConfigError, Message: e.Error(), Hint: hint, Err: e}
}

// Below returns a [FieldError] as it is seen from above: its path begins with parent. What was put
// around it, such as a hint, is left out. An error of another kind is returned as it is.
func Below(parent string, err error) error {
	e, ok := errors.AsType[*FieldError](err)
	if !ok {
		return err
	}
	moved := *e
	moved.Path = strings.TrimSuffix(parent+"."+e.Path, ".")
	return &moved
}
