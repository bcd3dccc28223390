package rerun

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/history/historytest"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/kubernetestest"
	"github.com/hodei-jobs/hodei/pkg/session"
	"github.com/hodei-jobs/hodei/pkg/submission"
)

func quantity(s string) *resource.Quantity { return new(resource.MustParse(s)) }

// nightly is what an earlier job asked for, with a value in most fields.
func nightly() *job.Spec {
	s := &job.Spec{
		Name: "nightly", Image: "app:1", Command: []string{"sh", "-c", "echo $A", "--", "-x"}, User: "1000", Workdir: "/src",
		Env: []job.EnvVar{{Name: "A", Value: "$(B) b"}, {Name: "EMPTY"}}, EnvFrom: []job.EnvSource{{Secret: "token"}},
		CPU: quantity("1"), Memory: quantity("512Mi"), GPU: 1, Timeout: time.Hour, StartTimeout: time.Minute, Retries: 2,
		Grace: 5 * time.Second, TTL: 10 * time.Minute, MergeOutput: true, LogSpool: quantity("2Gi"),
	}
	s.SetDefaults()
	return s
}

func TestAgain(t *testing.T) {
	for _, test := range []struct {
		name     string
		old      func(*job.Spec)
		want     func(*job.Spec)
		ruledOut bool
	}{
		{"followed", func(*job.Spec) {}, func(*job.Spec) {}, false},
		{"detached", func(s *job.Spec) { s.Detached, s.EndCopied, s.ContainerLogs = true, true, true }, func(*job.Spec) {}, false},
		{"detached without a copy", func(s *job.Spec) { s.Detached = true }, func(*job.Spec) {}, true},
		{"followed with a copy", func(s *job.Spec) { s.ContainerLogs = true }, func(s *job.Spec) { s.ContainerLogs = true }, false},
		{"that lingers", func(s *job.Spec) { s.Linger = time.Hour }, func(s *job.Spec) { s.Linger = time.Hour }, false},
		{"unfollowed", func(s *job.Spec) { s.Linger, s.LogOverflow = time.Second, job.OverflowDrop }, func(*job.Spec) {}, false},
		{"that drops output", func(s *job.Spec) { s.LogOverflow = job.OverflowDrop },
			func(s *job.Spec) { s.LogOverflow = job.OverflowDrop }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			old, want := nightly(), nightly()
			test.old(old)
			want.Name, want.Linger = "", 0
			test.want(want)
			got, _ := json.Marshal(again(old))
			if w, _ := json.Marshal(want); !bytes.Equal(got, w) {
				t.Errorf("got  %s\nwant %s", got, w)
			}
			if old.Name != "nightly" {
				t.Error("the old one is changed")
			}
			if ruledOut(old) != test.ruledOut {
				t.Errorf("ruled out: %t", ruledOut(old))
			}
		})
	}
}

func TestCheckValues(t *testing.T) {
	env := []job.EnvVar{{Name: "A"}, {Name: "B"}}
	for _, test := range []struct {
		env       []job.EnvVar
		given     []string
		err, hint string
	}{
		{nil, nil, "", ""},
		{env, []string{"B", "A"}, "", ""},
		{env, []string{"B"}, "job x can't be run as it was: the value of A was not stored on this machine",
			"give it: {hodei} rerun x -e A=VALUE"},
		{env, nil, "job x can't be run as it was: the values of A and B were not stored on this machine",
			"give it: {hodei} rerun x -e A=VALUE -e B=VALUE"},
	} {
		err := (&Options{JobName: "x", Given: test.given}).checkValues(&job.Spec{Name: "x", Env: test.env})
		if said := fmt.Sprint(err); (err != nil || test.err != "") && said != test.err || job.HintOf(err) != test.hint {
			t.Errorf("given %q: got %q, hint %q", test.given, said, job.HintOf(err))
		}
	}
}

// cluster is an API server that has the Job of a spec and no Pods, or nothing.
func cluster(t *testing.T, spec *job.Spec) *httptest.Server {
	t.Helper()
	var made *batchv1.Job
	if spec != nil {
		p, err := kubernetes.New(kubernetes.Options{Config: &rest.Config{Host: "http://127.0.0.1:1"},
			Provider: provider.Config{Namespace: "ns"}.WithDefaults()})
		if err != nil {
			t.Fatal(err)
		}
		if made, err = p.Manifest(spec); err != nil {
			t.Fatal(err)
		}
		made.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/pods"):
			_ = json.NewEncoder(w).Encode(corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}})
		case made != nil && strings.HasSuffix(r.URL.Path, "/jobs/"+made.Name):
			_ = json.NewEncoder(w).Encode(made)
		default:
			w.WriteHeader(http.StatusNotFound)
			_ = json.NewEncoder(w).Encode(metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonNotFound, Code: 404})
		}
	}))
	t.Cleanup(server.Close)
	return server
}

