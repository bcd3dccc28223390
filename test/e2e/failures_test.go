package e2e

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestStartFailures: each gives one error: line that names the thing, one hint:
// line, exit code 125, nothing on stdout, and leaves nothing behind.
func TestStartFailures(t *testing.T) {
	t.Parallel()
	for _, p := range []struct{ name, image string }{
		{"agent-unpullable", unpullable}, {"copyfails", "registry.local/worker-copyfails:1"},
		{"copyhangs", "registry.local/worker-copyhangs:1"},
	} {
		if r := hodei(t, "provider", "add", p.name, "--image", p.image); r.code != 0 {
			t.Fatalf("%+v", r)
		}
	}
	tests := []struct {
		name   string
		images bool
		env    string
		flags  []string
		err    string
	}{
		{name: "image", flags: []string{"--image", unpullable}, err: `image "` + unpullable + `" can't be pulled: `},
		{name: "image name", flags: []string{"--image", "Not/An/Image"}, err: `image "Not/An/Image" is not a valid image name`},
		{name: "agent's image", images: true, flags: []string{"--provider", "agent-unpullable", "--image", busybox},
			err: `the worker's image "` + unpullable + `" can't be pulled: `},
		{name: "copy fails", images: true, flags: []string{"--provider", "copyfails", "--image", busybox},
			err: "the launcher was not put in place: no space left on device"},
		{name: "copy hangs", images: true, flags: []string{"--provider", "copyhangs", "--image", busybox, "--start-timeout=6s"},
			err: "postStart hook, which copies the launcher, has not returned"},
		{name: "namespace", flags: []string{"-n", "no-such-namespace"}, err: `namespaces "no-such-namespace" not found`},
		{name: "service account", env: "HODEI_K8S_SERVICE_ACCOUNT=no-such-account",
			err: `serviceaccount "no-such-account" not found in namespace "` + workers + `"`},
		{name: "secret", flags: []string{"--env-from=secret/no-such-secret"}, err: `secret "no-such-secret" not found`},
		{name: "config map", flags: []string{"--env-from=configmap/no-such-map"}, err: `configmap "no-such-map" not found`},
		{name: "too large", flags: []string{"--cpu=1000", "--start-timeout=3s"}, err: "no node takes the job: "},
		{name: "root", flags: []string{"--user=0"}, err: "violates PodSecurity"},
		{name: "provider", flags: []string{"--provider", "no-such-provider"}, err: `provider "no-such-provider" not found`},
		{name: "context", flags: []string{"--context", "no-such-context"}, err: `context "no-such-context" does not exist`},
		{name: "certificates", flags: []string{"--certs", "/no/such/directory"}, err: "/no/such/directory/ca.crt: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.images {
				needsImages(t)
			}
			name := jobName(t)
			cmd := command(t.Context(), append(append([]string{"run", "--name", name}, tt.flags...), "--", "true")...)
			if tt.env != "" {
				cmd.Env = append(cmd.Env, tt.env)
			}
			checkFailure(t, run(t, cmd), tt.err)
			nothingLeft(t, name)
		})
	}
	t.Run("taken name", func(t *testing.T) {
		t.Parallel()
		name := jobName(t)
		if r := hodei(t, "run", "-q", "--name", name, "--", "true"); r.code != 0 {
			t.Fatalf("%+v", r)
		}
		checkFailure(t, hodei(t, "run", "--name", name, "--", "true"), `"`+name+`" already exists`)
		if _, err := client.BatchV1().Jobs(workers).Get(t.Context(), name, metav1.GetOptions{}); err != nil {
			t.Errorf("the job that was there first: %v", err)
		}
	})
	t.Run("refused credentials", func(t *testing.T) {
		t.Parallel()
		checkFailure(t, hodei(t, "run", "--server", config.Host, "--insecure-skip-tls-verify", "--token", "expired",
			"--kubeconfig", "/dev/null", "-n", workers, "--", "true"), "the cluster does not accept the credentials")
	})
}

// checkFailure checks the shape of a failed run.
func checkFailure(t *testing.T, r result, want string) {
	t.Helper()
	errs, hints := 0, 0
	for line := range strings.Lines(r.stderr) {
		if strings.HasPrefix(line, "error: ") {
			errs++
			if !strings.Contains(line, want) {
				t.Errorf("%swant: %s", line, want)
			}
		}
		if strings.HasPrefix(line, "hint: ") {
			hints++
		}
	}
	if r.code != 125 || errs != 1 || hints != 1 || r.stdout != "" {
		t.Errorf("exit code %d, %d error: and %d hint: lines, stdout %q:\n%s", r.code, errs, hints, r.stdout, r.stderr)
	}
}
