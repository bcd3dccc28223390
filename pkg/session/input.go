package session

import (
	"fmt"
	"io"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/terminal"
)

// NewInput returns in as a [Config]'s Input. The func ends the reading of in, and waits for that; in stays open.
func NewInput(in io.Reader) (*coordinator.Input, func(), error) {
	source, err := terminal.NewInput(in)
	if err != nil {
		return nil, nil, fmt.Errorf("-i: %w", err)
	}
	input := coordinator.NewInput(source, source.Again)
	return input, func() {
		source.Close()
		input.Close()
	}, nil
}
