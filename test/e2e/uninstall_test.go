package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// TestUninstallKeeps: a namespace that was there before hodei is as it was, with
// all that others keep in it.
func TestUninstallKeeps(t *testing.T) {
	ownCluster(t)
	needsImages(t)
	manifest := "apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {team: a}}\n"
	for _, way := range []struct {
		name string
		make func(namespace string)
	}{
		{"create", func(n string) { kubectl(t, "", "create", "namespace", n) }},
		{"apply", func(n string) { kubectl(t, fmt.Sprintf(manifest, n), "apply", "-f-") }},
		{"server-side apply", func(n string) {
			kubectl(t, fmt.Sprintf(manifest, n), "apply", "--server-side", "--field-manager=flux", "-f-")
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			namespace := workersOfOwn(t)
			to := "--workers-namespace=" + namespace
			way.make(namespace)
			kubectl(t, "", "create", "secret", "generic", "mine", "-n", namespace, "--from-literal=a=b")
			kubectl(t, "", "get", "serviceaccount", "default", "-n", namespace)
			before := objects(t, namespace)
			succeed(t, "install", to, "--quota=pods=3")
			succeed(t, "install", to)
			succeed(t, "run", "-q", "-n", namespace, "--", "true")
			kubectl(t, "", "create", "secret", "generic", "hodei-ca-cert", "-n", namespace)
			r := succeed(t, "uninstall", "--yes", "--force", to) // the Job's own end may be a second behind
			for _, want := range []string{"namespace/" + namespace + " kept, without hodei's labels: hodei has not made it\n", "secret/hodei-ca-cert deleted in namespace " + namespace + "\n"} {
				if !strings.Contains(r.stdout, want) {
					t.Errorf("stdout lacks %q:\n%s", want, r.stdout)
				}
			}
			sameObjects(t, "after uninstall", objects(t, namespace), before)
		})
	}
}

// TestUninstallRunning: no job is ended that nobody said to.
func TestUninstallRunning(t *testing.T) {
	ownCluster(t)
	namespace := workersOfOwn(t)
	to := "--workers-namespace=" + namespace
	succeed(t, "install", to)
	job := strings.TrimSpace(succeed(t, "run", "--detach", "-n", namespace, "--grace=1s", "--linger=1s", "--", "sleep", "300").stdout)
	r := hodei(t, "uninstall", "--yes", to)
	refused(t, r, "jobs have not ended: "+namespace+"/"+job+"\n")
	if want := "hint: wait for them, or end them: hodei uninstall --yes --workers-namespace=" + namespace + " --force\n"; !strings.Contains(r.stderr, want) {
		t.Errorf("stderr lacks %q:\n%s", want, r.stderr)
	}
	r = succeed(t, "uninstall", "--dry-run=server", to)
	if want := "it would be refused without --force: jobs have not ended: " + namespace + "/" + job + "\n"; r.stderr != want {
		t.Errorf("stderr %q, want %q", r.stderr, want)
	}
	r = hodei(t, "uninstall", "--yes", to, "--force", "--timeout=100ms")
	if r.code != 1 || !strings.Contains(r.stderr, "error: still there after 100ms: namespace "+namespace) {
		t.Errorf("%+v", r)
	}
	refused(t, hodei(t, "install", to), "namespace "+namespace+" is being deleted\nhint: wait until it is gone, then: hodei install --workers-namespace="+namespace+"\n")
	r = hodei(t, "uninstall", "--yes", to, "--force") // gone by now, or about to be
	if r.code != 0 && !strings.Contains(r.stderr, "was not given to hodei") {
		t.Errorf("%+v", r)
	}
}
