package runflags

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/submission"
)

// kubeconfigText has a context a, whose cluster nobody serves.
const kubeconfigText = `apiVersion: v1
kind: Config
current-context: a
clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]
contexts: [{name: a, context: {cluster: c}}]
`

// A provider's word on the container's log counts as much as the flag's.
func TestFallback(t *testing.T) {
	for _, test := range []struct {
		setting    string
		args       []string
		noFallback bool
	}{
		{"", nil, false},
		{"container_logs: true", nil, false},
		{"container_logs: false", nil, true},
		{"container_logs: false", []string{"--container-logs"}, false},
		{"", []string{"--container-logs=false"}, true},
	} {
		t.Run(test.setting+strings.Join(test.args, " "), func(t *testing.T) {
			f, c := configured(t, test.setting, test.args...)
			if err := f.Complete(c, &job.Spec{Command: []string{"true"}}); err != nil {
				t.Fatal(err)
			}
			if c.NoFallback != test.noFallback {
				t.Errorf("ruled out: %t", c.NoFallback)
			}
		})
	}
}

// TestExec: the flag counts most, then what an earlier job had, then the provider.
func TestExec(t *testing.T) {
	for _, test := range []struct {
		name, setting string
		args          []string
		earlier       *bool // nil: it is no rerun
		want          bool
	}{
		{name: "by default"},
		{name: "flag", args: []string{"--exec"}, want: true},
		{name: "provider", setting: "exec: true", want: true},
		{name: "provider rules it out", setting: "exec: false"},
		{name: "flag where the provider rules it out", setting: "exec: false", args: []string{"--exec"}, want: true},
		{name: "flag against the provider", setting: "exec: true", args: []string{"--exec=false"}},
		{name: "again", earlier: new(true), want: true},
		{name: "again where the provider rules it out", setting: "exec: false", earlier: new(true), want: true},
		{name: "again and it was not allowed", setting: "exec: true", earlier: new(false)},
		{name: "again and the flag allows it", args: []string{"--exec"}, earlier: new(false), want: true},
		{name: "again and the flag does not", setting: "exec: true", args: []string{"--exec=false"}, earlier: new(true)},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, c := configured(t, test.setting, test.args...)
			spec := &job.Spec{Command: []string{"true"}}
			if test.earlier != nil {
				spec.Exec, c.NoExec = *test.earlier, !*test.earlier
			}
			if err := f.Complete(c, spec); err != nil {
				t.Fatal(err)
			}
			if spec.Exec != test.want {
				t.Errorf("allowed: %t", spec.Exec)
			}
		})
	}
}

// configured are the flags of a run with args on a provider that has the setting, and what they make.
func configured(t *testing.T, setting string, args ...string) (*Flags, *submission.Config) {
	t.Helper()
	home := t.TempDir()
	t.Chdir(home)
	files := map[string]string{
		"kubeconfig": kubeconfigText,
		"hodei/config.yaml": "current: k\nproviders: {k: {type: kubernetes, context: a, kubeconfig: " +
			home + "/kubeconfig, " + setting + "}}\n",
	}
	if err := os.Mkdir("hodei", 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := map[string]string{"HOME": home, "XDG_CONFIG_HOME": home}
	a := &command.Env{IOStreams: genericiooptions.IOStreams{Out: io.Discard, ErrOut: io.Discard},
		Kube: genericclioptions.NewConfigFlags(true), Getenv: func(name string) string { return env[name] }}
	cmd := &cobra.Command{Use: "run"}
	f := New(a, cmd)
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	c, err := f.Config()
	if err != nil {
		t.Fatal(err)
	}
	return f, c
}
