package manifest

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares v, as YAML, with testdata/name.
func golden(t *testing.T, name string, v any) {
	t.Helper()
	got, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (go test -run %s -update writes it anew):\n%s", path, t.Name(), firstDifference(string(got), string(want)))
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d\n got %s\nwant %s", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("got %d lines, want %d", len(g), len(w))
}

func quantity(s string) *resource.Quantity {
	q := resource.MustParse(s)
	return &q
}

// minimal is what "hodei run --name hello -- echo hello" asks for.
func minimal() *job.Spec {
	s := &job.Spec{Name: "hello", Command: []string{"echo", "hello"}}
	s.SetDefaults()
	return s
}

// full is a spec with a value in every field.
func full() *job.Spec {
	return &job.Spec{
		Name: "train", Image: "registry.example/train:v2", Command: []string{"sh", "-c", "echo $HOME $(HOME) $$"},
		Env:     []job.EnvVar{{Name: "A", Value: "$(B) costs $5"}, {Name: "B", Value: ""}},
		EnvFrom: []job.EnvSource{{Secret: "keys"}, {ConfigMap: "settings"}},
		CPU:     quantity("500m"), CPULimit: quantity("2"), Memory: quantity("512Mi"), MemoryLimit: quantity("1Gi"),
		EphemeralStorage: quantity("3Gi"), GPU: 2, Workdir: "/src", User: "1000:2000",
		Timeout: time.Hour, StartTimeout: 5 * time.Minute, Retries: 2, Grace: 20 * time.Second,
		TTL: 10 * time.Minute, Linger: 10 * time.Minute, MergeOutput: true, Stdin: true, TTY: true, Exec: true,
		LogSpool: quantity("256Mi"), LogOverflow: job.OverflowBlock, ContainerLogs: true, Detached: true, EndCopied: true,
	}
}

func testSettings() Settings {
	return Settings{
		Provider: "k8s-local", Namespace: "hodei-jobs-workers",
		Config:     provider.Config{Type: provider.Kubernetes}.WithDefaults(),
		ServerName: certs.ID{Namespace: "hodei-jobs-workers", Job: "hello"}.ServerName(),
	}
}

// fullProvider has a value in every field; pkg/provider's tests see to that.
func fullProvider(t *testing.T) provider.Config {
	t.Helper()
	data, err := os.ReadFile("../../testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, c, err := provider.ParseRequest(data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func render(t testing.TB, spec *job.Spec) *batchv1.Job {
	t.Helper()
	j, err := Job(spec, testSettings())
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func containers(j *batchv1.Job) (agent, command corev1.Container) {
	c := j.Spec.Template.Spec.Containers
	return c[0], c[1]
}

func TestRenderJob(t *testing.T) {
	golden(t, "minimal.yaml", render(t, minimal()))

	s := testSettings()
	s.Config = fullProvider(t)
	s.ServerName = certs.ID{Namespace: s.Namespace, Job: "train"}.ServerName()
	j, err := Job(full(), s)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "full.yaml", j)
}

func TestRenderSecret(t *testing.T) {
	owner := render(t, minimal())
	owner.UID = "11111111-2222-3333-4444-555555555555"
	golden(t, "secret.yaml", Secret(owner, minimal(), &certs.JobCerts{
		CA: []byte("ca"), ClientCert: []byte("client"), ClientKey: []byte("client key"),
		ServerCert: []byte("server"), ServerKey: []byte("server key"),
	}))
}

// TestRenderExecSecret: the second Secret is the Job's, and has nothing that an agent needs.
func TestRenderExecSecret(t *testing.T) {
	owner := render(t, minimal())
	owner.UID = "11111111-2222-3333-4444-555555555555"
	exec := &certs.JobCerts{CA: []byte("ca"), ServerCert: []byte("server"), ServerKey: []byte("server key")}
	golden(t, "exec_secret.yaml", ExecSecret(owner, exec))
}

// The full spec has a value in every field: what is added to Spec is rendered,
// and lands in the golden file, or fails here.
func TestFullIsFull(t *testing.T) {
	v := reflect.ValueOf(*full())
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("full() leaves %s out", v.Type().Field(i).Name)
		}
	}
}

