package guard

import (
	"os"
	"testing"
)

// roles are what this test binary is besides, by its first argument: two processes that are not
// the test's.
var roles = map[string]func(args []string) int{
	"test-foreign": runForeign,
	"test-knock":   runKnock,
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if role := roles[os.Args[1]]; role != nil {
			os.Exit(role(os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}
