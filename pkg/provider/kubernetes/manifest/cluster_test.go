package manifest

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	client "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// cluster is the way to the cluster of the kubeconfig. Without HODEI_K8S_TEST=1
// the test is skipped; with it a cluster that can't be reached is a failure.
func cluster(t *testing.T) *rest.Config {
	t.Helper()
	if os.Getenv("HODEI_K8S_TEST") != "1" {
		t.Skip("needs a cluster: HODEI_K8S_TEST=1")
	}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		clientcmd.NewDefaultClientConfigLoadingRules(), &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	config.Timeout = 20 * time.Second
	return config
}

// restricted makes a namespace that admits no Pod but a restricted one, with the
// workers' service account in it, and returns its name.
func restricted(t *testing.T, c client.Interface) string {
	t.Helper()
	namespace, err := c.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "hodei-manifest-",
		Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted",
			"pod-security.kubernetes.io/warn": "restricted"},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.CoreV1().Namespaces().Delete(context.Background(), namespace.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "hodei-jobs-worker"}}
	if _, err := c.CoreV1().ServiceAccounts(namespace.Name).Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return namespace.Name
}

// warnings keeps what the API server warns of.
type warnings struct {
	mu   sync.Mutex
	text []string
}

func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, text)
}

func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := w.text
	w.text = nil
	return text
}

// TestAPIServerAccepts has the real API server validate what is rendered.
func TestAPIServerAccepts(t *testing.T) {
	config := cluster(t)
	warned := &warnings{}
	config.WarningHandler = warned
	c, err := client.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	s := testSettings()
	s.Namespace = restricted(t, c)
	s.Config.ImagePullPolicy, s.Config.ImagePullSecrets = "IfNotPresent", []string{"registry"}
	dryRun := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	for _, test := range []struct {
		name    string
		spec    *job.Spec
		refused string // by Pod Security
	}{
		{"minimal", minimal(), ""},
		{"full", full(), ""},
		{"a user without a group", specWith(func(s *job.Spec) { s.User = "1000" }), ""},
		{"the image's user", specWith(func(s *job.Spec) { s.User = job.UserImage }), ""},
		{"the longest of all", specWith(func(s *job.Spec) {
			s.Name = strings.Repeat("x", job.MaxNameLength)
			s.Timeout, s.Retries, s.TTL = 30*24*time.Hour, 1<<31-1, 1<<62
		}), ""},
		{"root", specWith(func(s *job.Spec) { s.User = "0" }), `violates PodSecurity "restricted:latest"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			j, err := Job(test.spec, s)
			if err != nil {
				t.Fatal(err)
			}
			warned.take()
			got, err := c.BatchV1().Jobs(s.Namespace).Create(t.Context(), j, dryRun)
			if err != nil {
				t.Fatal(err)
			}
			if text := warned.take(); (len(text) > 0) != (test.refused != "") {
				t.Errorf("warnings %q", text)
			}
			agent, command := containers(got)
			if a, b := containers(j); !slices.Equal(agent.Command, a.Command) || !slices.Equal(command.Command, b.Command) {
				t.Errorf("commands %q, %q", agent.Command, command.Command)
			}

			// Pod Security refuses Pods, not Jobs.
			pod := &corev1.Pod{ObjectMeta: j.Spec.Template.ObjectMeta, Spec: j.Spec.Template.Spec}
			pod.Name = j.Name + "-abcde"
			_, err = c.CoreV1().Pods(s.Namespace).Create(t.Context(), pod, dryRun)
			switch {
			case test.refused == "" && err != nil:
				t.Error(err)
			case test.refused != "" && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), test.refused)):
				t.Errorf("got %v, want %s", err, test.refused)
			}

			owner := j.DeepCopy()
			owner.UID = "11111111-2222-3333-4444-555555555555"
			if _, err := c.CoreV1().Secrets(s.Namespace).Create(t.Context(),
				Secret(owner, minimal(), testCerts(t, s.Namespace, owner.Name)), dryRun); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAPIServerAcceptsProvider is for every key of a provider at once: Pod Security
// would refuse its hostPath in a Pod, and only warns of it in a Job.
func TestAPIServerAcceptsProvider(t *testing.T) {
	config := cluster(t)
	c, err := client.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	s := testSettings()
	s.Namespace, s.Config = restricted(t, c), fullProvider(t)
	j, err := Job(full(), s)
	if err != nil {
		t.Fatal(err)
	}
	options := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict}
	if _, err := c.BatchV1().Jobs(s.Namespace).Create(t.Context(), j, options); err != nil {
		t.Error(err)
	}
}

// specWith is the minimal spec with a change.
func specWith(change func(*job.Spec)) *job.Spec {
	s := minimal()
	change(s)
	return s
}

func testCerts(t *testing.T, namespace, name string) *certs.JobCerts {
	t.Helper()
	authority, err := certs.NewAuthority(0)
	if err != nil {
		t.Fatal(err)
	}
	id, err := authority.IssueJob(certs.ID{Namespace: namespace, Job: name})
	if err != nil {
		t.Fatal(err)
	}
	return id
}