// The spec is in the Job once, in two halves.
func TestSpecAnnotation(t *testing.T) {
	spec := full()
	spec.Command = append(spec.Command, "<&>", "--", "$(A)$$", "")
	spec.Env = append(spec.Env, job.EnvVar{Name: contract.EnvAttempt, Value: "mine"})
	j := render(t, spec)
	if text := j.Annotations[AnnotationSpec]; strings.Contains(text, "command") || strings.Contains(text, `"env"`) {
		t.Errorf("annotation %s", text)
	}
	got, err := SpecOf(j)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := json.Marshal(got)
	want, _ := json.Marshal(spec)
	if !bytes.Equal(again, want) {
		t.Errorf("got  %s\nwant %s", again, want)
	}
}

// A Job of an earlier version has its whole spec in the annotation.
func TestSpecOfEarlier(t *testing.T) {
	j := render(t, minimal())
	whole, err := json.Marshal(full())
	if err != nil {
		t.Fatal(err)
	}
	j.Annotations[AnnotationSpec], j.Name = string(whole), full().Name
	got, err := SpecOf(j)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := json.Marshal(got); !bytes.Equal(again, whole) {
		t.Errorf("got  %s\nwant %s", again, whole)
	}
	j.Annotations[AnnotationSpec] = `{"name":"train"}`
	j.Spec.Template.Spec.Containers = nil // somebody else's
	if got, err := SpecOf(j); err != nil || len(got.Command)+len(got.Env) > 0 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestFailurePolicy(t *testing.T) {
	for _, test := range []struct {
		name    string
		retries int32
		queue   string
		limit   int32
		want    []string
	}{
		{"queued", 0, "team-a", 0, []string{"Count agent In [90]", "FailJob agent NotIn [90]", "FailJob DisruptionTarget=True"}},
		{"no retries", 0, "", 2,
			[]string{"Count agent In [90]", "FailJob agent NotIn [90]", "FailJob DisruptionTarget=True", "FailJob any NotIn [0]"}},
		{"one retry", 1, "", 1,
			[]string{"Count agent In [90]", "FailJob agent NotIn [90]", "Ignore DisruptionTarget=True", "Count job NotIn [0]",
				"FailJob any NotIn [0]"}},
		{"retries", 3, "team-a", 3,
			[]string{"Count agent In [90]", "FailJob agent NotIn [90]", "Ignore DisruptionTarget=True", "Count job NotIn [0]",
				"FailJob any NotIn [0]"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := minimal()
			spec.Retries = test.retries
			j := renderWith(t, spec, "queue: "+test.queue)
			if *j.Spec.BackoffLimit != test.limit {
				t.Errorf("backoffLimit %d, want %d", *j.Spec.BackoffLimit, test.limit)
			}
			var got []string
			for _, r := range j.Spec.PodFailurePolicy.Rules {
				line := string(r.Action)
				if e := r.OnExitCodes; e != nil {
					container := "any"
					if e.ContainerName != nil {
						container = *e.ContainerName
					}
					line += fmt.Sprintf(" %s %s %v", container, e.Operator, e.Values)
				}
				for _, c := range r.OnPodConditions {
					line += fmt.Sprintf(" %s=%s", c.Type, c.Status)
				}
				got = append(got, line)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

func TestTimes(t *testing.T) {
	for _, test := range []struct {
		name               string
		change             func(*job.Spec)
		deadline           int64 // 0: none
		ttl                int32
		grace              int64
		agentGrace, linger string
	}{
		{"defaults", func(*job.Spec) {}, 0, 3600, 45, "30s", "10m0s"},
		{"retries without a timeout", func(s *job.Spec) { s.Retries = 5 }, 0, 3600, 45, "30s", "10m0s"},
		// 600 + (60 + 30 + 600) + 300
		{"timeout", func(s *job.Spec) { s.Timeout = time.Minute }, 1590, 3600, 45, "30s", "10m0s"},
		// 600 + (60 + 30 + 600)×3 + 300
		{"timeout and retries", func(s *job.Spec) { s.Timeout, s.Retries = time.Minute, 2 }, 2970, 3600, 45, "30s", "10m0s"},
		// 10 + (7200 + 90 + 600)×2 + 300
		{"all of it", func(s *job.Spec) {
			s.StartTimeout, s.Timeout, s.Grace = 10*time.Second, 2*time.Hour, 90*time.Second
			s.Linger, s.Retries, s.TTL = 10*time.Minute, 1, time.Minute
		}, 16090, 60, 105, "1m30s", "10m0s"},
		// Rounded down, the Pod would be killed, and the Job ended, too soon.
		{"parts of a second", func(s *job.Spec) { s.Timeout, s.Grace = time.Millisecond, 1500*time.Millisecond }, 1502, 3600, 17, "1.5s",
			"10m0s"},
		{"more than a Duration holds", func(s *job.Spec) { s.Timeout, s.Retries = 30*24*time.Hour, math.MaxInt32 }, math.MaxInt32, 3600, 45,
			"30s", "10m0s"},
		{"a TTL for ever", func(s *job.Spec) { s.TTL = math.MaxInt64 }, 0, math.MaxInt32, 45, "30s", "10m0s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := minimal()
			test.change(spec)
			j := render(t, spec)
			switch d := j.Spec.ActiveDeadlineSeconds; {
			case d == nil && test.deadline != 0:
				t.Errorf("no activeDeadlineSeconds, want %d", test.deadline)
			case d != nil && *d != test.deadline:
				t.Errorf("activeDeadlineSeconds %d, want %d", *d, test.deadline)
			}
			if got := *j.Spec.TTLSecondsAfterFinished; got != test.ttl {
				t.Errorf("ttlSecondsAfterFinished %d, want %d", got, test.ttl)
			}
			if got := *j.Spec.Template.Spec.TerminationGracePeriodSeconds; got != test.grace {
				t.Errorf("terminationGracePeriodSeconds %d, want %d", got, test.grace)
			}
			agent, command := containers(j)
			env := map[string]string{}
			for _, e := range agent.Env {
				env[e.Name] = e.Value
			}
			if env[contract.EnvGrace] != test.agentGrace || env[contract.EnvLinger] != test.linger {
				t.Errorf("the agent is told a grace of %s and a linger of %s", env[contract.EnvGrace], env[contract.EnvLinger])
			}
			if !slices.Contains(command.Command, "--grace="+test.agentGrace) {
				t.Errorf("the launcher is told %q", command.Command)
			}
		})
	}
}

func TestPod(t *testing.T) {
	for name, spec := range map[string]*job.Spec{"minimal": minimal(), "full": full()} {
		t.Run(name, func(t *testing.T) {
			j := render(t, spec)
			pod := j.Spec.Template.Spec
			for field, value := range map[string]*bool{
				"automountServiceAccountToken": pod.AutomountServiceAccountToken,
				"enableServiceLinks":           pod.EnableServiceLinks,
				"shareProcessNamespace":        pod.ShareProcessNamespace,
			} {
				if value == nil || *value {
					t.Errorf("%s is not false", field)
				}
			}
			if pod.HostNetwork || pod.HostPID || pod.HostIPC {
				t.Error("it shares a namespace of the host")
			}
			if pod.RestartPolicy != corev1.RestartPolicyNever || len(pod.InitContainers) > 0 || len(pod.Containers) != 2 {
				t.Errorf("restartPolicy %s, %d init containers, %d containers", pod.RestartPolicy, len(pod.InitContainers),
					len(pod.Containers))
			}
			if pod.SecurityContext.FSGroup != nil {
				t.Error("it has an fsGroup")
			}
			agent, command := containers(j)
			if agent.Name != "agent" || command.Name != "job" { // the kubelet starts them in this order
				t.Errorf("containers %s, %s", agent.Name, command.Name)
			}
			if got := j.Spec.Template.Annotations["kubectl.kubernetes.io/default-container"]; got != "job" {
				t.Errorf("default container %q", got)
			}
			for _, labels := range []map[string]string{j.Labels, j.Spec.Template.Labels} {
				if labels[LabelJob] != spec.Name || labels[LabelProvider] != "k8s-local" || labels[LabelManagedBy] != ManagedBy {
					t.Errorf("labels %v", labels)
				}
			}
		})
	}
}

func TestSecurityContext(t *testing.T) {
	number := func(n *int64) string {
		if n == nil {
			return "-"
		}
		return fmt.Sprint(*n)
	}
	truth := func(b *bool) string {
		if b == nil {
			return "-"
		}
		return fmt.Sprint(*b)
	}
	describe := func(s *corev1.SecurityContext) string {
		return fmt.Sprintf("user %s:%s nonroot %s escalation %s readonly %s drop %v add %v privileged %s",
			number(s.RunAsUser), number(s.RunAsGroup), truth(s.RunAsNonRoot), truth(s.AllowPrivilegeEscalation),
			truth(s.ReadOnlyRootFilesystem), s.Capabilities.Drop, s.Capabilities.Add, truth(s.Privileged))
	}
	const agentRest = " nonroot true escalation false readonly true drop [ALL] add [] privileged -"
	for _, test := range []struct{ user, want string }{
		{"", "user 1380642:65532 nonroot true escalation false readonly - drop [ALL] add [] privileged -"},
		{"1000:2000", "user 1000:2000 nonroot true escalation false readonly - drop [ALL] add [] privileged -"},
		{"1000", "user 1000:- nonroot true escalation false readonly - drop [ALL] add [] privileged -"},
		{"1000:0", "user 1000:0 nonroot true escalation false readonly - drop [ALL] add [] privileged -"},
		{"0", "user 0:- nonroot - escalation false readonly - drop [NET_RAW] add [] privileged -"},
		{"0:0", "user 0:0 nonroot - escalation false readonly - drop [NET_RAW] add [] privileged -"},
		{"image", "user -:- nonroot true escalation false readonly - drop [ALL] add [] privileged -"},
	} {
		t.Run("user "+test.user, func(t *testing.T) {
			spec := minimal()
			spec.User = test.user
			j := render(t, spec)
			agent, command := containers(j)
			uid, _, _ := strings.Cut(strings.Fields(test.want)[1], ":")
			agentWant := "user " + uid + ":65532" + agentRest
			switch uid {
			case "-": // a cluster that refuses a uid refuses it in every container
				agentWant = "user -:-" + agentRest
			case "0":
				agentWant = "user 1380642:65532" + agentRest
			}
			if got := describe(agent.SecurityContext); got != agentWant {
				t.Errorf("agent: got  %s\nwant %s", got, agentWant)
			}
			if got := describe(command.SecurityContext); got != test.want {
				t.Errorf("job: got  %s\nwant %s", got, test.want)
			}
			if p := j.Spec.Template.Spec.SecurityContext.SeccompProfile; p == nil || p.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Errorf("seccomp profile %v", p)
			}
		})
	}
	if _, err := Job(&job.Spec{Name: "x", Command: []string{"x"}, User: "root"}, testSettings()); err == nil {
		t.Error("--user root: no error")
	}
}

func TestVolumes(t *testing.T) {
	j := render(t, full())
	agent, command := containers(j)
	if want := []corev1.VolumeMount{{Name: "hodei-run", MountPath: "/run/hodei", ReadOnly: true},
		{Name: "hodei-home", MountPath: "/hodei"}}; !reflect.DeepEqual(command.VolumeMounts, want) {
		t.Errorf("the job mounts %+v, want %+v", command.VolumeMounts, want)
	}
	if len(command.VolumeDevices) > 0 || command.Lifecycle != nil {
		t.Error("the job's container has devices or hooks")
	}
	want := []corev1.VolumeMount{
		{Name: "hodei-run", MountPath: "/run/hodei"},
		{Name: "hodei-spool", MountPath: "/var/spool/hodei"},
		{Name: "hodei-start-timeout", MountPath: "/run/hodei-start-timeout"}, // not the job: it could have itself evicted
		{Name: "hodei-certs", MountPath: "/etc/hodei/certs", ReadOnly: true},
	}
	if !reflect.DeepEqual(agent.VolumeMounts, want) {
		t.Errorf("the agent mounts %+v, want %+v", agent.VolumeMounts, want)
	}
	volumes := map[string]corev1.VolumeSource{}
	for _, v := range j.Spec.Template.Spec.Volumes {
		volumes[v.Name] = v.VolumeSource
	}
	if len(volumes) != 5 {
		t.Errorf("%d volumes", len(volumes))
	}
	// Beyond its limit a volume evicts the Pod: the agent's cap stays below.
	spool := volumes["hodei-spool"].EmptyDir.SizeLimit.Value()
	env := map[string]string{}
	for _, e := range agent.Env {
		env[e.Name] = e.Value
	}
	if got, want := spool, int64(256<<20+64<<20); got != want || env[contract.EnvSpoolBytes] != fmt.Sprint(256<<20) {
		t.Errorf("spool limit %d, want %d; the agent's cap is %s", got, want, env[contract.EnvSpoolBytes])
	}
	secret := volumes["hodei-certs"].Secret
	var keys []string
	for _, i := range secret.Items {
		keys = append(keys, i.Key+"="+i.Path)
	}
	if want := []string{"ca.crt=ca.crt", "client.crt=client.crt", "client.key=client.key", "start-by=start-by"}; !slices.Equal(keys, want) {
		t.Errorf("mounted keys %v, want %v", keys, want)
	}
	if secret.SecretName != "train" || *secret.DefaultMode != 0o444 || secret.Optional != nil {
		t.Errorf("secret %s mode %o optional %v", secret.SecretName, *secret.DefaultMode, secret.Optional)
	}
	// The job's container has no credential by way of its environment either.
	for _, e := range command.Env {
		field := e.ValueFrom != nil && e.ValueFrom.FieldRef != nil
		if names := e.Name == contract.EnvJob || e.Name == contract.EnvAttempt; field != names ||
			!field && (e.ValueFrom != nil || strings.HasPrefix(e.Name, contract.EnvPrefix)) {
			t.Errorf("the job's environment has %+v", e)
		}
	}
}

// expand is the kubelet's expansion of $(NAME) in commands and variables, with
// its rule for $$ (k8s.io/kubernetes/third_party/forked/golang/expansion).
func expand(s string, value func(string) string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch end := strings.IndexByte(s[i:], ')'); {
		case s[i] == '$':
			b.WriteByte('$')
		case s[i] == '(' && end > 0:
			b.WriteString(value(s[i+1 : i+end]))
			i += end
		default:
			b.WriteByte('$')
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func TestLiteral(t *testing.T) {
	typed := []string{"sh", "-c", "echo $HOME $(HOME) $$ $$(HOME) $((1+1)) ${X:-$}", "$", "$$", "$(", "100%", "-$", "--", ""}
	spec := minimal()
	spec.Command = typed
	for i, s := range typed {
		spec.Env = append(spec.Env, job.EnvVar{Name: fmt.Sprintf("V%d", i), Value: s})
	}
	_, command := containers(render(t, spec))
	touched := func(name string) string { return "<" + name + ">" }
	end := slices.Index(command.Command, "--")
	for i, s := range command.Command[end+1:] {
		if got := expand(s, touched); got != typed[i] {
			t.Errorf("argument %q runs as %q", typed[i], got)
		}
	}
	values := slices.DeleteFunc(command.Env, func(e corev1.EnvVar) bool { return e.ValueFrom != nil })
	for i, e := range values {
		if got := expand(e.Value, touched); got != typed[i] {
			t.Errorf("variable %q arrives as %q", typed[i], got)
		}
	}
	if len(command.Args) > 0 {
		t.Errorf("args %q: they would follow the image's entrypoint", command.Args)
	}
}

func FuzzLiteral(f *testing.F) {
	for _, s := range []string{"", "$", "$$", "$(A)", "$$(A)", "a$b", "$($)", "$)("} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := expand(literal(s), func(string) string { return "?" }); got != s {
			t.Errorf("%q arrives as %q", s, got)
		}
	})
}

func TestLaunch(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*job.Spec)
		want   string
	}{
		{"least", func(*job.Spec) {}, "-- echo hello"},
		{"flags of the command's own", func(s *job.Spec) { s.MergeOutput, s.Command = true, []string{"--merge-output", "--"} },
			"--merge-output -- --merge-output --"},
		{"input", func(s *job.Spec) { s.Stdin = true }, "--stdin -- echo hello"},
		{"a terminal", func(s *job.Spec) { s.Stdin, s.TTY = true, true }, "--tty -- echo hello"},
		{"a directory", func(s *job.Spec) { s.Workdir = "/src/$X" }, "--workdir=/src/$$X -- echo hello"},
		{"a home", func(s *job.Spec) { s.Env = []job.EnvVar{{Name: "HOME", Value: "/data"}} }, "--keep-home -- echo hello"},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := minimal()
			test.change(spec)
			_, command := containers(render(t, spec))
			want := "/run/hodei/hodei-worker launch --socket=/run/hodei/agent.sock --grace=30s --home=/hodei " + test.want
			if got := strings.Join(command.Command, " "); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if command.WorkingDir != "" {
				t.Errorf("the runtime is to make %s", command.WorkingDir)
			}
		})
	}
}

