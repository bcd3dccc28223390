package check

import (
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/certs"
)

// What a certificate needs depends on whose it is and on what is wrong with it.
func TestRemedy(t *testing.T) {
	future, past := time.Now().Add(time.Hour), time.Now().Add(-48*time.Hour)
	for _, tt := range []struct {
		name string
		fact certs.Fact
		want string
	}{
		{"CA past", certs.Fact{Source: "d/ca.crt", CA: true, NotAfter: past, DaysLeft: -2, Problem: "expired"},
			"{hodei} certs generate --force --dir d"},
		{"leaf past", certs.Fact{Source: "d/server.crt", NotAfter: past, DaysLeft: -2, SignedBy: "d/ca.crt", Problem: "expired"},
			"{hodei} certs rotate --dir d"},
		{"leaf past, of another CA", certs.Fact{Source: "d/server.crt", NotAfter: past, DaysLeft: -2, Problem: "expired"}, "inspect"},
		{"another's key", certs.Fact{Source: "d/server.crt", NotAfter: future, Key: certs.KeyDiffers, Problem: "key"}, "inspect"},
		{"torn", certs.Fact{Source: "d/server.crt", Problem: "malformed"}, "inspect"},
		{"CA soon", certs.Fact{Source: "d/ca.crt", CA: true, NotAfter: future, Warning: "ends"}, "{hodei} certs rotate --ca --dir d"},
		{"leaf soon", certs.Fact{Source: "d/client.crt", NotAfter: future, Warning: "ends"}, "{hodei} certs rotate --dir d"},
		{"old CA past", certs.Fact{Source: "d/ca.crt#2", CA: true, NotAfter: past, DaysLeft: -2, Warning: "expired"}, "inspect"},
		{"key of all", certs.Fact{Source: "d/ca.crt", CA: true, NotAfter: future, KeyMode: "0644", Warning: "mode"}, "chmod 600 d/ca.key"},
	} {
		if got := remedy(tt.fact, "inspect", " --dir d", ""); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
