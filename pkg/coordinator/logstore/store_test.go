package logstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
)

func keyOf(attempt string) Key {
	return Key{Namespace: "ns", Job: "job", Attempt: "job-" + attempt, AttemptUID: attempt}
}

// store makes a closed log of n bytes that was last written so long ago.
func store(t *testing.T, s *Store, attempt string, n int, ago time.Duration) {
	t.Helper()
	l := mustCreate(t, s, keyOf(attempt), 0)
	f := newFeed(l)
	for n > 0 {
		size := min(n, 50_000)
		f.add(t, out{stream: stdout, text: strings.Repeat("x", size)})
		n -= size
	}
	mustClose(t, l)
	age(t, l, ago)
}

func age(t *testing.T, l *Log, ago time.Duration) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(l.dir, "*"))
	if err != nil || len(names) < 4 {
		t.Fatalf("%q, %v", names, err)
	}
	then := time.Now().Add(-ago)
	for _, name := range names {
		if err := os.Chtimes(name, then, then); err != nil {
			t.Fatal(err)
		}
	}
}

// attempts gives the UIDs in the store.
func attempts(t *testing.T, s *Store) string {
	t.Helper()
	found, err := s.Find("ns", "job")
	if err != nil {
		t.Fatal(err)
	}
	var uids []string
	for _, a := range found {
		uids = append(uids, a.AttemptUID)
	}
	return strings.Join(uids, " ")
}