// What the user calls as ours is the user's.
func TestJobEnv(t *testing.T) {
	spec := minimal()
	spec.Env = []job.EnvVar{{Name: "EMPTY"}, {Name: contract.EnvJob, Value: "mine"}}
	_, command := containers(render(t, spec))
	var got []string
	for _, e := range command.Env {
		got = append(got, fmt.Sprintf("%s=%s %t", e.Name, e.Value, e.ValueFrom != nil))
	}
	if want := "HODEI_ATTEMPT= true, EMPTY= false, HODEI_JOB=mine false"; strings.Join(got, ", ") != want {
		t.Errorf("got %q, want %s", got, want)
	}
}

func TestStartBy(t *testing.T) {
	made := metav1.NewTime(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	for _, test := range []struct {
		name   string
		job    func(*batchv1.Job)
		change func(*job.Spec)
		want   string
	}{
		{name: "from the job's creation", want: "2026-03-01T12:05:00Z"},
		{name: "queued", job: func(j *batchv1.Job) { j.Labels = map[string]string{LabelQueue: "team-a"} }},
		{name: "suspended as it was made", job: func(j *batchv1.Job) { j.Spec.Suspend = new(true) }},
		{name: "with retries", change: func(s *job.Spec) { s.Retries = 1 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec, j := minimal(), &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "x", CreationTimestamp: made}}
			spec.StartTimeout = 5 * time.Minute
			if test.change != nil {
				test.change(spec)
			}
			if test.job != nil {
				test.job(j)
			}
			if got, there := Secret(j, spec, &certs.JobCerts{}).Data[startByKey]; string(got) != test.want || !there {
				t.Errorf("got %q, %t, want %q", got, there, test.want)
			}
		})
	}
}

