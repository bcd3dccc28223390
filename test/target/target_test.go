package target

import (
	"strings"
	"testing"
)

func TestRemoved(t *testing.T) {
	for _, test := range []struct{ name, diff, want string }{
		{"nothing", "", ""},
		{"not installed yet", "--- live/a/role/b\n+++ installed/a/role/b\n@@ -0,0 +1,2 @@\n+kind: Role\n+x: y\n", ""},
		{"another profile",
			"--- live/namespace/a\n+++ installed/namespace/a\n@@ -1,3 +1,3 @@\n labels:\n-  enforce: baseline\n+  enforce: restricted\n",
			"namespace/a\n-  enforce: baseline"},
		{"a quota goes",
			"--- live/namespace/a\n+++ installed/namespace/a\n+  x: y\n--- live/a/resourcequota/b\n+++ " +
				"installed/a/resourcequota/b\n-kind: ResourceQuota\n-spec:\n",
			"a/resourcequota/b\n-kind: ResourceQuota\n-spec:"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := strings.Join(removed(test.diff), "\n"); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
