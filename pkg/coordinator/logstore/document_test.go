package logstore

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDocument(t *testing.T) {
	s, err := Open(t.TempDir(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	key := Key{Namespace: "ns", Job: "j", Attempt: "a", AttemptUID: "uid"}
	l, err := s.Create(key, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Document(key, "usage"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before there is one: %v, want %v", err, fs.ErrNotExist)
	}
	for _, text := range []string{"first and longer", "second", ""} {
		if err := l.SetDocument("usage", []byte(text)); err != nil {
			t.Fatal(err)
		}
		if b, err := s.Document(key, "usage"); err != nil || string(b) != text {
			t.Errorf("%q, %v, want %q", b, err, text)
		}
	}
	for _, name := range []string{"", ".", "a/b", "../x", strings.Repeat("x", 300)} {
		if err := l.SetDocument(name, nil); err == nil {
			t.Errorf("SetDocument(%q) is no error", name)
		}
		if _, err := s.Document(key, name); err == nil {
			t.Errorf("Document(%q) is no error", name)
		}
	}
	if err := l.SetDocument("usage", make([]byte, MaxDocumentBytes+1)); err == nil {
		t.Error("a document that is too large is no error")
	}
	path := filepath.Join(s.dir, "ns", "j", "uid", "usage"+documentSuffix)
	if err := os.WriteFile(path, make([]byte, MaxDocumentBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Document(key, "usage"); err == nil {
		t.Error("reading one that is too large is no error")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.SetDocument("usage", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v, want %v", err, ErrClosed)
	}
	// A second writer finds the output as it was.
	l, err = s.Create(key, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, err := s.Read(key)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.SetDocument("usage", nil); !errors.Is(err, errReadOnly) {
		t.Errorf("read only: %v, want %v", err, errReadOnly)
	}
}

// TestFlippedBitsOfDocument holds that a document is what was kept, or an error. One
// whose seal is gone is left to its reader.
func TestFlippedBitsOfDocument(t *testing.T) {
	s := testStore(t, t.TempDir(), Limits{}, 0)
	l := mustCreate(t, s, testKey, 0)
	const text = `{"cpu": 12}`
	if err := l.SetDocument("run", []byte(text)); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(l.dir, "run"+documentSuffix)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 1 << (i % 8)
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		unsealed := i >= len(text) && i < len(text)+len(sealMagic)
		got, err := s.Document(testKey, "run")
		damage, damaged := errors.AsType[*DamageError](err)
		if damaged == unsealed || damaged && damage.File != name || unsealed && len(got) != len(whole) {
			t.Errorf("byte %d: %q, %v", i, got, err)
		}
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Document(testKey, "run"); err != nil || string(got) != text {
		t.Errorf("of an older version: %q, %v", got, err)
	}
}