func TestImages(t *testing.T) {
	s := testSettings()
	s.Config.ImagePullPolicy, s.Config.ImagePullSecrets = "Never", []string{"a", "b"}
	for _, test := range []struct {
		image, want string
		policy      corev1.PullPolicy // of the job's container
	}{
		{"", "hodei-jobs-worker:latest", corev1.PullNever},
		{"hodei-jobs-worker:latest", "hodei-jobs-worker:latest", corev1.PullNever}, // one image has one policy
		{"golang:1.26", "golang:1.26", ""},
	} {
		spec := minimal()
		spec.Image = test.image
		j, err := Job(spec, s)
		if err != nil {
			t.Fatal(err)
		}
		agent, command := containers(j)
		if agent.Image != "hodei-jobs-worker:latest" || command.Image != test.want {
			t.Errorf("--image %q: the agent's is %s, the job's %s", test.image, agent.Image, command.Image)
		}
		if agent.ImagePullPolicy != corev1.PullNever || command.ImagePullPolicy != test.policy {
			t.Errorf("pull policies %s, %s", agent.ImagePullPolicy, command.ImagePullPolicy)
		}
		if got := j.Spec.Template.Spec.ImagePullSecrets; !reflect.DeepEqual(got, []corev1.LocalObjectReference{{Name: "a"}, {Name: "b"}}) {
			t.Errorf("pull secrets %v", got)
		}
	}
}

