package output

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
)

// Steps run in their order; after the first error only those run that let go of something.
func TestDisplaySteps(t *testing.T) {
	for _, test := range []struct {
		name string
		act  func(d *Display)
		want []string
		err  error
	}{
		{"all of them", func(*Display) {}, []string{"one", "two", "three"}, nil},
		{"an error", func(d *Display) { d.Say(func() error { return io.ErrShortWrite }) }, []string{"one", "let go"}, io.ErrShortWrite},
		{"two errors", func(d *Display) {
			d.Do(func(context.Context) error { return io.ErrShortWrite })
			d.Do(func(context.Context) error { return io.ErrClosedPipe })
		}, []string{"one", "let go"}, io.ErrShortWrite},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			say := func(text string) func() error {
				return func() error {
					got = append(got, text)
					return nil
				}
			}
			d := NewDisplay()
			d.Say(say("one"))
			test.act(d)
			d.Do(func(ctx context.Context) error {
				if ctx.Err() == nil {
					return say("two")()
				}
				if !errors.Is(context.Cause(ctx), test.err) {
					t.Errorf("ended by %v", context.Cause(ctx))
				}
				return say("let go")()
			})
			d.Say(say("three"))
			d.Finish()
			<-d.Done()
			if !slices.Equal(got, test.want) || !errors.Is(d.Err(), test.err) {
				t.Errorf("got %q, error %v; want %q, %v", got, d.Err(), test.want, test.err)
			}
			select {
			case err := <-d.Broken():
				if err != test.err {
					t.Errorf("broken: %v", err)
				}
			default:
				if test.err != nil {
					t.Error("nobody is told of the error")
				}
			}
		})
	}
}

// What is shown aside waits for no step, and Done for what is shown aside.
func TestDisplayAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDisplay()
		step, aside := make(chan struct{}), make(chan struct{})
		d.Do(func(context.Context) error {
			<-step
			return nil
		})
		var shown []string
		d.Aside(func() {
			<-aside
			shown = append(shown, "first")
		})
		d.Aside(func() { t.Error("shown while the one before hangs") })
		d.Finish()
		close(step)
		synctest.Wait()
		select {
		case <-d.Done():
			t.Error("done before what is shown aside")
		default:
		}
		close(aside)
		<-d.Done()
		d.Aside(func() { t.Error("shown after the end") })
		synctest.Wait()
		if !slices.Equal(shown, []string{"first"}) {
			t.Errorf("shown %q", shown)
		}
	})
}

// Whoever leaves a display is told of no error.
func TestDisplayLeave(t *testing.T) {
	d := NewDisplay()
	d.Leave()
	d.Leave() // again
	<-d.Done()
	if !errors.Is(d.Err(), errLeft) || len(d.Broken()) > 0 {
		t.Errorf("error %v, %d told", d.Err(), len(d.Broken()))
	}
}
