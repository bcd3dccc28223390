package cork

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
)

// writes is a connection that keeps what each write gave it.
type writes struct {
	net.Conn
	sizes []int
	data  bytes.Buffer
	err   error
}

func (w *writes) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	w.sizes = append(w.sizes, len(p))
	return w.data.Write(p)
}

// records is a TLS connection as far as a cork can see: it cuts what it is given.
type records struct{ net.Conn }

func (r records) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		m := min(len(p), 16<<10)
		if _, err := r.Conn.Write(p[:m]); err != nil {
			return 0, err
		}
		p = p[m:]
	}
	return n, nil
}

func TestCork(t *testing.T) {
	tests := []struct {
		name  string
		bytes int
		want  []int
	}{
		{"little", 10, []int{10}},
		{"some records", 100 << 10, []int{100 << 10}},
		{"a cork full", Bytes, []int{Bytes}},
		{"more than that", Bytes + 40<<10, []int{Bytes, 40 << 10}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &writes{}
			below := New(w)
			c := below.Over(records{below})
			want := make([]byte, tt.bytes)
			_, _ = rand.NewChaCha8([32]byte{5}).Read(want) // it never fails
			for range 2 {                                  // and nothing stays behind
				w.sizes = nil
				w.data.Reset()
				if n, err := c.Write(want); n != len(want) || err != nil {
					t.Fatalf("wrote %d, %v", n, err)
				}
				if !slices.Equal(w.sizes, tt.want) || !bytes.Equal(w.data.Bytes(), want) {
					t.Errorf("writes of %d, want %d", w.sizes, tt.want)
				}
			}
		})
	}
}

// TestCorkPasses checks what is written while nothing is held, and a record that no
// cork can hold.
func TestCorkPasses(t *testing.T) {
	w := &writes{}
	below := New(w)
	if _, err := below.Write([]byte("handshake")); err != nil || !slices.Equal(w.sizes, []int{9}) {
		t.Errorf("writes of %d, %v", w.sizes, err)
	}
	below.hold()
	_, err1 := below.Write([]byte("first"))
	_, err2 := below.Write(make([]byte, Bytes+1))
	if err := errors.Join(err1, err2, below.release()); err != nil || !slices.Equal(w.sizes, []int{9, 5, Bytes + 1}) {
		t.Errorf("writes of %d, %v", w.sizes, err)
	}
}

// TestCorkErrors checks that an error of the connection reaches who writes.
func TestCorkErrors(t *testing.T) {
	broken := errors.New("broken")
	for _, n := range []int{10, 3 * Bytes} {
		w := &writes{err: broken}
		below := New(w)
		c := below.Over(records{below})
		if n, err := c.Write(make([]byte, n)); n != 0 || !errors.Is(err, broken) {
			t.Errorf("wrote %d, %v", n, err)
		}
	}
}
