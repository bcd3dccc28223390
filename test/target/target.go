// Package target looks, before the first test, at the cluster that tests are to install
// hodei on: it may be somebody's. Start with [Check].
package target

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
)

// Own tells that the cluster is one that was made for the tests.
func Own() bool { return os.Getenv("HODEI_K8S_TEST_IMAGES") == "1" }

// Check names the current context's cluster on out, and refuses one on which hodei is
// installed with other choices than the tests' own, which are none. diff is `hodei install
// --diff`, ready to run.
func Check(out io.Writer, diff *exec.Cmd) error {
	kubeconfig := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(), nil)
	raw, err := kubeconfig.RawConfig()
	if err != nil {
		return fmt.Errorf("HODEI_K8S_TEST=1: %w", err)
	}
	config, err := kubeconfig.ClientConfig()
	if err != nil {
		return fmt.Errorf("HODEI_K8S_TEST=1, and Kubernetes cluster not available: %w", err)
	}
	where := fmt.Sprintf("the cluster at %s, context %q", config.Host, raw.CurrentContext)
	fmt.Fprintln(out, "tests on", where)
	if Own() {
		return nil
	}
	changes, err := diff.Output()
	exit, ok := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return nil
	case !ok || exit.ExitCode() != 1: // what differs is 1, as with diff(1)
		return fmt.Errorf("hodei install --diff: %w: %s", err, stderr(exit))
	}
	if lost := removed(string(changes)); len(lost) > 0 {
		return fmt.Errorf("hodei is installed on %s with other choices than the tests make; they would change:\n%s\n"+
			"see all of it: hodei install --diff; use another cluster, or take it out first: hodei uninstall", where,
			strings.Join(lost, "\n"))
	}
	return nil
}

func stderr(exit *exec.ExitError) string {
	if exit == nil {
		return ""
	}
	return strings.TrimSpace(string(exit.Stderr))
}

// removed are the lines that a unified diff takes away, below the object that each is of.
// What it only adds to is not somebody's choice.
func removed(diff string) []string {
	var lines []string
	object := ""
	for line := range strings.Lines(diff) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "--- "):
			object = strings.TrimPrefix(line, "--- live/")
		case strings.HasPrefix(line, "-"):
			if object != "" {
				lines, object = append(lines, object), ""
			}
			lines = append(lines, line)
		}
	}
	return lines
}
