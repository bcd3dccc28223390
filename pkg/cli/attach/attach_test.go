package attach

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// A job that has ended is shown, and half of its output, or none, is no success.
func TestAttachEnded(t *testing.T) {
	completed := job.Outcome{Cause: job.Completed, OutputBytes: 1000}
	for _, test := range []struct {
		name    string
		outcome job.Outcome
		stored  string              // empty: nothing
		exit    *hodeipb.ExitRecord // that is stored
		log     string              // of the container; empty: there is none
		code    int
		missing string // of the message
		hint    string
		lost    float64 // in the gap event; below zero: there is none
	}{
		{name: "all there", outcome: job.Outcome{Cause: job.Completed, OutputBytes: 5}, stored: "abcde", lost: -1},
		{name: "its own code", outcome: job.Outcome{Cause: job.Error, Code: 3, OutputBytes: 5}, stored: "abcde", code: 3, lost: -1},
		{name: "nothing printed", outcome: job.Outcome{Cause: job.Error, Code: 3}, code: 3, lost: -1},
		{name: "half of it", outcome: completed, stored: "abcde", code: 125,
			missing: "995 bytes of x-1 are missing from offset 5 on", lost: 995},
		{name: "half of what failed", outcome: job.Outcome{Cause: job.Error, Code: 3, OutputBytes: 1000}, stored: "abcde", code: 3,
			missing: "995 bytes of x-1", lost: 995},
		{name: "nothing of it", outcome: completed, code: 125, missing: "1000 bytes of x-1 are missing from offset 0 on", lost: 1000},
		{name: "in the container's log", outcome: job.Outcome{Cause: job.Completed, OutputBytes: 6},
			log: "2025-06-01T12:00:01Z abcde\n", lost: -1},
		{name: "half of it in the container's log", outcome: completed, log: "2025-06-01T12:00:01Z abcde\n", code: 125,
			missing: "994 of 1000 bytes of x-1 are missing from its container's log", lost: 994},
		{name: "the agent's disk was full", outcome: job.Outcome{Cause: job.Completed, OutputBytes: 5}, stored: "abcde",
			exit: &hodeipb.ExitRecord{Cause: "Completed", End: 5, StdoutEnd: 5,
				Lost: 7}, code: 125, missing: "7 bytes of x-1 are missing from offset 5 on", lost: 7},
		{name: "evicted", outcome: job.Outcome{Cause: job.Evicted}, stored: "abcde", code: 125,
			missing: "an unknown number of bytes of x-1 are missing from offset 5 on", hint: "--retries 1"},
		{name: "evicted, nothing stored", outcome: job.Outcome{Cause: job.Evicted}, code: 125,
			missing: "an unknown number of bytes of x-1 are missing from offset 0 on", hint: "--retries 1"},
	} {
		for _, format := range []string{"quiet", "json"} {
			t.Run(test.name+", "+format, func(t *testing.T) {
				kept, err := logstore.Open(t.TempDir(), logstore.Limits{})
				if err != nil {
					t.Fatal(err)
				}
				if test.stored != "" {
					log, err := kept.Create(logstore.Key{Namespace: "ns", Job: "x", JobUID: "1", Attempt: "x-1", AttemptUID: "2"}, 0)
					if err != nil {
						t.Fatal(err)
					}
					outputtest.Store(t, log, outputtest.Batch(0, "out:"+test.stored))
					if test.exit != nil {
						if err := log.SetExit(test.exit); err != nil {
							t.Fatal(err)
						}
					}
					if err := log.Close(); err != nil {
						t.Fatal(err)
					}
				}
				var out, errOut bytes.Buffer
				a := &command.Env{IOStreams: genericiooptions.IOStreams{Out: &out, ErrOut: &errOut}, Name: "hodei",
					Getenv: func(string) string { return "" }}
				o := &Options{Screen: command.NewScreen(a, true), Named: a.Named}
				if format == "json" {
					o.Events = &output.Events{Out: &out}
				}
				o.Store = &place.Store{Store: kept}
				o.Finder = &history.Finder{Store: kept, Namespace: "ns", Note: o.Screen.Note}
				o.Viewer = joblog.New(o.Finder, a.Streams().Sinks(output.Options{Events: o.Events}))
				o.Finder.Cluster = kubernetestest.Cluster(t, func(w http.ResponseWriter, _ *http.Request) {
					if test.log == "" {
						w.WriteHeader(http.StatusNotFound)
					}
					io.WriteString(w, test.log)
				})
				outcome := test.outcome
				err = o.ended(t.Context(), o.Finder.Known(&kubernetes.Found{
					Job: &batchv1.Job{ObjectMeta: metav1.ObjectMeta{UID: "1"}}, Spec: &job.Spec{Name: "x"},
					Attempts: []kubernetes.Attempt{{Name: "x-1", UID: "2", Ended: true,
						Outcome: &outcome}}, Finished: true, Outcome: &outcome,
				}))
				code := 0
				if exit, ok := errors.AsType[*job.ExitError](err); ok {
					code = exit.Code
				}
				if code != test.code || code == 0 && err != nil {
					t.Fatalf("got %v, want exit code %d", err, test.code)
				}
				failure, ok := errors.AsType[*job.Failure](err)
				if ok != (test.missing != "") || ok && !strings.HasPrefix(failure.Message,
					"output is incomplete: "+test.missing) || ok && !strings.Contains(failure.Hint, test.hint) {
					t.Errorf("failure %+v, want %q", failure, test.missing)
				}
				if format == "quiet" {
					if errOut.Len() > 0 {
						t.Errorf("stderr %q", errOut.String())
					}
					return
				}
				types := map[string]map[string]any{}
				for line := range strings.Lines(out.String()) {
					var event map[string]any
					if err := json.Unmarshal([]byte(line), &event); err != nil {
						t.Fatal(err)
					}
					types[event["type"].(string)] = event
				}
				if event := types["exit"]; event["exitCode"] != float64(test.code) {
					t.Errorf("exit event %v", event)
				}
				lost, _ := types["gap"]["lost"].(float64)
				if gap := types["gap"]; (gap == nil) != (test.lost < 0) || gap != nil && lost != test.lost {
					t.Errorf("gap event %v", gap)
				}
			})
		}
	}
}

