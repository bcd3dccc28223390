package cli

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// What is read of a provider's file is bounded, and an error says which file it is.
func TestReadProvider(t *testing.T) {
	broken := errors.New("broken")
	for _, test := range []struct {
		name, file string
		in         io.Reader
		want       string // of the error; empty: none
	}{
		{"most", "-", bytes.NewReader(make([]byte, maxProviderFile)), ""},
		{"one more", "-", bytes.NewReader(make([]byte, maxProviderFile+1)), "stdin: more than 1 MiB is no provider"},
		{"broken", "-", iotest.ErrReader(broken), "stdin: broken"},
		{"endless", "/dev/zero", nil, "/dev/zero: more than 1 MiB is no provider"},
		{"none", "/no/such/file", nil, "open /no/such/file: no such file or directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			data, called, err := (&app{IOStreams: genericiooptions.IOStreams{In: test.in}}).readProvider(test.file)
			switch {
			case test.want == "" && (err != nil || len(data) != maxProviderFile || called != "stdin"):
				t.Errorf("got %d bytes of %q, %v", len(data), called, err)
			case test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)):
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}
