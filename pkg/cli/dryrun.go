package cli

import (
	"slices"

	"github.com/spf13/cobra"
)

// Values of --dry-run, which are kubectl's.
const (
	dryRunNone   = "none"
	dryRunClient = "client" // show what would be sent
	dryRunServer = "server" // let the API server check it, and store nothing
)

// dryRunNote ends the line of what a dry run has not done.
var dryRunNote = map[string]string{dryRunNone: "", dryRunClient: " (dry run)", dryRunServer: " (server dry run)"}

// checkDryRun checks the value of --dry-run.
func checkDryRun(cmd *cobra.Command, dryRun string) error {
	if !slices.Contains([]string{dryRunNone, dryRunClient, dryRunServer}, dryRun) {
		return usagef(cmd, "--dry-run %q: want %s, %s or %s", dryRun, dryRunNone, dryRunClient, dryRunServer)
	}
	return nil
}
