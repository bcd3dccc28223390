package install

import (
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/setup"
)

// The command line of a hint is the one that was typed, and what is missing in it.
func TestInstallHints(t *testing.T) {
	for _, test := range []struct {
		name string
		line setup.Line
		want setup.Hints
	}{
		{"install", setup.Line{Given: " --quota=pods=1", Caller: " --as=me"}, setup.Hints{
			Again:   "{hodei} install --quota=pods=1 --as=me",
			Profile: "if it was installed with --profile, give it again",
			Conflict: "to take it over: {hodei} install --force-conflicts --quota=pods=1 --as=me; " +
				"what would change then: {hodei} install --diff --force-conflicts --quota=pods=1 --as=me",
			ByAdministrator: "an administrator can: {hodei} install --quota=pods=1, or with kubectl alone: " +
				"{hodei} install --dry-run=client -o yaml --quota=pods=1 | kubectl apply --server-side --field-manager=hodei -f -",
		}},
		{"a profile, and force", setup.Line{Given: " --profile=baseline", Force: true, Forced: " --force-conflicts"}, setup.Hints{
			Again: "{hodei} install --profile=baseline --force-conflicts",
			Conflict: "to take it over: {hodei} install --force-conflicts --profile=baseline --force-conflicts; " +
				"what would change then: {hodei} install --diff --force-conflicts --profile=baseline --force-conflicts",
			ByAdministrator: "an administrator can: {hodei} install --profile=baseline --force-conflicts, or with kubectl alone: " +
				"{hodei} install --dry-run=client -o yaml --profile=baseline | " +
				"kubectl apply --server-side --field-manager=hodei --force-conflicts -f -",
		}},
		{"a diff", setup.Line{Given: " --profile=baseline", Dry: " --diff"}, setup.Hints{
			Again:           "{hodei} install --diff --profile=baseline",
			Conflict:        "to take it over: {hodei} install --diff --force-conflicts --profile=baseline",
			ByAdministrator: "an administrator can: {hodei} install --diff --profile=baseline",
		}},
		{"a dry run", setup.Line{Given: " --profile=baseline", Dry: " --dry-run=server"}, setup.Hints{
			Again:           "{hodei} install --dry-run=server --profile=baseline",
			Conflict:        "to take it over: {hodei} install --dry-run=server --force-conflicts --profile=baseline",
			ByAdministrator: "an administrator can: {hodei} install --dry-run=server --profile=baseline",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.line.Hints(); got != test.want {
				t.Errorf("got\n%+v\nwant\n%+v", got, test.want)
			}
		})
	}
}

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
		Notes   string
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
			test.options.Env = &command.Env{IOStreams: genericiooptions.IOStreams{ErrOut: &said}}
			err := test.options.checkPodSecurity([]setup.PodSecurityChange{test.change})
			if said.String() != test.Notes || (err != nil) != (test.hint != "") || job.HintOf(err) != test.hint {
				t.Errorf("said %q, want %q; error %v, hint %q", said.String(), test.Notes, err, job.HintOf(err))
			}
		})
	}
}
