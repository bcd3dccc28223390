package command

import (
	"io"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
)

// ActionFlags are the flags of a command about jobs which are there, and which it prints: -o and -q, and --dry-run if
// it acts on them.
type ActionFlags struct {
	// DryRun is the value of --dry-run; empty: the command does not have it.
	DryRun string
	quiet  bool
	print  *genericclioptions.PrintFlags
}

// Add gives cmd -o and -q; done says what was done to a job that is printed: cancelled.
func (f *ActionFlags) Add(cmd *cobra.Command, done string) {
	f.print = genericclioptions.NewPrintFlags(done)
	f.print.AddFlags(cmd)
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "Write nothing but errors.")
}

// AddDryRun gives cmd --dry-run.
func (f *ActionFlags) AddDryRun(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.DryRun, "dry-run", DryRunNone,
		"none, client (only say what would be done) or server (also have the API server check it).")
	cmd.Flags().Lookup("dry-run").NoOptDefVal = DryRunClient
	_ = cmd.RegisterFlagCompletionFunc("dry-run",
		cobra.FixedCompletions([]string{DryRunNone, DryRunClient, DryRunServer}, cobra.ShellCompDirectiveNoFileComp))
}

// Quiet reports whether only errors are to be told.
func (f *ActionFlags) Quiet() bool { return f.quiet }

// Printer checks the flags of cmd, and returns a func that prints a job that was acted on to out: as -o says or,
// without it, as a line with its name, what was done, and how. It may be called by several goroutines.
func (f *ActionFlags) Printer(cmd *cobra.Command, out io.Writer) (func(j *batchv1.Job, how string) error, error) {
	if cmd.Flags().Lookup("dry-run") != nil {
		if err := CheckDryRun(cmd, f.DryRun); err != nil {
			return nil, err
		}
	}
	if f.quiet && *f.print.OutputFormat != "" {
		return nil, Usagef(cmd, "-q writes no objects: leave -o out")
	}
	newPrinter := StatePrinters(f.print)
	if _, err := newPrinter("%s"); err != nil {
		return nil, Usagef(cmd, "%w", err)
	}
	var mu sync.Mutex
	return func(j *batchv1.Job, how string) error {
		mu.Lock()
		defer mu.Unlock()
		if f.quiet {
			return nil
		}
		printer, err := newPrinter("%s" + strings.ReplaceAll(how, "%", "%%") + DryRunNote[f.DryRun])
		if err != nil {
			return err
		}
		typed := j.DeepCopy()
		typed.SetGroupVersionKind(batchv1.SchemeGroupVersion.WithKind("Job"))
		return printer.PrintObj(typed, out)
	}, nil
}