func TestResources(t *testing.T) {
	describe := func(l corev1.ResourceList) string {
		var parts []string
		for name, q := range l {
			parts = append(parts, fmt.Sprintf("%s=%s", name, q.String()))
		}
		slices.Sort(parts)
		return strings.Join(parts, " ")
	}
	for _, test := range []struct {
		name             string
		change           func(*job.Spec)
		requests, limits string
	}{
		{"nothing", func(*job.Spec) {}, "ephemeral-storage=0", "ephemeral-storage=10Gi"},
		{"limits default to requests", func(s *job.Spec) { s.CPU, s.Memory = quantity("500m"), quantity("64Mi") },
			"cpu=500m ephemeral-storage=0 memory=64Mi", "cpu=500m ephemeral-storage=10Gi memory=64Mi"},
		{"both", func(s *job.Spec) {
			s.CPU, s.CPULimit, s.Memory, s.MemoryLimit = quantity("1"), quantity("2"), quantity("1Gi"), quantity("2Gi")
		}, "cpu=1 ephemeral-storage=0 memory=1Gi", "cpu=2 ephemeral-storage=10Gi memory=2Gi"},
		{"limits alone", func(s *job.Spec) { s.CPULimit, s.MemoryLimit = quantity("2"), quantity("2Gi") },
			"ephemeral-storage=0", "cpu=2 ephemeral-storage=10Gi memory=2Gi"},
		{"disk", func(s *job.Spec) { s.EphemeralStorage = quantity("1Gi") }, "ephemeral-storage=0", "ephemeral-storage=1Gi"},
		{"a spool is the agent's", func(s *job.Spec) { s.LogSpool = quantity("50Gi") }, "ephemeral-storage=0", "ephemeral-storage=10Gi"},
		{"a container's log", func(s *job.Spec) { s.ContainerLogs = true }, "ephemeral-storage=0", "ephemeral-storage=14Gi"},
		{"disk and a container's log", func(s *job.Spec) { s.EphemeralStorage, s.ContainerLogs = quantity("1Gi"), true },
			"ephemeral-storage=0", "ephemeral-storage=5Gi"},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := minimal()
			test.change(spec)
			agent, command := containers(render(t, spec))
			if got := describe(command.Resources.Requests); got != test.requests {
				t.Errorf("requests %s, want %s", got, test.requests)
			}
			if got := describe(command.Resources.Limits); got != test.limits {
				t.Errorf("limits %s, want %s", got, test.limits)
			}
			if got := describe(agent.Resources.Requests); got != "cpu=10m ephemeral-storage=0 memory=32Mi" {
				t.Errorf("the agent requests %s", got)
			}
		})
	}
}

