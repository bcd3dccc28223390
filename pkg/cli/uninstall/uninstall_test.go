package uninstall

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/setup/setuptest"
)

// keptServer is a cluster with a namespace that stays, and a job in it that runs.
func keptServer() setuptest.Server {
	const list = `{"kind":"%sList","apiVersion":"%s","items":[%s]}`
	none := fmt.Sprintf(list, "PartialObjectMetadata", "meta.k8s.io/v1", "")
	job := `{"metadata":{"name":"j","namespace":"kept","uid":"1","labels":{"app.kubernetes.io/managed-by":"hodei"}}}`
	return setuptest.Server{
		"POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews": `{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","status":{"allowed":true}}`,
		"GET /api/v1/namespaces":                                         fmt.Sprintf(list, "Namespace", "v1", `{"metadata":{"name":"kept","uid":"2"}}`),
		"GET /apis/batch/v1/namespaces/kept/jobs":                        fmt.Sprintf(list, "Job", "batch/v1", job),
		"DELETE /apis/batch/v1/namespaces/kept/jobs/j":                   `{"kind":"Status","apiVersion":"v1","status":"Success"}`,
		"GET /apis/rbac.authorization.k8s.io/v1/rolebindings":            fmt.Sprintf(list, "RoleBinding", "rbac.authorization.k8s.io/v1", ""),
		"GET /apis/rbac.authorization.k8s.io/v1/clusterrolebindings":     fmt.Sprintf(list, "ClusterRoleBinding", "rbac.authorization.k8s.io/v1", ""),
		"GET /apis/rbac.authorization.k8s.io/v1/clusterroles":            fmt.Sprintf(list, "ClusterRole", "rbac.authorization.k8s.io/v1", ""),
		"GET /apis/networking.k8s.io/v1/namespaces/kept/networkpolicies": none,
		"GET /apis/rbac.authorization.k8s.io/v1/namespaces/kept/roles":   none,
		"GET /api/v1/namespaces/kept/serviceaccounts":                    none,
		"GET /api/v1/namespaces/kept/secrets":                            none,
	}
}

// Nothing is removed of what has not been listed, and no label before what it leads to.
func TestUninstallKept(t *testing.T) {
	const listed = "job.batch/j would be deleted in namespace kept\nnamespace/kept would be kept, without hodei's labels: hodei has not made it\n"
	for _, test := range []struct {
		name               string
		options            Options
		stdout, Notes, err string
	}{
		{"a job that runs", Options{wait: true}, "", listed, "jobs have not ended: kept/j"},
		{"a job that runs, and force", Options{wait: true, force: true}, "", listed, "nothing was removed: that needs --yes"},
		{"a job that runs, and yes", Options{wait: true, yes: true}, "", "", "jobs have not ended: kept/j"},
		// A label that were taken off would be a PATCH, which this server does not know.
		{"without waiting", Options{force: true, yes: true}, "job.batch/j deleted in namespace kept\n",
			"hodei's labels stay on kept until all is gone; to take them off then: kubectl hodei uninstall --yes --force\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := keptServer().Start(t)
			kube := genericclioptions.NewConfigFlags(false)
			kube.APIServer = &server
			var out, said strings.Builder
			o := test.options
			streams := genericiooptions.IOStreams{Out: &out, ErrOut: &said}
			o.Env = &command.Env{IOStreams: streams, Name: "kubectl hodei", Kube: kube, Getenv: func(string) string { return "" }}
			o.dryRun = command.DryRunNone
			err := o.Run(t.Context())
			if test.err == "" && err != nil || test.err != "" && (err == nil || err.Error() != test.err) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			_, rest, _ := strings.Cut(said.String(), "\n") // from the cluster at …
			if out.String() != test.stdout || rest != test.Notes {
				t.Errorf("stdout %q, want %q\nstderr %q, want %q", out.String(), test.stdout, rest, test.Notes)
			}
		})
	}
}

// The cluster's names command no terminal, and none passes for another line.
func TestUninstallHostileNames(t *testing.T) {
	const list = `{"kind":"%sList","apiVersion":"%s","items":[%s]}`
	const hostile = `{"metadata":{"name":"a\u001b[2J\u202e\nb","namespace":"n","labels":{"app.kubernetes.io/managed-by":"hodei"}},` +
		`"roleRef":{"kind":"ClusterRole","name":"hodei-user"}}`
	answers := keptServer()
	for path, answer := range map[string]string{
		"batch/v1/namespaces/kept/jobs":                      fmt.Sprintf(list, "Job", "batch/v1", hostile),
		"rbac.authorization.k8s.io/v1/namespaces/kept/roles": fmt.Sprintf(list, "PartialObjectMetadata", "meta.k8s.io/v1", hostile),
		"rbac.authorization.k8s.io/v1/clusterroles": fmt.Sprintf(list, "ClusterRole", "rbac.authorization.k8s.io/v1",
			`{"kind":"ClusterRole","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"hodei-user"}}`),
		"rbac.authorization.k8s.io/v1/rolebindings": fmt.Sprintf(list, "RoleBinding", "rbac.authorization.k8s.io/v1", hostile),
	} {
		answers["GET /apis/"+path] = answer
	}
	server := answers.Start(t)
	kube := genericclioptions.NewConfigFlags(false)
	kube.APIServer = &server
	for _, format := range []string{"", "name"} {
		var out, said strings.Builder
		o := Options{dryRun: command.DryRunClient}
		o.Env = &command.Env{
			IOStreams: genericiooptions.IOStreams{Out: &out, ErrOut: &said},
			Name:      "kubectl hodei", Kube: kube, Getenv: func(string) string { return "" },
		}
		if format != "" {
			flags := genericclioptions.NewPrintFlags("deleted")
			flags.OutputFormat = &format
			var err error
			if o.printer, err = command.NewPrinter(flags.OutputFormat, flags.ToPrinter); err != nil {
				t.Fatal(err)
			}
		}
		if err := o.Run(t.Context()); err != nil {
			t.Error(err)
		}
		for _, printed := range []struct{ text, want string }{
			{out.String(), `job.batch/a\u001b[2J\u202e\nb`},
			{said.String(), "left to whoever made it: rolebinding a[2J b in namespace n"},
			{said.String(), "it would be refused without --force: jobs have not ended: kept/a[2J b"},
		} {
			if !strings.Contains(printed.text, printed.want) || strings.ContainsAny(printed.text, "\x1b\u202e") {
				t.Errorf("-o %q: %q, want %q in it", format, printed.text, printed.want)
			}
		}
	}
}
