// Package e2e tries the real programs on a real cluster, the one of the current
// context. It runs with HODEI_K8S_TEST=1, and then a cluster that can't be
// reached is a failure. What needs the test cluster's own images runs with
// HODEI_K8S_TEST_IMAGES=1 besides.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/hodei-jobs/hodei/test/target"
)

const workers = "hodei-jobs-workers"

// Images of test/cluster/images.
const (
	busybox = "registry.local/busybox:1"
	scratch = "registry.local/any:1"
)

// unpullable names a port of the node itself on which nothing listens.
const unpullable = "127.0.0.1:1/nosuch:1"

var (
	enabled = os.Getenv("HODEI_K8S_TEST") == "1"
	client  kubernetes.Interface
	config  *rest.Config
	bin     string // directory of hodei, kubectl-hodei and hodei-worker
	home    string // with a provider "k8s-local" in its configuration
)

func TestMain(m *testing.M) {
	if !enabled {
		fmt.Println("the cluster's tests did not run: HODEI_K8S_TEST=1 runs them on the current context's cluster, make test-cluster on " +
			"one of their own")
		os.Exit(0)
	}
	code, err := setUp(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func setUp(m *testing.M) (int, error) {
	var err error
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(), nil)
	if config, err = loader.ClientConfig(); err != nil {
		return 0, fmt.Errorf("HODEI_K8S_TEST=1, and Kubernetes cluster not available: %w", err)
	}
	config.QPS, config.Burst = 100, 200
	if client, err = kubernetes.NewForConfig(config); err != nil {
		return 0, err
	}
	if _, err := client.Discovery().ServerVersion(); err != nil {
		return 0, fmt.Errorf("HODEI_K8S_TEST=1, and Kubernetes cluster not available: %w", err)
	}
	dir, err := os.MkdirTemp("", "hodei-e2e-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	bin, home = filepath.Join(dir, "bin"), filepath.Join(dir, "home")
	build := exec.Command("go", "build", "-o", bin+"/", "../../cmd/...")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	if err := os.Symlink("hodei", filepath.Join(bin, "kubectl-hodei")); err != nil {
		return 0, err
	}
	if err := target.Check(os.Stdout, command(context.Background(), "install", "--diff")); err != nil {
		return 0, err
	}
	for _, args := range [][]string{
		{"install"},
		{"provider", "add", "k8s-local", "--namespace", workers, "--image-pull-policy", "IfNotPresent"},
	} {
		if out, err := command(context.Background(), args...).CombinedOutput(); err != nil {
			return 0, fmt.Errorf("hodei %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return m.Run(), nil
}

// command is hodei with its own home; the cluster is the environment's.
func command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "hodei"), args...)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+filepath.Join(home, ".config"),
		"PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
	if os.Getenv("KUBECONFIG") == "" {
		cmd.Env = append(cmd.Env, "KUBECONFIG="+clientcmd.RecommendedHomeFile)
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	return cmd
}

// result is what a person has in hands afterwards.
type result struct {
	stdout, stderr string
	code           int
}

// hodei runs it to its end, within two minutes.
func hodei(t *testing.T, args ...string) result {
	t.Helper()
	return run(t, command(t.Context(), args...))
}

func run(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	timeout := time.AfterFunc(2*time.Minute, func() { _ = cmd.Cancel() })
	defer timeout.Stop()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// started is hodei under way.
type started struct {
	cmd    *exec.Cmd
	stdout bytes.Buffer
	lines  chan string // of stderr
	mu     sync.Mutex
	stderr strings.Builder
}

// start runs hodei and hands out its stderr line by line.
func start(t *testing.T, args ...string) *started {
	t.Helper()
	return startWith(t, nil, args...)
}

// startWith is start with a stdout of the caller's; nil keeps it.
func startWith(t *testing.T, stdout io.Writer, args ...string) *started {
	t.Helper()
	return startCommand(t, stdout, command(t.Context(), args...))
}

// startCommand is startWith with a command of the caller's.
func startCommand(t *testing.T, stdout io.Writer, cmd *exec.Cmd) *started {
	t.Helper()
	s := &started{cmd: cmd, lines: make(chan string, 1000)}
	if s.cmd.Stdout = stdout; stdout == nil {
		s.cmd.Stdout = &s.stdout
	}
	pipe, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.lines)
		for r := bufio.NewReader(pipe); ; {
			line, err := r.ReadString('\n')
			s.mu.Lock()
			s.stderr.WriteString(line)
			s.mu.Unlock()
			if line != "" {
				s.lines <- line
			}
			if err != nil {
				return
			}
		}
	}()
	return s
}

// await reads stderr up to a line that begins with prefix.
func (s *started) await(t *testing.T, prefix string) {
	t.Helper()
	timeout := time.After(2 * time.Minute)
	for {
		select {
		case line, ok := <-s.lines:
			if !ok {
				t.Fatalf("hodei ended before %q:\n%s", prefix, s.text())
			}
			if strings.HasPrefix(line, prefix) {
				return
			}
		case <-timeout:
			t.Fatalf("no %q within 2 minutes:\n%s", prefix, s.text())
		}
	}
}

func (s *started) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stderr.String()
}

func (s *started) interrupt(t *testing.T) {
	t.Helper()
	s.signal(t, os.Interrupt)
}

// signal sends one. An equal one that follows at once is the same to hodei: send another.
func (s *started) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

func (s *started) end(t *testing.T) result {
	t.Helper()
	for range s.lines { // to the end
	}
	err := s.cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return result{s.stdout.String(), s.text(), s.cmd.ProcessState.ExitCode()}
}

// jobName is a name of the test's own, and its job is gone after the test.
func jobName(t *testing.T) string {
	t.Helper()
	name := "e2e-" + rand.String(8)
	t.Cleanup(func() {
		background := metav1.DeletePropagationBackground
		err := client.BatchV1().Jobs(workers).Delete(context.Background(), name, metav1.DeleteOptions{PropagationPolicy: &background})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	})
	return name
}

// nothingLeft checks that Job, Secrets and Pods of a name are gone, or about to be.
func nothingLeft(t *testing.T, name string) {
	t.Helper()
	var left []string
	err := wait.PollUntilContextTimeout(t.Context(), 200*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		left = nil
		if _, err := client.BatchV1().Jobs(workers).Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			left = append(left, "job")
		}
		secrets, err := client.CoreV1().Secrets(workers).List(ctx, metav1.ListOptions{LabelSelector: "hodei.io/job=" + name})
		if err != nil || len(secrets.Items) > 0 {
			left = append(left, "secrets")
		}
		pods, err := client.CoreV1().Pods(workers).List(ctx, metav1.ListOptions{LabelSelector: "hodei.io/job=" + name})
		if err != nil || len(pods.Items) > 0 {
			left = append(left, "pods")
		}
		return len(left) == 0, nil
	})
	if err != nil {
		t.Errorf("left behind in the cluster: %s", strings.Join(left, ", "))
	}
}

// pod waits for a Pod of the job that satisfies ok.
func pod(t *testing.T, name string, ok func(*corev1.Pod) bool) *corev1.Pod {
	t.Helper()
	var found *corev1.Pod
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		pods, err := client.CoreV1().Pods(workers).List(ctx, metav1.ListOptions{LabelSelector: "hodei.io/job=" + name})
		if err != nil {
			return false, err
		}
		for i := range pods.Items {
			if ok(&pods.Items[i]) {
				found = &pods.Items[i]
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		t.Fatalf("pod of job %s: %v", name, err)
	}
	return found
}

// logs of a container.
func logs(t *testing.T, pod *corev1.Pod, container string) string {
	t.Helper()
	stream, err := client.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: container}).Stream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	b, err := io.ReadAll(stream)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// needsImages skips what runs on the test cluster alone.
func needsImages(t *testing.T) {
	t.Helper()
	if os.Getenv("HODEI_K8S_TEST_IMAGES") != "1" {
		t.Skip("needs the images of test/cluster/images: HODEI_K8S_TEST_IMAGES=1")
	}
}