// dryRun returns what "hodei rerun" with args would ask for, where a cluster has the Job of old.
func dryRun(t *testing.T, old *job.Spec, args ...string) (*job.Spec, error) {
	t.Helper()
	home := t.TempDir()
	kubeconfig := filepath.Join(home, "kubeconfig")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{name: c, cluster: {server: '%s'}}]\n"+
		"contexts: [{name: a, context: {cluster: c}}]\n", cluster(t, old).URL)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(home) // away from any certs/
	var out bytes.Buffer
	vars := map[string]string{"HOME": home, "HERE": "value of here"}
	lookup := func(name string) (string, bool) { value, set := vars[name]; return value, set }
	env := &command.Env{IOStreams: genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: io.Discard}, Name: "hodei",
		Kube: genericclioptions.NewConfigFlags(true), Getenv: func(name string) string { return vars[name] }, LookupEnv: lookup}
	root := &cobra.Command{Use: "hodei"}
	env.Prepare(root)
	root.AddCommand(New(env, (*Options).Run))
	env.ExplainUsage(root)
	root.SetArgs(append([]string{"rerun", "--kubeconfig", kubeconfig, "--dry-run=client", "-o", "json"}, args...))
	if err := root.ExecuteContext(t.Context()); err != nil {
		if out.Len() > 0 {
			t.Errorf("a failing command writes %q", out.String())
		}
		return nil, err
	}
	var made batchv1.Job
	if err := json.Unmarshal(out.Bytes(), &made); err != nil {
		t.Fatalf("%v: %s", err, out.Bytes())
	}
	spec, err := kubernetes.SpecOf(&made)
	if err != nil {
		t.Fatal(err)
	}
	return spec, nil
}

