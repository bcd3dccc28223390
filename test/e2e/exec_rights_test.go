package e2e

import (
	"fmt"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestExecRights: the right to read a job's first Secret lets a user attach, and that to read its second one run commands
// beside the job's. Neither takes the right to pods/exec, which hodei-user has not.
func TestExecRights(t *testing.T) {
	t.Parallel()
	all, err := client.RbacV1().ClusterRoles().Get(t.Context(), "hodei-user", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	name := jobName(t)
	if r := hodei(t, "run", "-d", "--exec", "--name", name, "--", "sh", "-c", "echo here; exec sleep 300"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	if r := hodei(t, "wait", "--for", "running", name); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	reader := func(t *testing.T, secrets ...string) *user {
		t.Helper()
		rules := without(all.Rules, "get secrets")
		if len(secrets) > 0 {
			rules = append(rules, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get"},
				ResourceNames: secrets})
		}
		return newUser(t, rules, "")
	}
	for _, test := range []struct {
		name           string
		secrets        []string // whose reading is granted
		attaches, runs bool
	}{
		{"neither", nil, false, false},
		{"the first", []string{name}, true, false},
		{"the second", []string{name + "-exec"}, false, true},
		{"both", []string{name, name + "-exec"}, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			u := reader(t, test.secrets...)
			r := hodei(t, "signal", "--as", u.name, name, "URG") // which sleep does not notice
			if (r.code == 0) != test.attaches {
				t.Errorf("signal: %+v", r)
			}
			r = hodei(t, "exec", "--as", u.name, name, "--", "echo", "beside")
			if test.runs {
				if want := (result{"beside\n", "", 0}); r != want {
					t.Errorf("exec: %+v", r)
				}
				return
			}
			message := fmt.Sprintf("error: no command may be run beside job %s without its secret %q: "+
				"forbidden: user %q may not get secrets in namespace %q\n", name, name+"-exec", u.name, workers)
			hint := fmt.Sprintf("hint: an administrator can grant it: "+
				"kubectl create role %[1]s-exec --verb=get --resource=secrets --resource-name=%[1]s-exec -n %[2]s && "+
				"kubectl create rolebinding %[1]s-exec-%[3]s --role=%[1]s-exec --user=%[3]s -n %[2]s\n",
				name, workers, u.name)
			if r.code != 125 || r.stdout != "" || r.stderr != message+hint {
				t.Errorf("exec: %+v\nwant %s%s", r, message, hint)
			}
		})
	}
	t.Run("all of hodei-user's", func(t *testing.T) {
		t.Parallel()
		r := hodei(t, "exec", "--as", newUser(t, all.Rules, "").name, name, "--", "echo", "beside")
		if want := (result{"beside\n", "", 0}); r != want {
			t.Errorf("exec: %+v", r)
		}
	})
	t.Run("pods/exec", func(t *testing.T) {
		for _, rule := range one(all.Rules) {
			if strings.HasPrefix(rightOf(rule), "create pods/exec") || strings.HasPrefix(rightOf(rule), "get pods/exec") {
				t.Errorf("hodei-user may %s", rightOf(rule))
			}
		}
	})
}
