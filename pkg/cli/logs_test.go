package cli

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/kubernetestest"
)

// No more is fetched than --tail and --since may need.
func TestBegin(t *testing.T) {
	now := time.Unix(1000, 0)
	extent := &hodeipb.Extent{First: 100, End: 10 << 20, Marks: []*hodeipb.Mark{
		{Offset: 100, TimeUnixNano: now.Add(-time.Hour).UnixNano()},
		{Offset: 5000, TimeUnixNano: now.Add(-time.Minute).UnixNano()},
		{Offset: 9 << 20, TimeUnixNano: now.UnixNano()},
	}}
	for _, test := range []struct {
		name     string
		tail     int
		since    time.Time
		estimate uint64
		extent   *hodeipb.Extent
		want     uint64
	}{
		{"the end", 10, time.Time{}, 64 << 10, extent, 10<<20 - 64<<10},
		{"more of it", 10, time.Time{}, 1 << 20, extent, 9 << 20},
		{"all of it", 10, time.Time{}, 16 << 20, extent, 0},
		{"what is there", 10, time.Time{}, 10<<20 - 100, extent, 0},
		{"nothing of it", 0, time.Time{}, 64 << 10, extent, 10 << 20},
		{"since a mark", -1, now.Add(-time.Minute), 64 << 10, extent, 5000},
		{"since between two", -1, now.Add(-time.Second), 64 << 10, extent, 5000},
		{"since before all", -1, now.Add(-2 * time.Hour), 64 << 10, extent, 0},
		{"since later", -1, now.Add(time.Hour), 64 << 10, extent, 9 << 20},
		{"both", 10, now.Add(-time.Second), 64 << 10, extent, 10<<20 - 64<<10},
		{"both, the other", 10, now, 8 << 20, extent, 9 << 20},
		{"no marks", -1, now, 64 << 10, &hodeipb.Extent{End: 10}, 0},
		{"a mark that is not in it", -1, now, 64 << 10, &hodeipb.Extent{End: 10, Marks: []*hodeipb.Mark{{Offset: 11}}}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := &logsOptions{tail: test.tail, since: test.since}
			if got := o.begin(test.extent, test.estimate); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}

// Cluster and store know of different attempts, and the store of other jobs of the
// name.
func TestKnown(t *testing.T) {
	kept, err := logstore.Open(t.TempDir(), logstore.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []logstore.Key{
		{Job: "x", JobUID: "before", Attempt: "x-0", AttemptUID: "0"},
		{Job: "x", JobUID: "now", Attempt: "x-1", AttemptUID: "1"},
		{Job: "x", JobUID: "now", Attempt: "x-2", AttemptUID: "2"},
		{Job: "y", JobUID: "now", Attempt: "y-1", AttemptUID: "4"},
	} {
		key.Namespace = "ns"
		log, err := kept.Create(key, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
	}
	o := &logsOptions{store: &place.Store{Store: kept}, namespace: "ns", name: "x"}
	found := &kubernetes.Found{
		Job: &batchv1.Job{ObjectMeta: metav1.ObjectMeta{UID: "now"}}, Spec: &job.Spec{Name: "x"},
		Attempts: []kubernetes.Attempt{{Name: "x-2", UID: "2"}, {Name: "x-3", UID: "3"}},
	}
	names := func(j *knownJob) (names []string) {
		for _, a := range j.attempts {
			name := a.name
			if a.pod != nil {
				name += " pod"
			}
			if a.stored != nil {
				name += " stored"
			}
			names = append(names, name)
		}
		return names
	}
	if got, want := names(o.known(found)), []string{"x-1 stored", "x-2 pod stored", "x-3 pod"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	gone, err := o.find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := names(gone), []string{"x-1 stored", "x-2 stored"}; !slices.Equal(got, want) {
		t.Errorf("without a cluster: got %q, want %q", got, want)
	}
}

// What the cluster has not is looked for in the store, and said to be from there;
// what ran on this machine is not taken for it.
func TestShowOneStored(t *testing.T) {
	kept, err := logstore.Open(t.TempDir(), logstore.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, namespace := range []string{"ns", "local"} {
		for _, name := range []string{"x", "y"} {
			if namespace == "ns" && name == "y" {
				continue
			}
			log, err := kept.Create(logstore.Key{Namespace: namespace, Job: name, Attempt: name, AttemptUID: "1"}, 0)
			if err != nil {
				t.Fatal(err)
			}
			store(t, log, batch(0, "out:"+namespace))
			if err := log.SetExit(&hodeipb.ExitRecord{Cause: "Completed", End: uint64(len(namespace)), StdoutEnd: uint64(len(namespace))}); err != nil {
				t.Fatal(err)
			}
			if err := log.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	found := kubernetestest.Cluster(t, http.NotFound)
	for _, test := range []struct {
		name, job   string
		Cluster     *kubernetes.Provider
		unreachable error
		namespace   string
		out, note   string
		err         string
	}{
		{"not in the cluster", "x", found, nil, "ns", "ns", "not in the cluster: this is the output of a job of 20", ""},
		{"of this machine only", "y", found, nil, "ns", "", "", `job "y" not found in namespace ns`},
		{"no cluster", "y", nil, errors.New("no kubeconfig"), "ns", "local", "this is what is stored here: no kubeconfig", ""},
		{"of this machine", "x", nil, nil, "local", "local", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			a := &app{IOStreams: genericiooptions.IOStreams{Out: &out, ErrOut: &errOut}, getenv: func(string) string { return "" }}
			o := &logsOptions{app: a, store: &place.Store{Store: kept}, screen: newScreen(a, false), sink: a.streams().Sinks(output.Options{}), tail: -1,
				cluster: test.Cluster, unreachable: test.unreachable, namespace: test.namespace, name: test.job}
			err := o.showOne(t.Context())
			if test.err == "" && err != nil || test.err != "" && (err == nil || err.Error() != test.err) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			if out.String() != test.out || !strings.HasPrefix(errOut.String(), test.note) || test.note == "" && errOut.Len() > 0 {
				t.Errorf("stdout %q, stderr %q", out.String(), errOut.String())
			}
		})
	}
}

// Whoever was told that bytes are missing gets exit code 1, too.
func TestLogsMissing(t *testing.T) {
	for _, test := range []struct {
		name string
		exit *hodeipb.ExitRecord
		code int
		note string
	}{
		{"all there", &hodeipb.ExitRecord{Cause: "Completed", End: 4, StdoutEnd: 4}, 0, ""},
		{"the agent's disk was full", &hodeipb.ExitRecord{Cause: "Completed", End: 4, StdoutEnd: 4, Lost: 9}, 1, "9 bytes of x are missing from offset 4 on\n"},
		{"no end is stored", nil, 1, "an unknown number of bytes of x are missing from offset 4 on\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			kept, err := logstore.Open(t.TempDir(), logstore.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			log, err := kept.Create(logstore.Key{Namespace: "local", Job: "x", Attempt: "x", AttemptUID: "1"}, 0)
			if err != nil {
				t.Fatal(err)
			}
			store(t, log, batch(0, "out:text"))
			if test.exit != nil {
				if err := log.SetExit(test.exit); err != nil {
					t.Fatal(err)
				}
			}
			if err := log.Close(); err != nil {
				t.Fatal(err)
			}
			var out, errOut bytes.Buffer
			a := &app{IOStreams: genericiooptions.IOStreams{Out: &out, ErrOut: &errOut}, getenv: func(string) string { return "" }}
			o := &logsOptions{app: a, store: &place.Store{Store: kept}, screen: newScreen(a, false), sink: a.streams().Sinks(output.Options{}), tail: -1, namespace: "local", name: "x"}
			err = o.run(t.Context())
			exit, ok := errors.AsType[*job.ExitError](err)
			if ok != (test.code != 0) || ok && exit.Code != test.code || !ok && err != nil {
				t.Errorf("got %v, want code %d", err, test.code)
			}
			if out.String() != "text" || errOut.String() != test.note {
				t.Errorf("stdout %q, stderr %q", out.String(), errOut.String())
			}
		})
	}
}

// TestLogsDamaged holds that of a store with a byte that is not what was written all the
// rest is shown, what is damaged is named, and the exit code is 1.
func TestLogsDamaged(t *testing.T) {
	for _, test := range []struct {
		name string
		file string // in the attempt's directory
		at   int64  // below zero: from the end
		out  string
		note string // regular expression, with the file's name in it
	}{
		{"the first header", "00000000000000000000.log", 3, "second", `^5 bytes of x are missing from offset 0 on: ".*\.log" is damaged at byte 0: no frame begins here\n$`},
		{"the first output", "00000000000000000000.log", 28 + 21 + 2, "second", `^5 bytes of x are missing from offset 0 on: ".*\.log" is damaged at byte 0: checksum is wrong\n$`},
		{"the second header", "00000000000000000000.log", 28 + 21 + 5 + 9, "first", `^6 bytes of x are missing from offset 5 on: ".*\.log" is damaged at byte 54: no frame begins here\n$`},
		{"the exit record", "00000000000000000000.log", -1, "firstsecond", `^an unknown number of bytes of x are missing from offset 11 on: ".*\.log" is damaged at byte 109: checksum is wrong\n$`},
		{"the exit record's header", "00000000000000000000.log", 109, "firstsecond", `^an unknown number of bytes of x are missing from offset 11 on: ".*\.log" is damaged at byte 109: no frame begins here\n$`},
		{"the index", "00000000000000000000.index", 3, "firstsecond", ""},
		{"the names", "meta.json", 5, "firstsecond", `^".*/meta\.json" is damaged: .*\n$`},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			kept, err := logstore.Open(dir, logstore.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			log, err := kept.Create(logstore.Key{Namespace: "local", Job: "x", Attempt: "x", AttemptUID: "x"}, 0)
			if err != nil {
				t.Fatal(err)
			}
			store(t, log, batch(0, "out:first"))
			store(t, log, batch(5, "out:second"))
			if err := errors.Join(log.SetExit(&hodeipb.ExitRecord{Cause: "Completed", End: 11, StdoutEnd: 11}), log.Close()); err != nil {
				t.Fatal(err)
			}
			flip(t, filepath.Join(dir, "local", "x", "x", test.file), test.at)
			var out, errOut bytes.Buffer
			a := &app{IOStreams: genericiooptions.IOStreams{Out: &out, ErrOut: &errOut}, getenv: func(string) string { return "" }}
			o := &logsOptions{app: a, store: &place.Store{Store: kept}, screen: newScreen(a, false), sink: a.streams().Sinks(output.Options{}), tail: -1, namespace: "local", name: "x"}
			err = o.run(t.Context())
			exit, failed := errors.AsType[*job.ExitError](err)
			if failed != (test.note != "") || failed && exit.Code != 1 || !failed && err != nil {
				t.Errorf("got %v", err)
			}
			if out.String() != test.out || !regexp.MustCompile(cmp.Or(test.note, "^$")).MatchString(errOut.String()) {
				t.Errorf("stdout %q, stderr %q, want %s", out.String(), errOut.String(), test.note)
			}
		})
	}
}

// flip changes a byte of a file, which may be counted from its end.
func flip(t *testing.T, name string, at int64) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		at += int64(len(b))
	}
	b[at] ^= 0x20
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// The lines of several jobs are whole, also without a prefix.
func TestSinksOfSeveral(t *testing.T) {
	var out bytes.Buffer
	a := &app{IOStreams: genericiooptions.IOStreams{Out: &out, ErrOut: io.Discard}, getenv: func(string) string { return "" }}
	sinks := a.streams().Sinks(output.Options{Lines: true})
	var work sync.WaitGroup
	for _, name := range []string{"a", "b"} {
		s := sinks(name)
		work.Go(func() {
			for range 100 {
				for _, piece := range []string{name, name, "\n"} {
					if err := s.Record(name, 0, &hodeipb.Record{Stream: hodeipb.Stream_STDOUT}, []byte(piece)); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	work.Wait()
	if text := out.String(); strings.Count(text, "aa\n") != 100 || strings.Count(text, "bb\n") != 100 || len(text) != 600 {
		t.Errorf("got %q", text)
	}
}

// An agent that is away is not said to be one that has not started.
func TestShowWithoutAgent(t *testing.T) {
	a := &app{IOStreams: genericiooptions.IOStreams{Out: io.Discard, ErrOut: io.Discard}, getenv: func(string) string { return "" }}
	o := &logsOptions{app: a, screen: newScreen(a, true), sink: a.streams().Sinks(output.Options{}), tail: -1}
	pod := &kubernetes.Attempt{Name: "x-1"}
	err := o.show(t.Context(), &knownJob{name: "x", found: &kubernetes.Found{Spec: &job.Spec{Name: "x"}}, attempts: []knownAttempt{{name: "x-1", pod: pod}}})
	if err == nil || err.Error() != "the agent of job x does not run: its command has not started, or the agent was lost" {
		t.Errorf("got %v", err)
	}
}

// The container's log is shown if there is one; else its absence is said.
func TestShowContainer(t *testing.T) {
	tail := 3
	for _, test := range []struct {
		name    string
		log     string // empty: there is none
		code    int    // of the answer
		copied  bool
		printed uint64
		tail    *int
		out     string
		err     string
		missed  string
	}{
		{name: "there", log: "2025-06-01T12:00:01Z a\n2025-06-01T12:00:02Z b\n", code: 200, copied: true, printed: 4, out: "a\nb\n"},
		{name: "there, though nobody said so", log: "2025-06-01T12:00:01Z a\n", code: 200, printed: 2, out: "a\n"},
		{name: "it printed nothing", code: 200, copied: true},
		{name: "it was cut off", code: 200, copied: true, printed: 4, err: "the output of job x is gone"},
		{name: "half of it", log: "2025-06-01T12:00:01Z a\n", code: 200, copied: true, printed: 4, out: "a\n", missed: "2 of 4 bytes of x-1 are missing from its container's log"},
		{name: "a newline more than there was", log: "2025-06-01T12:00:01Z a\n", code: 200, copied: true, printed: 1, out: "a\n"},
		{name: "none of the last lines", code: 200, copied: true, printed: 4, tail: &tail, err: "the output of job x is gone"},
		{name: "fewer than the last lines", log: "2025-06-01T12:00:01Z a\n", code: 200, copied: true, printed: 4, tail: &tail, out: "a\n",
			missed: "2 of 4 bytes of x-1 are missing from its container's log"},
		{name: "the last lines", log: strings.Repeat("2025-06-01T12:00:01Z a\n", tail), code: 200, copied: true, printed: 40, tail: &tail, out: "a\na\na\n"},
		{name: "not copied", code: 200, printed: 4, err: "the output of job x is gone"},
		{name: "no Pod, not copied", code: 404, printed: 4, err: "the output of job x is gone"},
		{name: "no Pod", code: 404, copied: true, printed: 4, err: "the server could not find the requested resource"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			a := &app{IOStreams: genericiooptions.IOStreams{Out: &out, ErrOut: &errOut}, getenv: func(string) string { return "" }}
			o := &logsOptions{app: a, screen: newScreen(a, false), tail: -1, name: "x"}
			o.sink = a.streams().Sinks(output.Options{})
			o.cluster = kubernetestest.Cluster(t, func(w http.ResponseWriter, r *http.Request) {
				if q := r.URL.Query(); r.URL.Path != "/api/v1/namespaces/ns/pods/x-1/log" || q.Get("container") != "job" || q.Get("tailLines") != "" != (test.tail != nil) {
					t.Errorf("asked for %s", r.URL)
				}
				w.WriteHeader(test.code)
				io.WriteString(w, test.log)
			})
			if test.tail != nil {
				o.tail = *test.tail
			}
			j := &knownJob{name: "x", found: &kubernetes.Found{Spec: &job.Spec{Name: "x", ContainerLogs: test.copied}}}
			pod := &kubernetes.Attempt{Name: "x-1", Ended: true, Outcome: &job.Outcome{Cause: job.Error, Code: 1, OutputBytes: test.printed}}
			err := o.showOver(t.Context(), j, &knownAttempt{name: "x-1", pod: pod})
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			if o.missed.said() != test.missed || !strings.Contains(errOut.String(), test.missed) {
				t.Errorf("missed %q, want %q", o.missed.said(), test.missed)
			}
			if out.String() != test.out || strings.Contains(errOut.String(), inexact) != (test.out != "") {
				t.Errorf("stdout %q, want %q; stderr %q", out.String(), test.out, errOut.String())
			}
		})
	}
}

// A job can be attached to where its tunnel is allowed, or its output is copied.
func TestChooseTunnel(t *testing.T) {
	for _, test := range []struct {
		name             string
		may, copied      bool
		fallback, failed bool
	}{
		{"allowed", true, false, false, false},
		{"forbidden, copied", false, true, true, false},
		{"forbidden", false, false, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := kubernetestest.Cluster(t, func(w http.ResponseWriter, _ *http.Request) { allows(test.may)(w) })
			o := &attachOptions{logs: &logsOptions{cluster: p}}
			err := o.chooseTunnel(t.Context(), &kubernetes.Found{Spec: &job.Spec{Name: "x", ContainerLogs: test.copied}})
			if (err != nil) != test.failed || o.fallback != test.fallback {
				t.Errorf("error %v, fallback %t", err, o.fallback)
			}
		})
	}
}

// testJob is a Job that the cluster made.
func testJob(uid string) *batchv1.Job {
	return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "x", Namespace: "ns", UID: types.UID(uid)}}
}
