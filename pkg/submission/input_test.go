package submission

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestInputWaits(t *testing.T) {
	pipe := func(text string, closed bool) io.Reader {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
		if closed {
			w.Close()
		}
		t.Cleanup(func() {
			r.Close()
			w.Close()
		})
		return r
	}
	file := func(name, text string, at int64) io.Reader {
		if text != "" {
			name = filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		if at > 0 {
			if _, err := f.Seek(at, io.SeekStart); err != nil {
				t.Fatal(err)
			}
		}
		return f
	}
	for _, test := range []struct {
		name string
		in   io.Reader
		want bool
	}{
		{"a pipe", pipe("x\n", false), true},
		{"a pipe whose writer has gone", pipe("x\n", true), true},
		{"a pipe that says nothing", pipe("", false), false},
		{"a pipe at its end", pipe("", true), false},
		{"a file", file("f", "text", 0), true},
		{"a file that was read", file("f", "text", 4), false},
		{"nothing", file(os.DevNull, "", 0), false},
		{"no file", &bytes.Buffer{}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			for range 2 { // nothing is consumed
				if got := InputWaits(test.in); got != test.want {
					t.Errorf("got %v", got)
				}
			}
		})
	}
}
