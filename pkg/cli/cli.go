// Package cli is the command tree of hodei: [Main] is the way in, and each command is a package below
// this one. Here are the root command, version and completion. The work itself is done by the packages
// below the commands.
package cli

import (
	"io"
	"log/slog"

	"github.com/spf13/cobra"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // the clouds' ways to log in
	"k8s.io/klog/v2"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/cli/advise"
	"github.com/hodei-jobs/hodei/pkg/cli/attach"
	"github.com/hodei-jobs/hodei/pkg/cli/cancel"
	"github.com/hodei-jobs/hodei/pkg/cli/certs"
	"github.com/hodei-jobs/hodei/pkg/cli/delete"
	"github.com/hodei-jobs/hodei/pkg/cli/describe"
	"github.com/hodei-jobs/hodei/pkg/cli/doctor"
	"github.com/hodei-jobs/hodei/pkg/cli/exec"
	"github.com/hodei-jobs/hodei/pkg/cli/install"
	"github.com/hodei-jobs/hodei/pkg/cli/jobs"
	"github.com/hodei-jobs/hodei/pkg/cli/logs"
	"github.com/hodei-jobs/hodei/pkg/cli/provider"
	"github.com/hodei-jobs/hodei/pkg/cli/report"
	"github.com/hodei-jobs/hodei/pkg/cli/rerun"
	"github.com/hodei-jobs/hodei/pkg/cli/run"
	"github.com/hodei-jobs/hodei/pkg/cli/server"
	"github.com/hodei-jobs/hodei/pkg/cli/signal"
	"github.com/hodei-jobs/hodei/pkg/cli/top"
	"github.com/hodei-jobs/hodei/pkg/cli/uninstall"
	"github.com/hodei-jobs/hodei/pkg/cli/wait"
	"github.com/hodei-jobs/hodei/pkg/command"
)

// Main runs hodei with args (args[0] is the program's own name) and returns its
// exit code. It is called once a process: client-go's logger is global.
func Main(args []string, in io.Reader, out, errOut io.Writer) int {
	klog.SetSlogLogger(slog.New(slog.DiscardHandler)) // what it logs, its callers get as errors anyway
	env := command.New(completing(args), in, out, errOut)
	env.Version = readClientVersion().Version
	return env.Execute(newRoot(env))
}

// newRoot makes the command that holds all others.
func newRoot(env *command.Env) *cobra.Command {
	root := &cobra.Command{
		Use:   "hodei",
		Short: "Run commands on Kubernetes as if they were local",
		Long: templates.LongDesc(`
			hodei runs a command in a cluster and gives back its output, byte for byte,
			and its exit code.`),
		Args: cobra.NoArgs,
	}
	env.Prepare(root)
	showVersion := root.Flags().Bool("version", false, "Print the version of hodei.")
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		if *showVersion {
			return printClientVersion(env.Out)
		}
		return cmd.Help()
	}
	groups := templates.CommandGroups{
		{Message: "Jobs:", Commands: []*cobra.Command{
			run.New(env, (*run.Options).Run),
			rerun.New(env, (*rerun.Options).Run),
			jobs.New(env, (*jobs.Options).Run),
			describe.New(env, (*describe.Options).Run),
			top.New(env, (*top.Options).Run),
			logs.New(env, (*logs.Options).Run),
			attach.New(env, (*attach.Options).Run),
			wait.New(env, (*wait.Options).Run),
			signal.New(env, (*signal.Options).Run),
			exec.New(env, (*exec.Options).Run),
			cancel.New(env, (*cancel.Options).Run),
			delete.New(env, (*delete.Options).Run),
			report.New(env, (*report.Options).Run),
			advise.New(env, (*advise.Options).Run),
		}},
		{Message: "Set-up:", Commands: []*cobra.Command{
			install.New(env, (*install.Options).Run),
			uninstall.New(env, (*uninstall.Options).Run),
			certs.New(env),
			provider.New(env),
			doctor.New(env, (*doctor.Options).Run),
		}},
		{Message: "Server:", Commands: []*cobra.Command{server.New(env, (*server.Options).Run)}},
	}
	groups.Add(root)
	root.AddCommand(newVersion(env, (*versionOptions).run), newCompletion(env.Out))
	templates.ActsAsRootCommand(root, []string{"options"}, groups...)
	root.AddCommand(newOptions())
	leaveFlagsOut(root)
	env.ExplainUsage(root) // after kubectl's templates, which have an explanation of their own
	return root
}

// leaveFlagsOut keeps cobra from adding [flags] to the usage lines of cmd and of the commands below it: kubectl's templates
// add [options] where a line does not have it.
func leaveFlagsOut(cmd *cobra.Command) {
	cmd.DisableFlagsInUseLine = true
	for _, c := range cmd.Commands() {
		leaveFlagsOut(c)
	}
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
