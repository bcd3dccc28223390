package session

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
)

// beside is what tests give a session in place of a command.
type beside struct {
	streams *output.Streams
	name    string
	after   []func()
}

// newBeside is called hodei, and writes to what is no terminal.
func newBeside(out, errOut io.Writer) *beside {
	return &beside{streams: &output.Streams{Out: out, Err: errOut}, name: "hodei"}
}

func (b *beside) named(hint string) string { return strings.ReplaceAll(hint, "{hodei}", b.name) }

func (b *beside) screen(quiet bool) *output.Screen {
	return output.NewScreen(b.streams, quiet, b.named)
}

// followed fills in what a command would.
func (b *beside) followed(c Config) Config {
	c.Named, c.Sink = b.named, output.Raw{To: b.streams}
	if c.Events != nil {
		c.Sink = c.Events
	}
	c.Afterwards = func(f func()) { b.after = append(b.after, f) }
	return c
}

// config is of a job x that is nowhere.
func (b *beside) config(screen *output.Screen, events *output.Events) Config {
	return b.followed(Config{Teller: Teller{Spec: &job.Spec{Name: "x"}, Place: nowhere{}, Screen: screen, Events: events}})
}

// end is the end of the command.
func (b *beside) end(err error) {
	if exit, ok := errors.AsType[*job.ExitError](err); err != nil && (!ok || exit.Err != nil) {
		fmt.Fprintln(b.streams.Err, "error:", err)
	}
	for _, f := range b.after {
		f()
	}
}
