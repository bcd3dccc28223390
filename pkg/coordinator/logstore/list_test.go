package logstore

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestKeys lists what is there, whatever else lies beside it.
func TestKeys(t *testing.T) {
	dir := t.TempDir()
	s := testStore(t, dir, Limits{}, 0)
	if keys, err := s.Keys("ns"); err != nil || len(keys) != 0 {
		t.Errorf("of an empty store: %v, %v", keys, err)
	}
	begun := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	for i, k := range []Key{
		{Namespace: "ns", Job: "a", Attempt: "a-1", AttemptUID: "1"},
		{Namespace: "ns", Job: "b", JobUID: "j", Attempt: "b-1", AttemptUID: "2"},
		{Namespace: "ns", Job: "a", Attempt: "a-2", AttemptUID: "3"},
		{Namespace: "other", Job: "a", Attempt: "a-9", AttemptUID: "4"},
	} {
		mustCreate(t, s, k, 0)
		b, err := json.Marshal(meta{Key: k, Created: begun.Add(time.Duration(i) * time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, k.Namespace, k.Job, k.AttemptUID, metaName), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	temp, err := s.Temp(testKey, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, temp)
	names := func(keys []Key) (names []string) {
		for _, k := range keys {
			names = append(names, k.Attempt)
		}
		return names
	}
	keys, err := s.Keys("ns")
	if want := []string{"a-2", "b-1", "a-1"}; err != nil || !slices.Equal(names(keys), want) {
		t.Errorf("got %q, %v, want %q", names(keys), err, want)
	}
	if len(keys) == 3 && keys[1].JobUID != "j" {
		t.Errorf("got %+v", keys[1])
	}

	// A directory without a name, one with another's, and one with garbage.
	for name, text := range map[string]string{"none": "", "another": `{"namespace":"ns","job":"a","attemptUID":"1"}`, "garbage": "{"} {
		if err := os.MkdirAll(filepath.Join(dir, "ns", "c", name), 0o700); err != nil {
			t.Fatal(err)
		}
		if text == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "ns", "c", name, metaName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keys, err = s.Keys("ns")
	if len(keys) != 3 || err == nil || strings.Contains(err.Error(), "none") || !strings.Contains(err.Error(), "another") ||
		!strings.Contains(err.Error(), "garbage") {
		t.Errorf("got %q, %v", names(keys), err)
	}
	if _, err := s.Keys("../ns"); err == nil {
		t.Error("a path was taken for a namespace")
	}
}
