// Package outputtest has what tests about output share: logs, what is stored in them, golden files,
// and a check that nothing shown commands a terminal. It is for tests alone.
package outputtest

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"google.golang.org/grpc/mem"

	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// Batch makes one of records, each "out:text", "err:text" or a number of lost bytes. The records
// are a second apart.
func Batch(offset uint64, records ...any) *hodeipb.Batch {
	b := &hodeipb.Batch{Offset: offset}
	at := time.Date(2025, 6, 1, 12, 0, 0, 5000, time.UTC)
	streams := map[string]uint64{}
	for _, r := range records {
		record := &hodeipb.Record{TimeUnixNano: at.UnixNano()}
		at = at.Add(time.Second)
		switch r := r.(type) {
		case int:
			record.Lost = uint64(r)
		case string:
			kind, text, _ := strings.Cut(r, ":")
			record.Stream = map[string]hodeipb.Stream{"out": hodeipb.Stream_STDOUT, "err": hodeipb.Stream_STDERR}[kind]
			record.Length, record.StreamOffset = uint32(len(text)), streams[kind]
			streams[kind] += uint64(len(text))
			b.Data = append(b.Data, text...)
		}
		b.Records = append(b.Records, record)
	}
	return b
}

// NewLog returns a new log of an attempt of job hodei-x, in a store of its own. The test closes it.
func NewLog(t *testing.T, attempt string, first uint64) *logstore.Log {
	t.Helper()
	store, err := logstore.Open(t.TempDir(), logstore.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	log, err := store.Create(logstore.Key{Namespace: "ns", Job: "hodei-x", Attempt: attempt, AttemptUID: "uid-" + attempt}, first)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	return log
}

// Store stores a batch.
func Store(t *testing.T, log *logstore.Log, b *hodeipb.Batch) {
	t.Helper()
	data := mem.BufferSlice{mem.SliceBuffer(b.Data)}
	b.Data = nil
	if err := log.Append(t.Context(), b, data); err != nil {
		t.Fatal(err)
	}
}

// CommandsTerminal reports whether text has a character that is neither printed nor ends a line.
func CommandsTerminal(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool {
		return r != '\n' && r != '\t' && !unicode.IsPrint(r) && !unicode.Is(unicode.Zs, r)
	})
}

var update = flag.Bool("update", false, "write the golden files anew")

// Golden compares got with the file testdata/name, which -update writes anew.
func Golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(got), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -run %s -update writes it anew)\n got:\n%s\nwant:\n%s", path, t.Name(), got, want)
	}
}
