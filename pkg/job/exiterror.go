package job

import (
	"fmt"
)

// ExitError ends the program with an exit code of its own.
type ExitError struct {
	Code int
	// Err is shown; nil: all has been said.
	Err error
}

// Error returns the words of Err, and without it the code.
func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit %d", e.Code)
	}
	return e.Err.Error()
}

// Unwrap returns Err.
func (e *ExitError) Unwrap() error { return e.Err }
