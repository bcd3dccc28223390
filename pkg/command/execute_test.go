package command

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/signals"
)

// A signal ends a command with its own code and without a word, unless the command has more to say or is done.
func TestUntilSignal(t *testing.T) {
	failed := errors.New("no such job")
	for _, tt := range []struct {
		name   string
		signal syscall.Signal // 0: none comes
		err    error          // what f returns
		code   int
		shown  string
	}{
		{"no signal", 0, failed, ExitFailed, "error: no such job\n"},
		{"no signal, and a code", 0, &job.ExitError{Code: 3}, 3, ""},
		{"the context's end", syscall.SIGTERM, context.Canceled, 143, ""},
		{"another error", syscall.SIGINT, failed, 130, ""},
		{"f has more to say", syscall.SIGINT, &job.ExitError{Code: 130, Err: errors.New("still there: x")}, 130, "error: still there: x\n"},
		{"f has another code", syscall.SIGINT, &job.ExitError{Code: 1}, 1, ""},
		{"f has done its work", syscall.SIGINT, nil, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, errOut strings.Builder
			env := &Env{
				IOStreams: genericiooptions.IOStreams{Out: &out, ErrOut: &errOut}, Name: "hodei",
				Getenv: func(string) string { return "" },
			}
			err := env.UntilSignal(t.Context(), signals.NextEndsUs, func(ctx context.Context) error {
				if tt.signal != 0 {
					if err := syscall.Kill(syscall.Getpid(), tt.signal); err != nil {
						t.Error(err)
					}
					<-ctx.Done()
				}
				return tt.err
			})
			if code := env.end(err); code != tt.code || errOut.String() != tt.shown || out.Len() > 0 {
				t.Errorf("exit code %d, want %d; shown %q, want %q; on stdout %q", code, tt.code, errOut.String(), tt.shown, out.String())
			}
		})
	}
}