func TestRetention(t *testing.T) {
	tests := []struct {
		name   string
		limits Limits
		inUse  string
		want   string
		roomed int // were removed for want of room, and not for their age
	}{
		{"defaults", Limits{}, "", "b c d", 0},
		{"age", Limits{MaxAge: 150 * time.Minute}, "", "c d", 0},
		{"age, oldest in use", Limits{MaxAge: 150 * time.Minute}, "a", "a c d", 0},
		{"size", Limits{MaxBytes: 250_000}, "", "c d", 1},
		{"size, one in use", Limits{MaxBytes: 250_000}, "b", "b d", 1},
		{"both", Limits{MaxBytes: 250_000, MaxAge: 90 * time.Minute}, "", "d", 0},
		{"nothing may stay", Limits{MaxBytes: 1}, "", "", 3},
		{"nothing may stay but what is in use", Limits{MaxBytes: 1}, "a", "a", 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := testStore(t, dir, Limits{MaxAge: 1 << 62}, 0)
			store(t, s, "a", 100_000, 8*24*time.Hour)
			store(t, s, "b", 100_000, 3*time.Hour)
			store(t, s, "c", 100_000, 2*time.Hour)
			store(t, s, "d", 100_000, 1*time.Hour)
			if tt.inUse != "" {
				l := mustCreate(t, s, keyOf(tt.inUse), 0)
				age(t, l, 8*24*time.Hour)
				defer mustClose(t, l)
			}
			swept := testStore(t, dir, tt.limits, 0)
			got := attempts(t, swept)
			if got != tt.want {
				t.Errorf("left %q, want %q", got, tt.want)
			}
			if d := swept.Dropped(); d.Attempts != tt.roomed || d.Bytes < int64(tt.roomed)*100_000 || (d.Bytes > 0) != (tt.roomed > 0) {
				t.Errorf("told of %+v, want %d attempts", d, tt.roomed)
			}
			if d := swept.Dropped(); d != (Dropped{}) {
				t.Errorf("told twice of %+v", d)
			}
			entries, err := os.ReadDir(dir)
			if err != nil || tt.want == "" && len(entries) > 1 { // .tmp alone
				t.Errorf("left %v, %v", entries, err)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		dir    string
		limits Limits
	}{
		{"negative size", t.TempDir(), Limits{MaxBytes: -1}},
		{"negative age", t.TempDir(), Limits{MaxAge: -1}},
		{"a file", file, Limits{}},
		{"below a file", filepath.Join(file, "x"), Limits{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Open(tt.dir, tt.limits); err == nil {
				t.Error("no error")
			}
		})
	}
	dir := filepath.Join(t.TempDir(), "a", "b")
	testStore(t, dir, Limits{}, 0)
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("made %v, %v", info, err)
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"", ".", "..", ".tmp", "a/b", "../x", "/x", "a\x00b", "a\x1b[2J", "a\nb", "a\u202eb", "\xff",
		strings.Repeat("x", 256)} {
		t.Run(fmt.Sprintf("%.20q", name), func(t *testing.T) {
			dir := t.TempDir()
			s := testStore(t, filepath.Join(dir, "store"), Limits{}, 0)
			for _, k := range []Key{
				{Namespace: name, Job: "job", AttemptUID: "uid"},
				{Namespace: "ns", Job: name, AttemptUID: "uid"},
				{Namespace: "ns", Job: "job", AttemptUID: name},
			} {
				if _, err := s.Create(k, 0); err == nil {
					t.Errorf("created %+v", k)
				}
				if _, err := s.Read(k); err == nil || errors.Is(err, fs.ErrNotExist) {
					t.Errorf("read %+v: %v", k, err)
				}
			}
			if _, err := s.Find(name, "job"); err == nil {
				t.Error("found in the namespace")
			}
			if _, err := s.Find("ns", name); err == nil {
				t.Error("found of the job")
			}
			if names, err := filepath.Glob(filepath.Join(dir, "*", "*")); err != nil || len(names) > 0 {
				t.Errorf("made %q, %v", names, err)
			}
		})
	}
	s := testStore(t, t.TempDir(), Limits{}, 0)
	long := Key{Namespace: strings.Repeat("x", 255), Job: "ein Job … mit Ü", AttemptUID: `a\b`}
	mustClose(t, mustCreate(t, s, long, 0))
	if found, err := s.Find(long.Namespace, long.Job); err != nil || len(found) != 1 || found[0].Key != long {
		t.Errorf("found %+v, %v", found, err)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	s := testStore(t, dir, Limits{}, 0)
	if found, err := s.Find("ns", "job"); err != nil || len(found) != 0 {
		t.Errorf("in an empty store: %v, %v", found, err)
	}
	if _, err := s.Read(testKey); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read what is not there: %v", err)
	}
	before := time.Now()
	first := mustCreate(t, s, testKey, 40)
	f := newFeed(first)
	f.add(t, out{stream: stdout, text: "ab"})
	if err := first.SetExit(exitAt(42)); err != nil {
		t.Fatal(err)
	}
	second := Key{Namespace: "ns", Job: "job", JobUID: "j-2", Attempt: "job-zzzzz", AttemptUID: "a-0"}
	mustCreate(t, s, second, 7)
	mustCreate(t, s, Key{Namespace: "ns", Job: "job2", AttemptUID: "x"}, 0)

	found, err := testStore(t, dir, Limits{}, 0).Find("ns", "job")
	if err != nil || len(found) != 2 {
		t.Fatalf("found %+v, %v", found, err)
	}
	a := found[0]
	if a.Key != testKey || a.First != 40 || a.End != 42 || !proto.Equal(a.Exit, exitAt(42)) {
		t.Errorf("found %+v", a)
	}
	if a.Created.Before(before) || a.Written.Before(a.Created.Add(-time.Second)) || a.Written.After(time.Now().Add(time.Second)) {
		t.Errorf("created %v, written %v", a.Created, a.Written)
	}
	if a := found[1]; a.Key != second || a.First != 7 || a.End != 7 || a.Exit != nil {
		t.Errorf("found %+v", a)
	}
}

func TestMetaIsNotTrusted(t *testing.T) {
	tests := []struct {
		name, meta string
		want       string // of the attempt's damage
	}{
		{"none", "", "EOF"},
		{"torn", `{"namespace":"n`, "unexpected EOF"},
		{"of another type", `[1]`, "cannot unmarshal"},
		{"of another attempt", `{"namespace":"ns","job":"job","attemptUID":"other"}`, "is of another attempt"},
		{"out of the store", `{"namespace":"..","job":"..","attemptUID":".."}`, "is of another attempt"},
		{"an unknown name", `{"namespace":"ns","jnb":"job","attemptUID":"a-1"}`, "unknown field"},
		{"endless", `"` + strings.Repeat("x", 1<<20), "unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := testStore(t, t.TempDir(), Limits{}, 0)
			l := mustCreate(t, s, testKey, 0)
			mustClose(t, l)
			mustClose(t, mustCreate(t, s, keyOf("other"), 0))
			if err := os.WriteFile(filepath.Join(l.dir, metaName), []byte(tt.meta), 0o600); err != nil {
				t.Fatal(err)
			}
			found, err := s.Find("ns", "job")
			want := Key{Namespace: "ns", Job: "job", Attempt: "a-1", AttemptUID: "a-1"}
			at := slices.IndexFunc(found, func(a Attempt) bool { return a.Key == want })
			if err != nil || len(found) != 2 || at < 0 || found[at].Unnamed == nil ||
				!strings.Contains(found[at].Unnamed.Error(), tt.want) {
				t.Errorf("found %+v, %v", found, err)
			}
			mustClose(t, mustCreate(t, s, testKey, 0)) // which writes it anew
			found, err = s.Find("ns", "job")
			if len(found) != 2 || err != nil || slices.ContainsFunc(found, func(a Attempt) bool { return a.Unnamed != nil }) {
				t.Errorf("found %+v, %v", found, err)
			}
		})
	}
	s := testStore(t, t.TempDir(), Limits{}, 0)
	l := mustCreate(t, s, testKey, 0)
	if err := os.Remove(filepath.Join(l.dir, metaName)); err != nil {
		t.Fatal(err)
	}
	if found, err := s.Find("ns", "job"); err != nil || len(found) != 0 {
		t.Errorf("half made: found %+v, %v", found, err)
	}
	newFeed(l).add(t, out{stream: stdout, text: "x"})
	if found, err := s.Find("ns", "job"); err != nil || len(found) != 1 || !errors.Is(found[0].Unnamed, fs.ErrNotExist) {
		t.Errorf("without a name: found %+v, %v", found, err)
	}
}

