package run

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// kubeconfigText has a context a, whose cluster nobody serves.
const kubeconfigText = `apiVersion: v1
kind: Config
current-context: a
clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]
contexts: [{name: a, context: {cluster: c}}]
`

// dryRun returns the Job that "hodei run" with args would make, and its spec,
// without a cluster.
func dryRun(t *testing.T, args ...string) (*batchv1.Job, *job.Spec, error) {
	t.Helper()
	home := t.TempDir()
	kubeconfig := filepath.Join(home, "kubeconfig")
	if err := os.WriteFile(kubeconfig, []byte(kubeconfigText), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(home) // away from any certs/
	var out bytes.Buffer
	env := map[string]string{"HOME": home, "HERE": "value of here", "VOID": ""}
	lookup := func(name string) (string, bool) { value, set := env[name]; return value, set }
	a := &command.Env{IOStreams: genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: io.Discard}, Name: "hodei",
		Kube: genericclioptions.NewConfigFlags(true), Getenv: func(name string) string { return env[name] }, LookupEnv: lookup}
	root := &cobra.Command{Use: "hodei"}
	a.Prepare(root)
	root.AddCommand(New(a, (*Options).Run))
	a.ExplainUsage(root)
	root.SetArgs(append([]string{"run", "--kubeconfig", kubeconfig, "--dry-run=client", "-o", "json"}, args...))
	if err := root.ExecuteContext(t.Context()); err != nil {
		if out.Len() > 0 {
			t.Errorf("a failing command writes %q", out.String())
		}
		return nil, nil, err
	}
	var made batchv1.Job
	if err := json.Unmarshal(out.Bytes(), &made); err != nil {
		t.Fatalf("%v: %s", err, out.Bytes())
	}
	spec, err := kubernetes.SpecOf(&made)
	if err != nil {
		t.Fatal(err)
	}
	return &made, spec, nil
}

func TestRunFlags(t *testing.T) {
	q := func(s string) *resource.Quantity {
		q := resource.MustParse(s)
		return &q
	}
	for _, test := range []struct {
		name string
		args []string
		want func(*job.Spec) // of the defaults
	}{
		{"defaults", []string{"--", "true"}, func(*job.Spec) {}},
		{"the command's own flags", []string{"--", "sh", "-c", "echo $HOME", "--", "--detach"},
			func(s *job.Spec) { s.Command = []string{"sh", "-c", "echo $HOME", "--", "--detach"} }},
		{"variables", []string{"-e", "A=b=c,d", "-e", "EMPTY=", "-e", "HERE", "-e", "ABSENT", "-e", "VOID", "--", "true"},
			func(s *job.Spec) {
				s.Env = []job.EnvVar{{Name: "A", Value: "b=c,d"}, {Name: "EMPTY"}, {Name: "HERE", Value: "value of here"}, {Name: "VOID"}}
			}},
		{"a variable twice", []string{"-e", "A=1", "-e", "B=2", "-e", "A=3", "--", "true"}, func(s *job.Spec) {
			s.Env = []job.EnvVar{{Name: "B", Value: "2"}, {Name: "A", Value: "3"}}
		}},
		{"sources", []string{"--env-from", "secret/a", "--env-from", "configmap/b.c", "--", "true"},
			func(s *job.Spec) { s.EnvFrom = []job.EnvSource{{Secret: "a"}, {ConfigMap: "b.c"}} }},
		{"resources", []string{"--cpu", "500m", "--cpu-limit=2", "--memory", "1Gi", "--memory-limit", "2Gi", "--ephemeral-storage",
			"5Gi", "--", "true"}, func(s *job.Spec) {
			s.CPU, s.CPULimit, s.Memory, s.MemoryLimit, s.EphemeralStorage = q("500m"), q("2"), q("1Gi"), q("2Gi"), q("5Gi")
		}},
		{"times", []string{"--timeout", "1h", "--start-timeout=1m", "--grace", "5s", "--ttl", "10m", "--linger", "1s", "--retries", "3",
			"--", "true"}, func(s *job.Spec) {
			s.Timeout, s.StartTimeout, s.Grace, s.TTL, s.Linger, s.Retries = time.Hour, time.Minute, 5*time.Second, 10*time.Minute,
				time.Second, 3
		}},
		{"the rest", []string{"--image", "i:1", "--workdir", "/src", "--user", "1000:2000", "--merge-output", "--", "true"},
			func(s *job.Spec) {
				s.Image, s.Workdir, s.User, s.MergeOutput = "i:1", "/src", "1000:2000", true
			}},
		{"detached lingers longer", []string{"--detach", "--", "true"}, func(s *job.Spec) {
			s.Linger, s.Detached, s.ContainerLogs, s.EndCopied = job.DefaultLinger, true, true, true
		}},
		{"detached, and to linger all the same", []string{"--detach", "--linger", "1h", "--", "true"}, func(s *job.Spec) {
			s.Linger, s.Detached, s.ContainerLogs = time.Hour, true, true
		}},
		{"detached without the container's log", []string{"--detach", "--container-logs=false", "--", "true"},
			func(s *job.Spec) { s.Linger, s.Detached = job.DefaultLinger, true }},
		{"logs", []string{"--log-spool", "2Gi", "--log-overflow=drop", "--container-logs", "--", "true"}, func(s *job.Spec) {
			s.LogSpool, s.LogOverflow, s.ContainerLogs = q("2Gi"), job.OverflowDrop, true
		}},
		{"nobody follows", []string{"--follow=false", "--", "true"},
			func(s *job.Spec) { s.Linger, s.LogOverflow = time.Second, job.OverflowDrop }},
		{"nobody follows, and the job waits all the same", []string{"--follow=false", "--log-overflow=block", "--", "true"},
			func(s *job.Spec) {
				s.Linger, s.LogOverflow = time.Second, job.OverflowBlock
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			made, spec, err := dryRun(t, append([]string{"--name", "x"}, test.args...)...)
			if err != nil {
				t.Fatal(err)
			}
			want := &job.Spec{Name: "x", Command: []string{"true"}}
			test.want(want)
			want.SetDefaults()
			g, _ := json.Marshal(spec)
			w, _ := json.Marshal(want)
			if !bytes.Equal(g, w) {
				t.Errorf("got  %s\nwant %s", g, w)
			}
			if made.Name != "x" || made.Namespace != "hodei-jobs-workers" ||
				made.Spec.Template.Spec.ServiceAccountName != "hodei-jobs-worker" {
				t.Errorf("made %s in %s for %s", made.Name, made.Namespace, made.Spec.Template.Spec.ServiceAccountName)
			}
		})
	}
}