// What is only stored here of a cluster's job is not attached to.
func TestOnlyStored(t *testing.T) {
	for _, test := range []struct {
		absent error
		want   string
	}{
		{&job.Failure{Message: `job "x" not found in namespace ns`, Err: kubernetes.ErrNotFound}, `job "x" not found in namespace ns`},
	} {
		err := onlyStored(&history.Job{Name: "x", Absent: test.absent})
		if hint, ok := errors.AsType[*job.Hinted](err); !ok || err.Error() != test.want || hint.Hint != "{hodei} logs x" {
			t.Errorf("got %#v, want %q", err, test.want)
		}
	}
	forbidden := &job.Failure{Cause: job.Forbidden, Message: "forbidden: no", Hint: "a grant"}
	if err := onlyStored(&history.Job{Name: "x", Absent: forbidden}); !errors.Is(err, forbidden) {
		t.Errorf("got %v, whose hint does not grant the right", err)
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
			p := kubernetestest.Cluster(t, func(w http.ResponseWriter, _ *http.Request) { kubernetestest.Allows(test.may)(w) })
			o := &Options{Finder: &history.Finder{Cluster: p}}
			fallback, err := o.chooseTunnel(t.Context(), &kubernetes.Found{Spec: &job.Spec{Name: "x", ContainerLogs: test.copied}})
			if (err != nil) != test.failed || fallback != test.fallback {
				t.Errorf("error %v, fallback %t", err, fallback)
			}
		})
	}
}

// What a job can't take is refused, with the line that it can.
func TestInput(t *testing.T) {
	for _, test := range []struct {
		name     string
		spec     job.Spec
		terminal io.Writer
		want     string
		hint     string
	}{
		{"no input", job.Spec{}, nil, "job x takes no input", "leave -i out: {hodei} attach x"},
		{"no terminal", job.Spec{Stdin: true}, io.Discard, "job x has no terminal", "leave -t out: {hodei} attach -i x"},
		{"a terminal", job.Spec{Stdin: true, TTY: true}, nil, "job x has a terminal", "sit at it: {hodei} attach -it x"},
	} {
		test.spec.Name = "x"
		o := &Options{In: strings.NewReader(""), TerminalOut: test.terminal}
		_, _, _, err := o.input(&kubernetes.Found{Spec: &test.spec}, false)
		if err == nil || !strings.HasPrefix(err.Error(), test.want) || job.HintOf(err) != test.hint {
			t.Errorf("%s: %v, hint %q", test.name, err, job.HintOf(err))
		}
	}
}