// TestEphemeralStorage does the kubelet's sum (its eviction manager): a Pod is
// evicted when all that it holds on the node's disk is more than the limits of its
// containers together, a container when its layer and its log are more than its
// own. Neither may happen for what hodei writes, and the job keeps all it asked for.
func TestEphemeralStorage(t *testing.T) {
	for _, spool := range []string{"1Mi", "1Gi", "11Gi", "16Ti"} {
		for _, disk := range []string{"", "1Mi", "1Gi", "1Ei"} {
			for _, logs := range []bool{false, true} {
				t.Run(fmt.Sprintf("spool %s disk %q logs %t", spool, disk, logs), func(t *testing.T) {
					spec := minimal()
					spec.LogSpool, spec.ContainerLogs = quantity(spool), logs
					own := resource.MustParse(DefaultEphemeralStorage)
					if disk != "" {
						spec.EphemeralStorage = quantity(disk)
						own = *spec.EphemeralStorage
					}
					j := render(t, spec)
					agent, command := containers(j)
					agentLimit, jobLimit := agent.Resources.Limits.StorageEphemeral(), command.Resources.Limits.StorageEphemeral()
					sum := agentLimit.DeepCopy()
					sum.Add(*jobLimit)

					written := own.DeepCopy() // by the job, as much as it may
					if logs {
						written.Add(*resource.NewQuantity(containerLogBytes, resource.BinarySI))
					}
					if written.Cmp(*jobLimit) > 0 {
						t.Errorf("the job's container is evicted at %s, and may hold %s", jobLimit, &written)
					}
					for _, v := range j.Spec.Template.Spec.Volumes {
						if v.Name == "hodei-home" { // the job's own, and counted
							if v.EmptyDir.SizeLimit.Cmp(own) != 0 {
								t.Errorf("the job's home may hold %s of %s", v.EmptyDir.SizeLimit, &own)
							}
							continue
						}
						if v.EmptyDir != nil {
							written.Add(*v.EmptyDir.SizeLimit)
						}
					}
					written.Add(*resource.NewQuantity(agentLogBytes, resource.BinarySI))
					if written.Cmp(sum) > 0 {
						t.Errorf("the Pod is evicted at %s, and may hold %s", &sum, &written)
					}
					// Whatever the quantity's format, its text is one that the API server takes.
					for _, q := range []*resource.Quantity{agentLimit, jobLimit} {
						if _, err := resource.ParseQuantity(q.String()); err != nil || q.Sign() <= 0 {
							t.Errorf("limit %s: %v", q, err)
						}
					}
				})
			}
		}
	}
}

