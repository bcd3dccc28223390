// Package cli is the command tree of hodei: one file a command, each going from
// flags to options to a run that reads no flag, environment or global. [Main]
// is the way in. The work itself is done by the packages below it.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // the clouds' ways to log in
	"k8s.io/klog/v2"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/signals"
)

// Main runs hodei with args (args[0] is the program's own name) and returns its
// exit code. It is called once a process: client-go's logger is global.
func Main(args []string, in io.Reader, out, errOut io.Writer) int {
	// client-go logs what its callers get as errors anyway.
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	stdout := &checkedWriter{w: out}
	a := &app{
		IOStreams: genericiooptions.IOStreams{In: in, Out: stdout, ErrOut: errOut},
		name:      programName(args[0]),
		args:      args[1:],
		kube:      genericclioptions.NewConfigFlags(true),
		getenv:    os.Getenv,
		signals:   signals.New(),
		lookupEnv: os.LookupEnv,
	}
	root := a.newRoot()
	root.SetArgs(args[1:])
	return a.signals.UnlessSignaled(func() int {
		err := root.ExecuteContext(context.Background())
		if err == nil && stdout.err != nil {
			err = &job.Hinted{Err: fmt.Errorf("write stdout: %w", stdout.err), Hint: "check where the output goes"}
		}
		return a.end(err)
	})
}

func (a *app) newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "hodei",
		Short: "Run commands on Kubernetes as if they were local",
		Long: templates.LongDesc(`
			hodei runs a command in a cluster and gives back its output, byte for byte,
			and its exit code.`),
		Annotations:       map[string]string{cobra.CommandDisplayNameAnnotation: a.name},
		SilenceErrors:     true,
		SilenceUsage:      true,
		Args:              cobra.NoArgs,
		PersistentPreRunE: a.begin,
	}
	showVersion := root.Flags().Bool("version", false, "Print the version of hodei.")
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		if *showVersion {
			return printClientVersion(a.Out)
		}
		return cmd.Help()
	}
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.ErrOut)
	a.kube.AddFlags(root.PersistentFlags())
	a.addProviderFlag(root, root.PersistentFlags(), "Where to go")
	root.PersistentFlags().Lookup("user").Usage = "The name of the kubeconfig user to use. In 'hodei run' and 'hodei provider', --user is the UID of the command instead."

	groups := templates.CommandGroups{
		{Message: "Jobs:", Commands: []*cobra.Command{a.newRun(), a.newJobs(), a.newDescribe(), a.newTop(), a.newLogs(), a.newAttach(), a.newReport(), a.newAdvise()}},
		{Message: "Set-up:", Commands: []*cobra.Command{a.newInstall(), a.newUninstall(), a.newCerts(), a.newProvider(), newDoctor(a, (*doctorOptions).run)}},
		{Message: "Server:", Commands: []*cobra.Command{a.newServer()}},
	}
	groups.Add(root)
	root.AddCommand(newVersion(a, (*versionOptions).run), newCompletion(a.Out))
	templates.ActsAsRootCommand(root, []string{"options"}, groups...)
	root.AddCommand(newOptions())
	// After kubectl's templates, which have one of their own.
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
			return a.unknownFlag(cmd, unknown)
		}
		return &usageError{cmd: cmd, err: err}
	})
	a.usageArgs(root)
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
