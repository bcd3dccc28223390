package job

import "errors"

// Hinted is an error with the next thing to type.
type Hinted struct {
	// Err is one fact. It must not be nil.
	Err error
	// Hint is shown on a line of its own. {hodei} in it stands for the name that the program
	// was called by.
	Hint string
}

// Error returns the words of Err.
func (e *Hinted) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *Hinted) Unwrap() error { return e.Err }

// HintOf returns the hint of err, be it a [Hinted] or a [Failure]; empty if it has none.
func HintOf(err error) string {
	if tip, ok := errors.AsType[*Hinted](err); ok {
		return tip.Hint
	}
	if failure, ok := errors.AsType[*Failure](err); ok {
		return failure.Hint
	}
	return ""
}
