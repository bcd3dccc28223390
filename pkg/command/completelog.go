package command

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/local"
)

// DecorationFlags adds the flags for what each line of output begins with, --timestamps and --prefix.
func DecorationFlags(cmd *cobra.Command, timestamps, prefix *bool) {
	cmd.Flags().BoolVar(timestamps, "timestamps", false, "Begin each line with the time at which its first byte was read (RFC 3339).")
	cmd.Flags().BoolVar(prefix, "prefix", false,
		"Begin each line with the names of the job and the stream. 'hodei logs -l' does so anyway.")
}

// CompleteLog completes the first argument to the name of a job in the cluster or in the log store. It is a cobra
// completion function.
func (a *Env) CompleteLog(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	names, directive := a.CompleteJob(cmd, args, toComplete)
	dir, err := a.Home().StoreDir()
	if err != nil || len(args) > 0 {
		return names, directive
	}
	namespaces := []string{local.Namespace}
	if _, c, err := a.ChooseProvider(); err == nil && c.Type != provider.Local {
		namespaces = append(namespaces, c.Namespace)
	}
	for _, namespace := range namespaces {
		names = append(names, place.StoredJobs(dir, namespace)...)
	}
	slices.Sort(names)
	return slices.Compact(names), directive
}

// CompleteReport completes the first argument as CompleteLog does, and further ones to files. It is a cobra completion
// function.
func (a *Env) CompleteReport(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.CompleteLog(cmd, args, toComplete)
}
