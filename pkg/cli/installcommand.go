package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// The kube flags that a hint repeats: without them it is about another cluster, or
// another caller. A token or a password is in no hint.
var (
	clusterFlags = []string{"cluster", "server", "certificate-authority", "tls-server-name", "insecure-skip-tls-verify", "proxy-url"}
	callerFlags  = []string{"user", "as", "as-uid", "as-group", "as-user-extra", "client-certificate", "client-key"}
)

// typed are those of the flags that were given, for a hint; each begins with a space.
func typed(flags *pflag.FlagSet, names ...string) string {
	var text strings.Builder
	for _, name := range names {
		flag := flags.Lookup(name)
		if flag == nil || !flag.Changed {
			continue
		}
		values := []string{flag.Value.String()}
		if list, ok := flag.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		for _, value := range values {
			if flag.NoOptDefVal == value {
				fmt.Fprintf(&text, " --%s", name)
			} else {
				fmt.Fprintf(&text, " --%s=%s", name, shellQuote(value))
			}
		}
	}
	return text.String()
}
