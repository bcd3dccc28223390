package setup

import "testing"

// The command line of a hint is the one that was typed, and what is missing in it.
func TestLineHints(t *testing.T) {
	for _, test := range []struct {
		name string
		line Line
		want Hints
	}{
		{"install", Line{Given: " --quota=pods=1", Caller: " --as=me"}, Hints{
			Again:   "{hodei} install --quota=pods=1 --as=me",
			Profile: "if it was installed with --profile, give it again",
			Conflict: "to take it over: {hodei} install --force-conflicts --quota=pods=1 --as=me; " +
				"what would change then: {hodei} install --diff --force-conflicts --quota=pods=1 --as=me",
			ByAdministrator: "an administrator can: {hodei} install --quota=pods=1, or with kubectl alone: " +
				"{hodei} install --dry-run=client -o yaml --quota=pods=1 | kubectl apply --server-side --field-manager=hodei -f -",
		}},
		{"a profile, and force", Line{Given: " --profile=baseline", Force: true, Forced: " --force-conflicts"}, Hints{
			Again: "{hodei} install --profile=baseline --force-conflicts",
			Conflict: "to take it over: {hodei} install --force-conflicts --profile=baseline --force-conflicts; " +
				"what would change then: {hodei} install --diff --force-conflicts --profile=baseline --force-conflicts",
			ByAdministrator: "an administrator can: {hodei} install --profile=baseline --force-conflicts, or with kubectl alone: " +
				"{hodei} install --dry-run=client -o yaml --profile=baseline | " +
				"kubectl apply --server-side --field-manager=hodei --force-conflicts -f -",
		}},
		{"a diff", Line{Given: " --profile=baseline", Dry: " --diff"}, Hints{
			Again:           "{hodei} install --diff --profile=baseline",
			Conflict:        "to take it over: {hodei} install --diff --force-conflicts --profile=baseline",
			ByAdministrator: "an administrator can: {hodei} install --diff --profile=baseline",
		}},
		{"a dry run", Line{Given: " --profile=baseline", Dry: " --dry-run=server"}, Hints{
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
