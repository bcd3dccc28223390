package logs

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/joblog"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/output/outputtest"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/kubernetestest"
)

// testLogs shows the output of one job, from a store.
func testLogs(a *command.Env, kept *logstore.Store, namespace, name string) *Options {
	o := &Options{name: name, store: &place.Store{Store: kept}, note: command.NewScreen(a, false).Note}
	o.finder = &history.Finder{Store: kept, Namespace: namespace, Note: o.note}
	o.viewer = joblog.New(o.finder, a.Streams().Sinks(output.Options{}))
	return o
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
			outputtest.Store(t, log, outputtest.Batch(0, "out:"+namespace))
			if err := log.SetExit(&hodeipb.ExitRecord{Cause: "Completed", End: uint64(len(namespace)),
				StdoutEnd: uint64(len(namespace))}); err != nil {
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
			a := &command.Env{IOStreams: genericiooptions.IOStreams{Out: &out, ErrOut: &errOut}, Getenv: func(string) string { return "" }}
			o := testLogs(a, kept, test.namespace, test.job)
			o.finder.Cluster, o.finder.Unreachable = test.Cluster, test.unreachable
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
		{"the agent's disk was full", &hodeipb.ExitRecord{Cause: "Completed", End: 4, StdoutEnd: 4, Lost: 9}, 1,
			"9 bytes of x are missing from offset 4 on\n"},
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
			outputtest.Store(t, log, outputtest.Batch(0, "out:text"))
			if test.exit != nil {
				if err := log.SetExit(test.exit); err != nil {
					t.Fatal(err)
				}
			}
			if err := log.Close(); err != nil {
				t.Fatal(err)
			}
			var out, errOut bytes.Buffer
			a := &command.Env{IOStreams: genericiooptions.IOStreams{Out: &out, ErrOut: &errOut}, Getenv: func(string) string { return "" }}
			o := testLogs(a, kept, "local", "x")
			err = o.Run(t.Context())
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
		{"the first header", "00000000000000000000.log", 3, "second",
			`^5 bytes of x are missing from offset 0 on: ".*\.log" is damaged at byte 0: no frame begins here\n$`},
		{"the first output", "00000000000000000000.log", 28 + 21 + 2, "second",
			`^5 bytes of x are missing from offset 0 on: ".*\.log" is damaged at byte 0: checksum is wrong\n$`},
		{"the second header", "00000000000000000000.log", 28 + 21 + 5 + 9, "first",
			`^6 bytes of x are missing from offset 5 on: ".*\.log" is damaged at byte 54: no frame begins here\n$`},
		{"the exit record", "00000000000000000000.log", -1, "firstsecond",
			`^an unknown number of bytes of x are missing from offset 11 on: ".*\.log" is damaged at byte 109: checksum is wrong\n$`},
		{"the exit record's header", "00000000000000000000.log", 109, "firstsecond",
			`^an unknown number of bytes of x are missing from offset 11 on: ".*\.log" is damaged at byte 109: no frame begins here\n$`},
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
			outputtest.Store(t, log, outputtest.Batch(0, "out:first"))
			outputtest.Store(t, log, outputtest.Batch(5, "out:second"))
			if err := errors.Join(log.SetExit(&hodeipb.ExitRecord{Cause: "Completed", End: 11, StdoutEnd: 11}), log.Close()); err != nil {
				t.Fatal(err)
			}
			flip(t, filepath.Join(dir, "local", "x", "x", test.file), test.at)
			var out, errOut bytes.Buffer
			a := &command.Env{IOStreams: genericiooptions.IOStreams{Out: &out, ErrOut: &errOut}, Getenv: func(string) string { return "" }}
			o := testLogs(a, kept, "local", "x")
			err = o.Run(t.Context())
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
	a := &command.Env{IOStreams: genericiooptions.IOStreams{Out: &out, ErrOut: io.Discard}, Getenv: func(string) string { return "" }}
	sinks := a.Streams().Sinks(output.Options{Lines: true})
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
