package provider

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/provider"
)

// What is read of a provider's file is bounded, and an error says which file it is.
func TestReadSettings(t *testing.T) {
	broken := errors.New("broken")
	for _, test := range []struct {
		name, file string
		in         io.Reader
		want       string // of the error; empty: none
	}{
		{"most", "-", bytes.NewReader(make([]byte, maxSettingsFile)), ""},
		{"one more", "-", bytes.NewReader(make([]byte, maxSettingsFile+1)), "stdin: more than 1 MiB is no provider"},
		{"broken", "-", iotest.ErrReader(broken), "stdin: broken"},
		{"endless", "/dev/zero", nil, "/dev/zero: more than 1 MiB is no provider"},
		{"none", "/no/such/file", nil, "open /no/such/file: no such file or directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file, err := readSettings(test.in, test.file)
			switch {
			case test.want == "" && (err != nil || len(file.data) != maxSettingsFile || file.called != "stdin"):
				t.Errorf("got %d bytes of %q, %v", len(file.data), file.called, err)
			case test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)):
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// What stdin takes its time for keeps no other command from the providers.
func TestSetReadsFirst(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	path, err := provider.Path(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	add := func(r *provider.Registry) error { return r.Add("prod", provider.Config{Type: provider.Kubernetes}) }
	if err := provider.Update(t.Context(), path, add); err != nil {
		t.Fatal(err)
	}
	in := readerFunc(func(p []byte) (int, error) {
		lock, err := os.Open(path + ".lock")
		if err != nil {
			return 0, err
		}
		defer lock.Close()
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			return 0, fmt.Errorf("the providers are locked: %w", err)
		}
		return copy(p, "cpu: 1"), io.EOF
	})
	var errOut bytes.Buffer
	env := command.New([]string{"hodei", "provider", "set", "prod", "-f", "-"}, in, io.Discard, &errOut)
	root := &cobra.Command{Use: "hodei"}
	env.Prepare(root)
	root.AddCommand(New(env))
	if code := env.Execute(root); code != 0 {
		t.Errorf("exit code %d: %s", code, &errOut)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