func TestRerun(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		want func(*job.Spec) // of the earlier one, with defaults
	}{
		{"as it was", nil, func(*job.Spec) {}},
		{"what the hint after an OOM kill says", []string{"--memory", "1Gi"}, func(s *job.Spec) { s.Memory = quantity("1Gi") }},
		{"amounts", []string{"--cpu", "", "--cpu-limit", "2", "--gpu", "0", "--log-spool="},
			func(s *job.Spec) { s.CPU, s.CPULimit, s.GPU, s.LogSpool = nil, quantity("2"), 0, quantity("1Gi") }},
		{"variables", []string{"-e", "A=new", "-e", "EMPTY", "-e", "HERE", "--env-from", "configmap/c", "--env-from", "secret/token"},
			func(s *job.Spec) {
				s.Env = []job.EnvVar{{Name: "A", Value: "new"}, {Name: "HERE", Value: "value of here"}}
				s.EnvFrom = []job.EnvSource{{ConfigMap: "c"}, {Secret: "token"}}
			}},
		{"times", []string{"--timeout", "0", "--ttl", "5m", "--retries", "0", "--start-timeout=2m", "--grace=1s"}, func(s *job.Spec) {
			s.Timeout, s.TTL, s.Retries, s.StartTimeout, s.Grace = 0, 5*time.Minute, 0, 2*time.Minute, time.Second
		}},
		{"the rest", []string{"--image", "", "--workdir=", "--user=2000:3000", "--merge-output=false"},
			func(s *job.Spec) { s.Image, s.Workdir, s.User, s.MergeOutput = "", "", "2000:3000", false }},
		{"detached", []string{"--detach"}, func(s *job.Spec) { s.Detached, s.ContainerLogs, s.EndCopied = true, true, true }},
		{"with exec", []string{"--exec"}, func(s *job.Spec) { s.Exec = true }},
		{"unfollowed", []string{"--follow=false"}, func(s *job.Spec) { s.Linger, s.LogOverflow = time.Second, job.OverflowDrop }},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := dryRun(t, nightly(), append([]string{"nightly", "--name", "x"}, test.args...)...)
			if err != nil {
				t.Fatal(err)
			}
			want := nightly()
			want.Name = "x"
			test.want(want)
			g, _ := json.Marshal(got)
			if w, _ := json.Marshal(want); !bytes.Equal(g, w) {
				t.Errorf("got  %s\nwant %s", g, w)
			}
		})
	}
	t.Run("with exec as before", func(t *testing.T) {
		old := nightly()
		old.Exec = true
		got, err := dryRun(t, old, "nightly")
		if err != nil || !got.Exec {
			t.Errorf("got %+v, %v", got, err)
		}
		if got, err = dryRun(t, old, "nightly", "--exec=false"); err != nil || got.Exec {
			t.Errorf("--exec=false: got %+v, %v", got, err)
		}
	})
	t.Run("a name of its own", func(t *testing.T) {
		got, err := dryRun(t, nightly(), "nightly")
		if err != nil || !strings.HasPrefix(got.Name, "hodei-sh-") {
			t.Errorf("got %+v, %v", got, err)
		}
	})
	t.Run("a copy that was ruled out", func(t *testing.T) {
		old := nightly()
		old.Detached = true
		got, err := dryRun(t, old, "nightly", "--detach")
		if err != nil || got.ContainerLogs {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

func TestRerunErrors(t *testing.T) {
	for _, test := range []struct {
		args  []string
		want  string
		usage bool
	}{
		{nil, "no name is given", true},
		{[]string{"a", "b"}, `one name is taken, and "b" is one more`, true},
		{[]string{"nightly", "--", "true"}, "rerun runs the job's own command", true},
		{[]string{"nightly", "--memory", "lots"}, `--memory "lots": want a quantity`, true},
		{[]string{"nightly", "--memory-limit", "8Mi"}, "--memory 512Mi: more than --memory-limit 8Mi", true},
		{[]string{"nightly", "--rm", "-d"}, "--rm needs a job that is followed", true},
		{[]string{"nightly", "--replace"}, "--replace needs the name of the job", true},
		{[]string{"other"}, `job "other" not found in namespace hodei-jobs-workers`, false},
	} {
		_, err := dryRun(t, nightly(), test.args...)
		_, usage := errors.AsType[*command.UsageError](err)
		if err == nil || !strings.Contains(err.Error(), test.want) || usage != test.usage {
			t.Errorf("%q: got %v, usage %t", test.args, err, usage)
		}
		if exit, ok := errors.AsType[*job.ExitError](err); !usage && (!ok || exit.Code != job.ExitFailed) {
			t.Errorf("%q: ends as %v", test.args, err)
		}
	}
}

// TestFindStored looks for a job that was followed from this machine, and that no cluster has any more, or no cluster
// is asked.
func TestFindStored(t *testing.T) {
	store := historytest.Store(t)
	spec := &job.Spec{Name: "x", Command: []string{"make"}, Env: []job.EnvVar{{Name: "A"}}, EnvFrom: []job.EnvSource{{Secret: "s"}}}
	historytest.Keep(t, store, logstore.Key{Namespace: "ns", Job: "x", JobUID: "1", Attempt: "x-1", AttemptUID: "2"},
		&job.Run{Spec: spec}, nil, 0)
	historytest.Keep(t, store, logstore.Key{Namespace: "ns", Job: "old", JobUID: "1", Attempt: "old-1", AttemptUID: "3"}, nil, nil, 0)
	notThere := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode(metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonNotFound, Code: 404})
	}
	down := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", http.StatusBadGateway) }
	for _, test := range []struct {
		name    string
		cluster http.HandlerFunc // nil: there is none
		job     string
		given   []string
		said    string
		err     string
	}{
		{name: "gone", cluster: notThere, job: "x", given: []string{"A"},
			said: "job x is not in the cluster any more: it is run as this machine has stored it\n"},
		{name: "of this machine", job: "x", given: []string{"A"}},
		{name: "with a value that is not known", cluster: notThere, job: "x",
			err: "job x can't be run as it was: the value of A was not stored on this machine"},
		{name: "a cluster that does not say", cluster: down, job: "x", given: []string{"A"}, err: "an error on the server"},
		{name: "stored by an older version", job: "old", err: "what job old ran is not known here: it was stored by an older version"},
		{name: "nowhere", cluster: notThere, job: "y", err: `job "y" not found in namespace ns`},
	} {
		t.Run(test.name, func(t *testing.T) {
			var errOut bytes.Buffer
			screen := output.NewScreen(&output.Streams{Out: io.Discard, Err: &errOut}, false, strings.Clone)
			o := &Options{JobName: test.job, Given: test.given, Finder: &history.Finder{Namespace: "ns", Store: store, Note: screen.Note},
				Config: &submission.Config{Teller: session.Teller{Screen: screen, Named: strings.Clone}}}
			if test.cluster != nil {
				o.Finder.Cluster = kubernetestest.Cluster(t, test.cluster)
			}
			got, err := o.find(t.Context())
			if test.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), test.err) {
					t.Errorf("got %v, want %s", err, test.err)
				}
				return
			}
			if err != nil || got.Command[0] != "make" || got.EnvFrom[0].Secret != "s" || errOut.String() != test.said {
				t.Errorf("got %+v, %v, said %q", got, err, errOut.String())
			}
		})
	}
}
