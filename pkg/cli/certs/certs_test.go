package certs

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/output/outputtest"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// testEnv returns an Env whose cluster answers as told, and what is written to its streams.
func testEnv(t *testing.T, answer http.HandlerFunc) (*command.Env, *bytes.Buffer) {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: x, clusters: [{name: x, cluster: {server: %q}}],
		contexts: [{name: x, context: {cluster: x, user: x}}], users: [{name: x, user: {token: x}}]}`, server.URL)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	config := t.TempDir()
	var out bytes.Buffer
	a := &command.Env{
		IOStreams: genericiooptions.IOStreams{Out: &out, ErrOut: &out}, Name: "hodei", Kube: genericclioptions.NewConfigFlags(true),
		Getenv: func(name string) string { return map[string]string{"XDG_CONFIG_HOME": config}[name] },
	}
	*a.Kube.KubeConfig, *a.Kube.Namespace = kubeconfig, "ns"
	t.Chdir(t.TempDir())
	return a, &out
}

// rotating returns the options of a rotate in env.
func rotating(env *command.Env) *rotateOptions {
	return &rotateOptions{
		Out: env.Out, ErrOut: env.ErrOut, connect: connecting(env), home: env.Home(),
		newScreen: func() *output.Screen { return command.NewScreen(env, false) },
	}
}

// inspecting returns the options of an inspect in env.
func inspecting(env *command.Env) *inspectOptions {
	return &inspectOptions{Out: env.Out, connect: connecting(env), printData: env.PrintData}
}

// fakeCluster has job x with its Secret, and takes patches of that.
type fakeCluster struct {
	job    *batchv1.Job
	secret *corev1.Secret
	exec   *corev1.Secret // nil: the job has no second one
}

func newFakeCluster(t *testing.T, authority *certs.Authority) *fakeCluster {
	t.Helper()
	spec := &job.Spec{Name: "x", Image: "i", Command: []string{"true"}}
	spec.SetDefaults()
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	c, err := authority.IssueJob(certs.ID{Namespace: "ns", Job: "x"})
	if err != nil {
		t.Fatal(err)
	}
	controller := true
	return &fakeCluster{
		job: &batchv1.Job{TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
			ObjectMeta: metav1.ObjectMeta{
				Name: "x", Namespace: "ns", UID: "1", Annotations: map[string]string{kubernetes.AnnotationSpec: string(text)},
			},
			Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{
				Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "agent"}}},
			}},
		},
		secret: &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
			ObjectMeta: metav1.ObjectMeta{Name: "x", Namespace: "ns", UID: "2", ResourceVersion: "1",
				OwnerReferences: []metav1.OwnerReference{
					{APIVersion: "batch/v1", Kind: "Job", Name: "x", UID: "1", Controller: &controller},
				}},
			Data: map[string][]byte{
				"ca.crt":     c.CA,
				"client.crt": c.ClientCert, "client.key": c.ClientKey,
				"server.crt": c.ServerCert, "server.key": c.ServerKey,
			},
		},
	}
}

// allowExec gives job x a second Secret.
func (c *fakeCluster) allowExec(t *testing.T) {
	t.Helper()
	spec, err := kubernetes.SpecOf(c.job)
	if err != nil {
		t.Fatal(err)
	}
	spec.Exec = true
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	c.job.Annotations[kubernetes.AnnotationSpec] = string(text)
	c.exec = c.secret.DeepCopy()
	c.exec.Name = "x-exec"
}

func (c *fakeCluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	var answer any
	switch path := r.URL.Path; {
	case strings.HasSuffix(path, "/jobs/x"):
		answer = c.job
	case strings.HasSuffix(path, "/jobs"):
		answer = &batchv1.JobList{TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "JobList"}, Items: []batchv1.Job{*c.job}}
	case strings.HasSuffix(path, "/pods"):
		answer = &corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}}
	case strings.HasSuffix(path, "/secrets/x"):
		answer = c.secret
	case strings.HasSuffix(path, "/secrets/x-exec") && c.exec != nil:
		answer = c.exec
	default:
		http.NotFound(w, r)
		return
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// Whose a renewed job is then, is said; nobody's authority is replaced by one in
// memory unasked.
func TestRotateJobAuthority(t *testing.T) {
	disk := t.TempDir()
	if _, err := certs.Generate(certs.GenerateOptions{Dir: disk}); err != nil {
		t.Fatal(err)
	}
	onDisk, err := certs.LoadAuthority(disk)
	if err != nil {
		t.Fatal(err)
	}
	memory, err := certs.NewAuthority(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		of     *certs.Authority
		here   bool // ./certs is there
		exec   bool // the job has a second Secret
		change func(o *rotateOptions)
		want   string // of what is said, else of the error
	}{
		{"in memory", memory, false, false, nil, "secret/x renewed in ns, by a new authority in memory\n"},
		{"and its second Secret", memory, false, true, nil, "secret/x renewed in ns, by a new authority in memory\n" +
			"secret/x-exec renewed in ns, by a new authority in memory\n"},
		{"in memory, and certs is there", memory, true, false, nil,
			"the CA of ./certs signs; to choose another: --dir DIR\nsecret/x renewed in ns, signed by certs/ca.crt\n"},
		{"of a directory", onDisk, false, false, func(o *rotateOptions) { o.Dir, o.chosenDir = disk, true },
			"secret/x renewed in ns, signed by " + disk + "/ca.crt\n"},
		{"of a directory that is not named", onDisk, false, false, nil, "the authority that signed for job x is not in certs or "},
		{"taken out of it", onDisk, true, false, func(o *rotateOptions) { o.inMemory = true },
			"secret/x renewed in ns, by a new authority in memory\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newFakeCluster(t, tt.of)
			if tt.exec {
				c.allowExec(t)
			}
			a, out := testEnv(t, c.ServeHTTP)
			if tt.here {
				if _, err := certs.Generate(certs.GenerateOptions{Dir: "certs"}); err != nil {
					t.Fatal(err)
				}
			}
			o := rotating(a)
			o.job = "x"
			if tt.change != nil {
				tt.change(o)
			}
			err := o.rotateJob(t.Context())
			if err != nil {
				out.WriteString(err.Error())
				if !strings.Contains(job.HintOf(err), "{hodei} certs rotate --job x -n ns --dir DIR; or ") {
					t.Errorf("%#v", err)
				}
			}
			if !strings.HasPrefix(out.String(), tt.want) {
				t.Errorf("got %q, want %q", out.String(), tt.want)
			}
		})
	}
}

// Of the jobs of an old authority only those count that dial a server.
func TestMayFinish(t *testing.T) {
	const want = "1 of the jobs in namespace ns dial a server and know only the old authority: x"
	for _, tt := range []struct {
		name string
		env  []corev1.EnvVar
		from []corev1.EnvFromSource
		want bool
	}{
		{"tunnel", []corev1.EnvVar{{Name: contract.EnvListen}}, nil, true},
		{"direct", []corev1.EnvVar{{Name: contract.EnvServerAddress, Value: "server:50051"}}, nil, false},
		{"who knows", nil, []corev1.EnvFromSource{{}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if _, err := certs.Generate(certs.GenerateOptions{Dir: dir}); err != nil {
				t.Fatal(err)
			}
			authority, err := certs.LoadAuthority(dir)
			if err != nil {
				t.Fatal(err)
			}
			c := newFakeCluster(t, authority)
			c.job.Spec.Template.Spec.Containers[0].Env, c.job.Spec.Template.Spec.Containers[0].EnvFrom = tt.env, tt.from
			a, _ := testEnv(t, c.ServeHTTP)
			if _, err := certs.RotateCA(certs.RotateOptions{Dir: dir}); err != nil {
				t.Fatal(err)
			}
			o := rotating(a)
			o.Dir = dir
			err = o.mayFinish(t.Context())
			if (err == nil) != tt.want || err != nil && err.Error() != want {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestRotateJobInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	a, _ := testEnv(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	o := rotating(a)
	o.job = "x"
	err := o.rotateJob(ctx)
	if exit, ok := errors.AsType[*job.ExitError](err); !ok || exit.Code != job.ExitCancelled || err.Error() != "interrupted" {
		t.Errorf("got %v", err)
	}
}

func TestInspectJob(t *testing.T) {
	memory, err := certs.NewAuthority(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(s *corev1.Secret)
		want   string
	}{
		{"a job's", func(*corev1.Secret) {}, ""},
		{"somebody else's", func(s *corev1.Secret) { s.OwnerReferences = nil }, `job "x" has no Secret in namespace ns`},
		{"empty", func(s *corev1.Secret) { s.Data = map[string][]byte{"token": []byte("x")} },
			`the Secret of job "x" in namespace ns holds no certificates`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newFakeCluster(t, memory)
			tt.change(c.secret)
			a, out := testEnv(t, c.ServeHTTP)
			o := inspecting(a)
			o.job, o.output = "x", "json"
			err := o.run(t.Context())
			if err == nil != (tt.want == "") || err != nil && (err.Error() != tt.want || job.HintOf(err) == "") {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if tt.want == "" && !strings.Contains(out.String(), `"source": "ns/x/server.crt"`) {
				t.Errorf("got %s", out)
			}
		})
	}
}

// TestInspectJobExec: the second Secret of a job is shown to who may read it.
func TestInspectJobExec(t *testing.T) {
	memory, err := certs.NewAuthority(0)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := memory.IssueExec(certs.ID{Namespace: "ns", Job: "x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		owner string // of the second Secret; empty: there is none
		code  int    // of the answer; 0: the Secret
		shown bool
		err   bool
	}{
		{name: "none"},
		{name: "the job's", owner: "x", shown: true},
		{name: "that of job x-exec", owner: "x-exec"},
		{name: "no right", owner: "x", code: http.StatusForbidden},
		{name: "a server in trouble", owner: "x", code: http.StatusInternalServerError, err: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newFakeCluster(t, memory)
			if tt.owner != "" {
				c.exec = c.secret.DeepCopy()
				c.exec.Name, c.exec.OwnerReferences[0].Name = "x-exec", tt.owner
				c.exec.Data = map[string][]byte{"ca.crt": issued.CA, "server.crt": issued.ServerCert, "server.key": issued.ServerKey}
			}
			a, out := testEnv(t, func(w http.ResponseWriter, r *http.Request) {
				if tt.code != 0 && strings.HasSuffix(r.URL.Path, "/secrets/x-exec") {
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(tt.code)
					_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
						Status: metav1.StatusFailure, Code: int32(tt.code), Message: "no", Reason: map[int]metav1.StatusReason{
							http.StatusForbidden: metav1.StatusReasonForbidden}[tt.code]})
					return
				}
				c.ServeHTTP(w, r)
			})
			o := inspecting(a)
			o.job, o.output = "x", "json"
			if err := o.run(t.Context()); (err != nil) != tt.err {
				t.Errorf("error %v", err)
			}
			if got := strings.Contains(out.String(), `"source": "ns/x-exec/server.crt"`); got != tt.shown {
				t.Errorf("shown: %t in %s", got, out)
			}
		})
	}
}

// Names in a certificate are the choice of whoever made it.
func TestInspectEscapes(t *testing.T) {
	for _, format := range []string{"json", "yaml"} {
		var out bytes.Buffer
		o := inspecting(&command.Env{IOStreams: genericiooptions.IOStreams{Out: &out}})
		o.output = format
		if err := o.print([]certs.Fact{{Source: "x", Subject: "a\u009b2J\x7f\u202e"}}); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); outputtest.CommandsTerminal(got) || !strings.Contains(got, `a\u009b2J\u007f\u202e`) {
			t.Errorf("%s: %q", format, got)
		}
	}
}

// Every request for a Secret has an end, whatever the API server does.
func TestSecretsBounded(t *testing.T) {
	memory, err := certs.NewAuthority(0)
	if err != nil {
		t.Fatal(err)
	}
	c := newFakeCluster(t, memory)
	c.job.Spec.Template.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{}}
	a, _ := testEnv(t, c.ServeHTTP)
	asked := 0
	a.Kube.WrapConfigFn = func(config *rest.Config) *rest.Config {
		config.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return bounded(func(r *http.Request) (*http.Response, error) {
				asked++
				if _, ok := r.Context().Deadline(); !ok {
					t.Errorf("%s %s may take for ever", r.Method, r.URL.Path)
				}
				return next.RoundTrip(r)
			})
		})
		return config
	}
	if _, err := certs.Generate(certs.GenerateOptions{Dir: "certs"}); err != nil {
		t.Fatal(err)
	}
	outgoing := []*x509.Certificate{memory.Cert}
	for name, do := range map[string]func() error{
		"rotate":  func() error { _, _, err := rotating(a).jobsOf(t.Context(), outgoing); return err },
		"inspect": func() error { o := inspecting(a); o.job = "x"; return o.run(t.Context()) },
		"secrets": func() error { o := inspecting(a); o.secrets, o.namespace = true, "ns"; return o.run(t.Context()) },
		"apply": func() error {
			o := &applyOptions{Out: a.Out, ErrOut: a.ErrOut, dir: "certs", workers: "ns", dryRun: command.DryRunNone,
				nameCluster: a.NameCluster, connect: a.Client}
			return o.run(t.Context())
		},
	} {
		if asked = 0; do() != nil && name != "secrets" && name != "apply" { // there are none, and no more is taken
			t.Errorf("%s: an error", name)
		}
		if asked == 0 {
			t.Errorf("%s has asked for nothing", name)
		}
	}
}

type bounded func(*http.Request) (*http.Response, error)

func (f bounded) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// The guide's script is certs generate, and says so where there is no hodei.
func TestGenerateCertificatesScript(t *testing.T) {
	script, err := filepath.Abs("../../../scripts/Worker Management/generate-certificates.sh")
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir()
	run := func() (stdout, stderr string, err error) {
		var out, errOut bytes.Buffer
		cmd := exec.Command("/bin/sh", script, "--dir", "my certs")
		cmd.Env, cmd.Stdout, cmd.Stderr = []string{"PATH=" + path}, &out, &errOut
		err = cmd.Run()
		return out.String(), errOut.String(), err
	}
	_, stderr, err := run()
	const missing = "error: hodei is not in PATH\nhint: make build && "
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 127 || !strings.HasPrefix(stderr, missing) {
		t.Errorf("without hodei: %v, %q", err, stderr)
	}
	if err := os.WriteFile(filepath.Join(path, "hodei"), []byte("#!/bin/sh\nprintf '<%s>' \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if stdout, _, err := run(); err != nil || stdout != "<certs><generate><--dir><my certs>" {
		t.Errorf("with hodei: %v, %q", err, stdout)
	}
}
