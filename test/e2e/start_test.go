package e2e

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
)

// tooLarge makes a ConfigMap whose one value no program can be started with.
func tooLarge(t *testing.T, name string) {
	t.Helper()
	large := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"BIG": strings.Repeat("x", 200_000)}}
	if _, err := client.CoreV1().ConfigMaps(workers).Create(t.Context(), large, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.CoreV1().ConfigMaps(workers).Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
}

// TestCommandNeverRuns: the job's container ends before its command. That is told with its own words, long
// before the start timeout, and nothing is left that could start the command later.
func TestCommandNeverRuns(t *testing.T) {
	t.Parallel()
	name := jobName(t)
	tooLarge(t, name)
	for _, flags := range [][]string{{"--start-timeout=10m"}, {"--start-timeout=10m", "-d"}} {
		args := append(append([]string{"run", "--name", name, "--env-from=configmap/" + name}, flags...), "--", "true")
		r := hodei(t, args...)
		if slices.Contains(flags, "-d") {
			if r.code != 0 {
				t.Fatalf("%+v", r)
			}
			// Who attaches tells the agent what it can't know. It is tried again twice, and not for ever.
			r = hodei(t, "attach", name)
			if j := jobOf(t, name); j.Status.Failed != 3 {
				t.Errorf("%d attempts failed, want 3", j.Status.Failed)
			}
			if row := hodei(t, "jobs", name, "--no-headers"); !slices.Equal(strings.Fields(row.stdout)[:4],
				[]string{name, "Failed", "<none>", "3"}) {
				t.Errorf("jobs: %+v", row)
			}
		}
		if r.code != 125 || r.stdout != "" || !strings.Contains(r.stderr, "argument list too long") ||
			!strings.Contains(r.stderr, "hint: pass less") {
			t.Errorf("%v: %+v", args, r)
		}
		if !slices.Contains(flags, "-d") {
			nothingLeft(t, name)
		}
	}
}

// TestStartTimeoutUnattended: nobody is there, and the image never comes. The Job ends all the same, by itself.
func TestStartTimeoutUnattended(t *testing.T) {
	t.Parallel()
	name := jobName(t)
	if r := hodei(t, "run", "-d", "--name", name, "--start-timeout=5s", "--image", unpullable, "--", "true"); r.code != 0 ||
		r.stdout != name+"\n" {
		t.Fatalf("%+v", r)
	}
	inTime(t, "the end of job "+name, func(ctx context.Context) (bool, error) {
		j, err := client.BatchV1().Jobs(workers).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		return slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool {
			return c.Type == batchv1.JobFailed && c.Status == corev1.ConditionTrue
		}), nil
	})
	// The Job's controller may make another Pod, which starts nothing either, before the kubelet has said how
	// the evicted one's agent ended.
	if r := hodei(t, "jobs", name, "--no-headers"); !slices.Equal(strings.Fields(r.stdout)[:3], []string{name, "StartTimeout", "<none>"}) {
		t.Errorf("jobs: %+v", r)
	}
	if r := hodei(t, "attach", name); r.code != 125 || !strings.Contains(r.stderr, "the command never started: ") {
		t.Errorf("attach: %+v", r)
	}
	if r := hodei(t, "describe", name); r.code != 0 || !strings.Contains(r.stdout, "StartTimeout") {
		t.Errorf("describe: %+v", r)
	}
}

// TestStuckJobs: a detached job that no node takes is removed by the next command, once its start timeout is
// over; one that is suspended is not.
func TestStuckJobs(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	for _, name := range []string{"stuck", "queued"} {
		if r := runIn(t, namespace, "-d", "--name", name, "--start-timeout=1s", "--cpu=1000", "--", "true"); r.code != 0 {
			t.Fatalf("%+v", r)
		}
	}
	if _, err := client.BatchV1().Jobs(namespace).Patch(t.Context(), "queued", types.MergePatchType, []byte(`{"spec":{"suspend":true}}`),
		metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	var r result
	inTime(t, "the removal of a job that is stuck", func(context.Context) (bool, error) {
		r = hodei(t, "jobs", "-n", namespace, "-o", "name")
		return r.stdout == "job.batch/queued\n", nil
	})
	want := "removed job stuck, which had not started within its start timeout of 1s: no node takes the job: "
	if !strings.HasPrefix(r.stderr, want) {
		t.Errorf("%+v, want %q", r, want)
	}
}

// TestUnfinishedJob: a hodei that is killed between Job and Secret, here one that may make the first alone and
// take nothing back, leaves a Job that the cluster ends.
func TestUnfinishedJob(t *testing.T) {
	t.Parallel()
	all, err := client.RbacV1().ClusterRoles().Get(t.Context(), "hodei-user", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	u := newUser(t, without(without(all.Rules, "create secrets"), "delete jobs.batch"), "create secrets")
	name := jobName(t)
	if r := hodei(t, "run", "--as", u.name, "--name", name, "--", "true"); r.code != 125 {
		t.Errorf("%+v", r)
	}
	if d := jobOf(t, name).Spec.ActiveDeadlineSeconds; d == nil || *d != 120 {
		t.Errorf("activeDeadlineSeconds %v, want 120", d)
	}
	if r := hodei(t, "attach", name); r.code != 125 || !strings.Contains(r.stderr, "the cluster ends the job 2m0s after its start") ||
		!strings.Contains(r.stderr, "hint: hodei delete ") {
		t.Errorf("attach: %+v", r)
	}
	whole := jobName(t)
	if r := hodei(t, "run", "-d", "--name", whole, "--", "true"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	if d := jobOf(t, whole).Spec.ActiveDeadlineSeconds; d != nil {
		t.Errorf("activeDeadlineSeconds %d of a job that was made", *d)
	}
}

// TestStartBy: the Secret says until when the command may start, by the API server's clock.
func TestStartBy(t *testing.T) {
	t.Parallel()
	name := jobName(t)
	if r := hodei(t, "run", "-d", "--name", name, "--start-timeout=7m", "--", "true"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	secret, err := client.CoreV1().Secrets(workers).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var at metav1.Time
	if err := json.Unmarshal([]byte(`"`+string(secret.Data["start-by"])+`"`), &at); err != nil {
		t.Fatal(err)
	}
	if got := at.Sub(jobOf(t, name).CreationTimestamp.Time).String(); got != "7m0s" {
		t.Errorf("%s after the Job's creation, want 7m", got)
	}
}

// inTime waits for what takes the kubelet's or the sweep's time.
func inTime(t *testing.T, what string, done func(context.Context) (bool, error)) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(t.Context(), time.Second, 5*time.Minute, true, done); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func jobOf(t *testing.T, name string) *batchv1.Job {
	t.Helper()
	j, err := client.BatchV1().Jobs(workers).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return j
}
