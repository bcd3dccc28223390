package e2e

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestExec: a command runs beside the job's in any image that has it, as the job's user, where a Pod may do next to
// nothing.
func TestExec(t *testing.T) {
	t.Parallel()
	needsImages(t)
	shell := []string{"sh", "-c", "echo $APP_EXIT; id -u; echo err >&2; exit 3"}
	for _, test := range []struct {
		name, image  string
		stays        []string
		command      []string
		stdout, errs string // of a job of user 1234
	}{
		{"the worker's own", "", []string{"sleep", "600"}, shell, "3\n1234\n", "err\n"},
		{"busybox", busybox, []string{"sleep", "600"}, shell, "3\n1234\n", "err\n"},
		{"scratch", scratch, []string{"/app", "wait"}, []string{"/app", "one two"}, "hello from scratch\none two\n", "and stderr\n"},
		{"scratch, by a path from the root", scratch, []string{"/app", "wait"}, []string{"./app", "two"},
			"hello from scratch\ntwo\n", "and stderr\n"},
	} {
		for _, user := range []string{"1234", "65534"} {
			t.Run(test.name+", "+user, func(t *testing.T) {
				t.Parallel()
				name := jobName(t)
				args := []string{"run", "-q", "-d", "--exec", "--name", name, "--user", user, "-e", "APP_EXIT=3"}
				if test.image != "" {
					args = append(args, "--image", test.image)
				}
				if r := hodei(t, append(append(args, "--"), test.stays...)...); r.code != 0 {
					t.Fatalf("run: %+v", r)
				}
				if r := hodei(t, "wait", "--for", "running", name); r.code != 0 {
					t.Fatalf("wait: %+v", r)
				}
				execArgs := []string{"exec"}
				if test.image == scratch && test.command[0] == "./app" { // a job without a directory to write to starts at home
					execArgs = append(execArgs, "--workdir", "/")
				}
				r := hodei(t, append(append(execArgs, name, "--"), test.command...)...)
				if want := (result{strings.ReplaceAll(test.stdout, "1234", user), test.errs, 3}); r != want {
					t.Errorf("exec: %+v, want %+v", r, want)
				}
				// Its way is the agent's: nobody needs, and hodei-user has not, the right to pods/exec.
				if _, err := client.CoreV1().Secrets(workers).Get(t.Context(), name+"-exec", metav1.GetOptions{}); err != nil {
					t.Error(err)
				}
				if r := hodei(t, "delete", name); r.code != 0 {
					t.Errorf("delete: %+v", r)
				}
				nothingLeft(t, name)
			})
		}
	}
}
