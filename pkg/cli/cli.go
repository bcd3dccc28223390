// Package cli is the command tree of hodei: one file a command, each going from
// flags to options to a run that reads no flag, environment or global. [Main]
// is the way in. The work itself is done by the packages below it.
package cli

import (
	"io"
	"log/slog"

	"github.com/spf13/cobra"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // the clouds' ways to log in
	"k8s.io/klog/v2"
	"k8s.io/kubectl/pkg/util/templates"
)

// Main runs hodei with args (args[0] is the program's own name) and returns its
// exit code. It is called once a process: client-go's logger is global.
func Main(args []string, in io.Reader, out, errOut io.Writer) int {
	// client-go logs what its callers get as errors anyway.
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	a := newApp(args, in, out, errOut)
	return a.execute(a.newRoot())
}

// newRoot makes the command that holds all others.
func (a *app) newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "hodei",
		Short: "Run commands on Kubernetes as if they were local",
		Long: templates.LongDesc(`
			hodei runs a command in a cluster and gives back its output, byte for byte,
			and its exit code.`),
		Args: cobra.NoArgs,
	}
	a.prepare(root)
	showVersion := root.Flags().Bool("version", false, "Print the version of hodei.")
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		if *showVersion {
			return a.printClientVersion()
		}
		return cmd.Help()
	}
	groups := templates.CommandGroups{
		{Message: "Jobs:", Commands: []*cobra.Command{
			a.newRun(),
			newJobs(a, (*jobsOptions).run),
			a.newDescribe(),
			newTop(a, (*topOptions).run),
			a.newLogs(),
			a.newAttach(),
			a.newReport(),
			a.newAdvise(),
		}},
		{Message: "Set-up:", Commands: []*cobra.Command{
			a.newInstall(),
			a.newUninstall(),
			a.newCerts(),
			newProvider(a),
			a.newDoctor(),
		}},
		{Message: "Server:", Commands: []*cobra.Command{a.newServer()}},
	}
	groups.Add(root)
	root.AddCommand(a.newVersion(), a.newCompletion())
	templates.ActsAsRootCommand(root, []string{"options"}, groups...)
	root.AddCommand(newOptions())
	a.explainUsage(root) // after kubectl's templates, which have an explanation of their own
	return root
}

// newOptions lists the kube flags, which every other help text leaves out.
func newOptions() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "options",
		Short: "List the flags that every command takes",
		Args:  cobra.NoArgs,
		Run:   func(cmd *cobra.Command, _ []string) { _ = cmd.Usage() },
	}
	templates.UseOptionsTemplates(cmd)
	return cmd
}
