package run

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestSubmissionEnd(t *testing.T) {
	refused := errors.New("refused")
	for _, test := range []struct {
		name string
		submission
		want submitted
	}{
		{"made", submission{}, goesAhead},
		{"refused", submission{err: refused}, notMade},
		{"cancelled from above", submission{err: context.Canceled}, notMade},
		{"interrupted too late", submission{interrupted: true}, madeInVain},
		{"interrupted", submission{interrupted: true, err: context.Canceled}, nothingMade},
		{"interrupted, and refused", submission{interrupted: true, err: refused}, notMade},
		{"interrupted, and more went wrong", submission{interrupted: true, err: fmt.Errorf("delete: %w", context.Canceled)}, notMade},
	} {
		if got := test.end(); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