func TestRunFlagsMakeAName(t *testing.T) {
	_, spec, err := dryRun(t, "--", "/usr/bin/Go_1.26")
	if err != nil || !strings.HasPrefix(spec.Name, "hodei-go-1-26-") {
		t.Errorf("got %v, %v", spec, err)
	}
}

func TestRunUsage(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{}, "no command: write it after --"},
		{[]string{"true"}, "no -- before the command"},
		{[]string{"--", ""}, "no command: nothing stands after --"},
		{[]string{"--env-from", "pod/x", "--", "true"}, `--env-from "pod/x": want secret/NAME or configmap/NAME`},
		{[]string{"-e", "=x", "--", "true"}, `--env "": not a variable's name`},
		{[]string{"--memory", "lots", "--", "true"}, `--memory "lots": want a quantity such as 512Mi or 4Gi`},
		{[]string{"--memory", "2Gi", "--memory-limit", "1Gi", "--", "true"}, "--memory 2Gi: more than --memory-limit 1Gi"},
		{[]string{"--workdir", "sub", "--", "true"}, `--workdir "sub": want a path from the root, as it is in the image`},
		{[]string{"--", "echo", strings.Repeat("x", 128<<10)}, "argument 1 of the command has 131072 bytes: Linux takes at most 131071"},
		{append([]string{"--", "echo"}, slices.Repeat([]string{strings.Repeat("x", 120_000)}, 13)...),
			"the Job with the command and its variables has 1562"},
		{append([]string{"--", "echo"}, slices.Repeat([]string{strings.Repeat("<", 120_000)}, 5)...),
			"as JSON, in which <, > and & take six each: Kubernetes takes at most 3129344"},
		{[]string{"--name", "UPPER", "--", "true"}, `--name "UPPER": want lower-case letters, digits and dashes, at most 57 of them`},
		{[]string{"--user", "root", "--", "true"}, `--user "root": want UID or UID:GID, in numbers, or image`},
		{[]string{"--grace=-1s", "--", "true"}, "--grace -1s: must not be negative"},
		{[]string{"--ttl=1ms", "--", "true"}, "--ttl 1ms: want 1s or more"},
		{[]string{"--start-timeout=0s", "--", "true"}, "--start-timeout 0s: want 1s or more"},
		{[]string{"--log-spool", "1Ki", "--", "true"}, "--log-spool 1Ki: want 1Mi to 16Ti"},
		{[]string{"--log-spool", "much", "--", "true"}, `--log-spool "much": want a quantity such as 512Mi or 1Gi`},
		{[]string{"--log-overflow", "wait", "--", "true"}, `--log-overflow "wait": want block or drop`},
		{[]string{"--dry-run=maybe", "--", "true"}, `--dry-run "maybe": want none or client`},
		{[]string{"-o", "table", "--", "true"}, `-o "table": want json or yaml, or name with --detach`},
		{[]string{"--rm", "--detach", "--", "true"}, "--rm needs a job that is followed to its end: leave --detach out"},
		{[]string{"--replace", "--", "true"}, "--replace needs the name of the job: --name NAME"},
		{[]string{"-t", "--", "true"}, "--tty needs somebody who types: add -i"},
		{[]string{"-it", "--merge-output", "--", "true"}, "--merge-output is not needed with a terminal, which has one stream"},
		{[]string{"-it", "--retries", "1", "--", "true"}, "--retries can't be had with a terminal"},
		{[]string{"-it", "--follow=false", "--", "true"}, "-t shows what the command prints: leave --follow=false out"},
		{[]string{"-it", "--detach", "--", "true"}, "-i needs somebody who sends the input: leave --detach out"},
		{[]string{"--nope", "--", "true"}, "unknown flag: --nope"},
	} {
		_, _, err := dryRun(t, test.args...)
		var usage *command.UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.200q: got %v, want %s", test.args, err, test.want)
		}
	}
}