// What is not asked for is left to the agent's default.
func TestAgentEnv(t *testing.T) {
	names := []string{contract.EnvSpoolBytes, contract.EnvLogOverflow, contract.EnvDetached, contract.EnvContainerLogs}
	for _, test := range []struct {
		name   string
		change func(*job.Spec)
		want   string
	}{
		{"defaults", func(*job.Spec) {}, "HODEI_SPOOL_BYTES=1073741824"},
		{"all", func(s *job.Spec) {
			s.LogSpool, s.LogOverflow, s.Detached, s.ContainerLogs = quantity("1.5Mi"), job.OverflowDrop, true, true
		}, "HODEI_SPOOL_BYTES=1572864 HODEI_LOG_OVERFLOW=drop HODEI_DETACHED=1 HODEI_CONTAINER_LOGS=1"},
		{"block", func(s *job.Spec) { s.LogOverflow = job.OverflowBlock }, "HODEI_SPOOL_BYTES=1073741824 HODEI_LOG_OVERFLOW=block"},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := minimal()
			test.change(spec)
			agent, _ := containers(render(t, spec))
			var got []string
			for _, e := range agent.Env {
				if slices.Contains(names, e.Name) {
					got = append(got, e.Name+"="+e.Value)
				}
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("got  %v\nwant %s", got, test.want)
			}
		})
	}
}

func TestSecretOwner(t *testing.T) {
	owner := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "x", Namespace: "n", UID: "u"}}
	secret := Secret(owner, minimal(), &certs.JobCerts{})
	if !metav1.IsControlledBy(secret, owner) || secret.Immutable != nil {
		t.Errorf("owners %v, immutable %v", secret.OwnerReferences, secret.Immutable)
	}
}