// TestFlippedBitsOfMeta holds that no name is believed that was not written.
func TestFlippedBitsOfMeta(t *testing.T) {
	s := testStore(t, t.TempDir(), Limits{}, 0)
	l := mustCreate(t, s, testKey, 0)
	newFeed(l).add(t, out{stream: stdout, text: "x"})
	mustClose(t, l)
	name := filepath.Join(l.dir, metaName)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 1 << (i % 7)
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		found, err := s.Find("ns", "job")
		if err != nil || len(found) != 1 || found[0].Unnamed == nil || found[0].End != 1 {
			t.Fatalf("%s: found %+v, %v", b, found, err)
		}
	}
}

func TestInUse(t *testing.T) {
	dir := t.TempDir()
	s := testStore(t, dir, Limits{}, 0)
	l := mustCreate(t, s, testKey, 0)
	for _, s := range []*Store{s, testStore(t, dir, Limits{}, 0)} {
		if _, err := s.Create(testKey, 0); !errors.Is(err, ErrInUse) {
			t.Errorf("got %v", err)
		}
	}
	mustClose(t, l)
	mustClose(t, mustCreate(t, s, testKey, 0))
}

func TestTemp(t *testing.T) {
	dir := t.TempDir()
	s := testStore(t, dir, Limits{}, 0)
	for range 2 { // two of one attempt
		l, err := s.Temp(testKey, 5)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f := newFeed(l)
		f.add(t, out{stream: stdout, text: "abc"})
		if err := l.SetExit(exitAt(8)); err != nil {
			t.Fatal(err)
		}
		if c := mustCollect(t, l, 5); string(c.all) != "abc" {
			t.Errorf("read %q", c.all)
		}
	}
	if got := attempts(t, s); got != "" {
		t.Errorf("found %q", got)
	}
	leftovers := filepath.Join(dir, tempName, "*")
	if names, _ := filepath.Glob(leftovers); len(names) != 2 {
		t.Errorf("%q", names)
	}
	testStore(t, dir, Limits{MaxBytes: 1}, 0) // does not touch those in use
	l, err := s.Temp(testKey, 5)
	if err != nil {
		t.Fatal(err)
	}
	l.lock.Close() // as when its process is killed
	l.lock = nil
	if names, _ := filepath.Glob(leftovers); len(names) != 3 {
		t.Errorf("%q", names)
	}
	testStore(t, dir, Limits{}, 0)
	if names, _ := filepath.Glob(leftovers); len(names) != 2 {
		t.Errorf("%q", names)
	}
	mustClose(t, l)
}

