package install

import (
	"errors"
	"strings"
	"testing"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/setup"
)

// Nobody's Pods are refused from now on without a word.
func TestCheckPodSecurity(t *testing.T) {
	unmet := []string{"existing pods violate", "p: runs as root"}
	const (
		met     = `namespace n was there before hodei: with it, everybody's Pods there have to meet Pod Security "restricted"` + "\n"
		refusal = `namespace n was there before hodei, and would begin to enforce Pod Security "restricted", ` +
			`which Pods in it do not meet: existing pods violate; p: runs as root`
		choose = "choose a namespace of its own with --workers-namespace, or what they may meet with --profile=baseline; "
		goOn   = "to go on all the same: {hodei} install --force-pod-security"
	)
	for _, test := range []struct {
		name    string
		change  setup.PodSecurityChange
		options Options
		notes   string
		hint    string // "": it is not refused
	}{
		{"Pods that meet it", setup.PodSecurityChange{Namespace: "n", Profile: "restricted"}, Options{}, met, ""},
		{"Pods that don't", setup.PodSecurityChange{Namespace: "n", Profile: "restricted", Unmet: unmet}, Options{}, "", choose + goOn},
		{"forced", setup.PodSecurityChange{Namespace: "n", Profile: "restricted", Unmet: unmet},
			Options{forcePodSecurity: true}, "forced: " + refusal + "\n", ""},
		{"a diff", setup.PodSecurityChange{Namespace: "n", Profile: "restricted", Unmet: unmet},
			Options{diff: true}, "it would be refused without --force-pod-security: " + refusal + "\n", ""},
		{"hodei's own namespace", setup.PodSecurityChange{Namespace: "hodei-system", Profile: "restricted", Unmet: unmet},
			Options{}, "", goOn},
	} {
		t.Run(test.name, func(t *testing.T) {
			var said strings.Builder
			test.options.ErrOut = &said
			err := test.options.checkPodSecurity([]setup.PodSecurityChange{test.change})
			if said.String() != test.notes || (err != nil) != (test.hint != "") || job.HintOf(err) != test.hint {
				t.Errorf("said %q, want %q; error %v, hint %q", said.String(), test.notes, err, job.HintOf(err))
			}
		})
	}
}

// A diff that can't be made has diff's code for trouble; what has a code of its own keeps it.
func TestAsDiff(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want int
	}{
		{"nothing would change", nil, 0},
		{"something would", errDiffers, 1},
		{"no cluster", errors.New("refused"), 2},
		{"interrupted", &job.ExitError{Code: 130}, 130},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := 0
			if exit, ok := errors.AsType[*job.ExitError](asDiff(test.err)); ok {
				got = exit.Code
			}
			if got != test.want {
				t.Errorf("exit code %d, want %d", got, test.want)
			}
		})
	}
}
