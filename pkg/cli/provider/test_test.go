package provider

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/hodei-jobs/hodei/pkg/check"
	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/local"
)

func TestTimedOut(t *testing.T) {
	other := errors.New("other")
	hintFirst := &job.Hinted{Err: fmt.Errorf("x: %w", context.DeadlineExceeded), Hint: "kubectl delete job x"}
	late := fmt.Errorf("read the container's log: %w", context.DeadlineExceeded)
	for _, test := range []struct {
		name       string
		Place      place.Place
		err        error
		want, hint string
	}{
		{"nothing", place.Cluster{}, nil, "", ""},
		{"another", place.Cluster{}, other, "other", ""},
		{"one that has a hint", place.Cluster{}, hintFirst, hintFirst.Error(), "kubectl delete job x"},
		{"late", place.Cluster{}, late, "--timeout 2m0s was not enough: read the container's log: context deadline exceeded",
			"{hodei} provider test prod --timeout 10m0s; or see: kubectl get events -n ns"},
		{"late here", place.Machine{Provider: &local.Provider{}}, late,
			"--timeout 2m0s was not enough: read the container's log: context deadline exceeded",
			"{hodei} provider test prod --timeout 10m0s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := &testOptions{timeout: 2 * time.Minute, name: "prod", config: provider.Config{Namespace: "ns"}, place: test.Place}
			err := p.timedOut(test.err)
			if err == nil && test.want == "" {
				return
			}
			if err == nil || err.Error() != test.want || job.HintOf(err) != test.hint {
				t.Errorf("got %v, hint %s", err, job.HintOf(err))
			}
		})
	}
}

// All that is wrong with the infrastructure is shown, with what to do; what ends the
// test is left to its end.
func TestShowChecks(t *testing.T) {
	streams, _, _, errOut := genericiooptions.NewTestIOStreams()
	a := &command.Env{IOStreams: streams, Name: "hodei", Getenv: func(string) string { return "" }}
	p := &testOptions{named: a.Named, screen: command.NewScreen(a, false)}
	p.show(&levelReport{Level: 1, Name: "infrastructure", Checks: []check.Result{
		{Name: "cluster", Status: check.OK, Detail: "Kubernetes v1", Hint: ""},
		{Name: "namespace", Status: check.Error, Detail: "namespace x does not exist", Hint: "hodei install"},
		{Name: "role", Status: check.Warning, Detail: "is not there", Hint: "hodei install"},
		{Name: "priority class", Status: check.Error, Detail: `priority class "y" not found`, Hint: "kubectl get priorityclasses"},
		{Name: "job", Status: check.Error, Detail: "no words", Hint: ""},
	}}, errors.New("namespace x does not exist"))
	const want = `level 1 failed: infrastructure
warning: role: is not there
also: priority class: priority class "y" not found
hint: kubectl get priorityclasses
also: job: no words
`
	if got := errOut.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
