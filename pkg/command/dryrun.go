package command

import (
	"slices"

	"github.com/spf13/cobra"
)

// Values of --dry-run, which are kubectl's.
const (
	DryRunNone   = "none"   // do it
	DryRunClient = "client" // show what would be sent
	DryRunServer = "server" // let the API server check it, and store nothing
)

// DryRunNote is what the line of an object ends with, by the value of --dry-run: that it was not done.
var DryRunNote = map[string]string{DryRunNone: "", DryRunClient: " (dry run)", DryRunServer: " (server dry run)"}

// CheckDryRun returns a usage error of cmd for an unknown value of --dry-run.
func CheckDryRun(cmd *cobra.Command, dryRun string) error {
	if !slices.Contains([]string{DryRunNone, DryRunClient, DryRunServer}, dryRun) {
		return Usagef(cmd, "--dry-run %q: want %s, %s or %s", dryRun, DryRunNone, DryRunClient, DryRunServer)
	}
	return nil
}
