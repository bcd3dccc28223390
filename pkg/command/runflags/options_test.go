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
			home := t.TempDir()
			t.Chdir(home)
			files := map[string]string{
				"kubeconfig": kubeconfigText,
				"hodei/config.yaml": "current: k\nproviders: {k: {type: kubernetes, context: a, kubeconfig: " +
					home + "/kubeconfig, " + test.setting + "}}\n",
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
			if err := cmd.ParseFlags(test.args); err != nil {
				t.Fatal(err)
			}
			c, err := f.Config()
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Complete(c, &job.Spec{Command: []string{"true"}}); err != nil {
				t.Fatal(err)
			}
			if c.NoFallback != test.noFallback {
				t.Errorf("ruled out: %t", c.NoFallback)
			}
		})
	}
}