func TestTempIsRemoved(t *testing.T) {
	s := testStore(t, t.TempDir(), Limits{}, 0)
	l, err := s.Temp(testKey, 0)
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	mustClose(t, l)
	if _, err := os.Stat(l.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
}

// TestTempEvictsNothing holds that what goes again takes no room from what stays,
// and is bounded all the same.
func TestTempEvictsNothing(t *testing.T) {
	dir := t.TempDir()
	s := testStore(t, dir, Limits{MaxBytes: 40_000}, 10_000)
	store(t, s, "a", 20_000, time.Hour)
	var temps []*Log
	for range 2 {
		l, err := s.Temp(testKey, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer mustClose(t, l)
		temps = append(temps, l)
		f := newFeed(l)
		for range 100 {
			f.add(t, out{stream: stdout, text: strings.Repeat("0123456789", 100)})
		}
	}
	store(t, s, "b", 1000, 0)
	testStore(t, dir, Limits{MaxBytes: 40_000}, 10_000)
	if got := attempts(t, s); got != "a b" {
		t.Errorf("left %q", got)
	}
	for i, l := range temps {
		if bytes, _, err := usage(l.dir); err != nil || bytes > 42_000 || bytes < 20_000 {
			t.Errorf("temporary log %d has %d bytes, %v", i, bytes, err)
		}
	}
}

// TestOwnSegments fills a store that is too small for one log.
func TestOwnSegments(t *testing.T) {
	dir := t.TempDir()
	s := testStore(t, dir, Limits{MaxBytes: 40_000}, 10_000)
	store(t, s, "old", 30_000, time.Hour)
	l := mustCreate(t, s, testKey, 0)
	read := mustRead(t, s, testKey)
	slow := l.Reader(0)
	f := newFeed(l)
	for range 100 {
		f.add(t, out{stream: stdout, text: strings.Repeat("0123456789", 100)})
	}
	if got := attempts(t, s); got != testKey.AttemptUID {
		t.Errorf("left %q", got)
	}
	if bytes, _, err := usage(l.dir); err != nil || bytes > 42_000 {
		t.Errorf("%d bytes, %v", bytes, err)
	}
	first, end := l.Extent()
	if end != 100_000 || first < 60_000 {
		t.Errorf("extent %d, %d", first, end)
	}
	b, err := slow.Next(t.Context())
	if err != nil || len(b.Records) != 1 || b.Records[0].Lost != first {
		t.Errorf("the slow reader got %v, %v", b, err)
	}
	if b, err = slow.Next(t.Context()); err != nil || b.Offset != first {
		t.Errorf("and then %v, %v", b, err)
	}
	if c := mustCollect(t, read, 0); c.lost != first || c.next != end {
		t.Errorf("read %d to %d, of which %d are lost", len(c.all), c.next, c.lost)
	}
}

// TestDroppedWhileRead drops segments whose files readers have open or only know of.
func TestDroppedWhileRead(t *testing.T) {
	s := testStore(t, t.TempDir(), Limits{MaxBytes: 60_000}, 10_000)
	l := mustCreate(t, s, testKey, 0)
	f := newFeed(l)
	lines := func(n int) {
		for range n {
			f.add(t, out{stream: stdout, text: strings.Repeat("0123456789", 100)})
		}
	}
	lines(30)
	read := mustRead(t, s, testKey)
	readers := []*Reader{l.Reader(0), read.Reader(0), read.Reader(15_000)}
	got := make([]*collected, len(readers))
	take := func(i int) error {
		b, err := readers[i].Next(t.Context())
		if err != nil {
			return err
		}
		return got[i].take(b)
	}
	for i, r := range readers {
		got[i] = &collected{next: r.offset}
		if i < 2 { // the third has not opened its file
			if err := take(i); err != nil {
				t.Fatal(err)
			}
		}
	}
	lines(100)
	for i := range readers {
		for got[i].next < f.end {
			if err := take(i); err != nil {
				t.Fatalf("reader %d at %d: %v", i, got[i].next, err)
			}
		}
		if got[i].lost == 0 {
			t.Errorf("reader %d lost nothing", i)
		}
	}
}

// TestRemovedWhileRead removes a whole attempt below a reader.
func TestRemovedWhileRead(t *testing.T) {
	dir := t.TempDir()
	s := testStore(t, dir, Limits{}, 10_000)
	store(t, s, "a", 100_000, time.Hour)
	l := mustRead(t, s, keyOf("a"))
	r := l.Reader(0)
	if _, err := r.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	testStore(t, dir, Limits{MaxBytes: 1}, 0)
	if _, err := r.Next(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := l.OffsetOfLastLines(1, stdout, 100_000); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("look-up: %v", err)
	}
}

func TestHold(t *testing.T) {
	errCause := errors.New("cause")
	tests := []struct {
		name    string
		release func(l *Log, cancel context.CancelCauseFunc)
		want    error
	}{
		{"raised", func(l *Log, _ context.CancelCauseFunc) { l.Hold(20_000) }, nil},
		{"raised too little", func(l *Log, cancel context.CancelCauseFunc) {
			l.Hold(1000)
			synctest.Wait()
			cancel(errCause)
		}, errCause},
		{"context", func(_ *Log, cancel context.CancelCauseFunc) { cancel(errCause) }, errCause},
		{"closed", func(l *Log, _ context.CancelCauseFunc) { l.Close() }, ErrClosed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := testStore(t, t.TempDir(), Limits{MaxBytes: 40_000, MaxAge: 1 << 62}, 10_000)
				l := mustCreate(t, s, testKey, 0)
				l.Hold(0)
				f := newFeed(l)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				done := make(chan error)
				go func() {
					for {
						b, data := f.batch(out{stream: stdout, text: strings.Repeat("x", 1000)})
						if err := l.Append(ctx, b, data); err != nil || f.end > 60_000 {
							done <- err
							return
						}
					}
				}()
				synctest.Wait()
				first, end := l.Extent()
				if first != 0 || end == 0 || end > 40_000 {
					t.Errorf("it waits with %d to %d", first, end)
				}
				tt.release(l, cancel)
				if tt.want == nil {
					for hold := uint64(20_000); hold < 100_000; hold += 1000 {
						synctest.Wait()
						if first, _ := l.Extent(); first > hold {
							t.Errorf("dropped to %d of what is held from %d on", first, hold)
						}
						l.Hold(hold)
					}
				}
				if err := <-done; !errors.Is(err, tt.want) {
					t.Errorf("got %v", err)
				}
				if _, after := l.Extent(); tt.want != nil && after != end {
					t.Errorf("it ended at %d, with nothing stored after %d", after, end)
				}
			})
		})
	}
}

// TestManyAttempts: the UIDs of a job's attempts are the choice of who dials. There is a
// bound to the directories that this makes, and what is there goes on.
func TestManyAttempts(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	parent := filepath.Join(dir, "jobs", "x")
	for i := range maxAttempts {
		if err := os.MkdirAll(filepath.Join(parent, fmt.Sprint("uid-", i)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		job, uid, want string
	}{
		{"x", "uid-7", ""},
		{"x", "one-more", `create log of attempt "pod": 4096 attempts of jobs of this name are stored already`},
		{"y", "one-more", ""},
		{"y", "a\x1b[2J", `create log of attempt "pod": "a\x1b[2J" is no name for a directory`},
	} {
		log, err := s.Create(Key{Namespace: "jobs", Job: tt.job, Attempt: "pod", AttemptUID: tt.uid}, 0)
		if got := fmt.Sprint(err); got != cmp.Or(tt.want, "<nil>") {
			t.Errorf("%s/%q: %s", tt.job, tt.uid, got)
		}
		if err == nil {
			log.Close()
		}
	}
}
