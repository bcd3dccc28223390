package certs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/setup"
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// newInspect makes the command; run is (*inspectOptions).run, or a test's.
func newInspect(env *command.Env, run func(*inspectOptions, context.Context) error) *cobra.Command {
	o := &inspectOptions{Out: env.Out, connect: connecting(env), printData: env.PrintData}
	cmd := &cobra.Command{
		Use:   "inspect [FILE|DIR]... | --secrets [--workers-namespace NS] | --job NAME [-o wide|json|yaml]",
		Short: "Show whether certificates are in order, and until when",
		Long: templates.LongDesc(`
			Show what certificates are for, when they begin and end, whether the private key
			beside them is theirs, and which authority signed them. It looks at files and
			directories (./certs by default), at the Secrets of 'hodei certs apply', or at those
			of a job.

			A certificate X.crt is compared with X.key and ca.crt of the same directory or
			namespace, if they exist.

			Ends with exit code 1 if one of them can't be used: it has ended or not begun, its
			key is another's, the authority has not signed it, or it can't be read.`),
		Example: templates.Examples(`
			# Those in ./certs
			hodei certs inspect

			# Those in the cluster, with all names and serial numbers
			hodei certs inspect --secrets -o wide

			# Those of a job
			hodei certs inspect --job hodei-make-k3x9z

			# When the first of them ends, for a script
			hodei certs inspect -o json | jq -r '[.certificates[].notAfter] | min'`),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.paths, o.namespace = args, *env.Kube.Namespace
			if err := o.check(cmd); err != nil {
				return err
			}
			if o.filesOnly() {
				return run(o, cmd.Context())
			}
			return env.UntilSignal(cmd.Context(), signals.NextEndsUs, func(ctx context.Context) error { return run(o, ctx) })
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.secrets, "secrets", false, "Show the Secrets of hodei-system and the workers' namespace, or of that of -n.")
	flags.StringVar(&o.workers, "workers-namespace", deploy.WorkersNamespace, "Namespace of the workers.")
	flags.StringVar(&o.job, "job", "", "Show the Secret of this job.")
	flags.StringVarP(&o.output, "output", "o", "", "wide: all columns. json or yaml: all that is known, under certificates.")
	formats := cobra.FixedCompletions([]string{"wide", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp)
	_ = cmd.RegisterFlagCompletionFunc("output", formats)
	_ = cmd.RegisterFlagCompletionFunc("job", env.CompleteJob)
	return cmd
}

// inspectOptions is which certificates one inspect shows, and how.
type inspectOptions struct {
	Out       io.Writer
	paths     []string // files and directories; empty: ./certs, unless secrets or job are asked for
	secrets   bool     // those that apply stores
	workers   string   // namespace of the workers' Secrets
	namespace string   // the one of -n, which secrets is then confined to; empty: both
	job       string   // whose Secret; empty: no job's
	output    string   // wide, json, yaml or, for a table, empty
	// connect chooses the cluster.
	connect func() (*cluster, error)
	// printData prints what is no Kubernetes object as json or yaml.
	printData func(v any, format string) error
}

// filesOnly reports whether no cluster is asked.
func (o *inspectOptions) filesOnly() bool { return !o.secrets && o.job == "" }

// check checks what was typed.
func (o *inspectOptions) check(cmd *cobra.Command) error {
	switch {
	case len(o.paths) > 0 && !o.filesOnly(), o.secrets && o.job != "":
		return command.Usagef(cmd, "FILE, --secrets and --job exclude each other")
	case cmd.Flags().Changed("job") && o.job == "":
		return command.Usagef(cmd, "--job is empty")
	case cmd.Flags().Changed("workers-namespace") && (!o.secrets || o.workers == "" || o.namespace != ""):
		return command.Usagef(cmd, "--workers-namespace is for --secrets, excludes -n, and is not empty")
	case !slices.Contains([]string{"", "wide", "json", "yaml"}, o.output):
		return command.Usagef(cmd, "-o %q: want wide, json or yaml", o.output)
	case o.filesOnly():
		return refuseCluster(cmd)
	}
	return nil
}

// run shows the certificates. It ends with an error if one of them is not in order.
func (o *inspectOptions) run(ctx context.Context) error {
	sets, err := o.read(ctx)
	if err != nil {
		return err
	}
	facts := []certs.Fact{} // not nil, which JSON shows as null
	for _, set := range sets {
		for _, f := range certs.Inspect(set.files, time.Now()) {
			if set.only == "" || f.Source == set.only || strings.HasPrefix(f.Source, set.only+"#") {
				facts = append(facts, f)
			}
		}
	}
	if err := o.print(facts); err != nil {
		return err
	}
	wrong := slices.DeleteFunc(slices.Clone(facts), func(f certs.Fact) bool { return f.Problem == "" })
	switch len(wrong) {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("%s: %s", wrong[0].Source, wrong[0].Problem)
	}
	return fmt.Errorf("%d of %d certificates are not in order: %s: %s", len(wrong), len(facts), wrong[0].Source, wrong[0].Problem)
}

// certSet is files that belong together.
type certSet struct {
	files []certs.File
	only  string // source of the one that is asked for; empty: all are
}

// read reads what is asked for.
func (o *inspectOptions) read(ctx context.Context) ([]certSet, error) {
	switch {
	case o.job != "":
		return o.readJob(ctx)
	case o.secrets:
		return o.readSecrets(ctx)
	}
	paths := o.paths
	if len(paths) == 0 {
		paths = []string{place.CertsDir}
	}
	var sets []certSet
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, os.ErrNotExist) && len(o.paths) == 0:
			return nil, &job.Hinted{
				Err:  errors.New("there is no directory certs here"),
				Hint: "{hodei} certs generate, {hodei} certs inspect DIR or {hodei} certs inspect --secrets",
			}
		case err == nil && info.IsDir():
			files, err := certs.ReadDir(path)
			if err != nil {
				return nil, err
			}
			sets = append(sets, certSet{files: files})
		default: // what is wrong with it is told as of any other
			files := certs.ReadFile(path)
			sets = append(sets, certSet{files: files, only: files[0].Source})
		}
	}
	return sets, nil
}

// readJob reads the Secret of a job, and its second one, if it has that and we may.
func (o *inspectOptions) readJob(ctx context.Context) ([]certSet, error) {
	cluster, err := o.connect()
	if err != nil {
		return nil, err
	}
	secret, err := setup.GetSecret(ctx, cluster.client, cluster.namespace, o.job)
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, kubernetes.Explain(err)
	}
	hint := "{hodei} jobs -n " + cluster.namespace
	if err != nil || !hasJob(secret, o.job) {
		return nil, &job.Hinted{Err: fmt.Errorf("job %q has no Secret in namespace %s", o.job, cluster.namespace), Hint: hint}
	}
	files := setup.SecretFiles(secret)
	if len(files) == 0 {
		return nil, &job.Hinted{
			Err:  fmt.Errorf("the Secret of job %q in namespace %s holds no certificates", o.job, cluster.namespace),
			Hint: hint,
		}
	}
	sets := []certSet{{files: files}}
	exec, err := setup.GetSecret(ctx, cluster.client, cluster.namespace, kubernetes.ExecName(o.job))
	switch {
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err): // most jobs have none, and it is not for all who attach
	case err != nil:
		return nil, kubernetes.Explain(err)
	case hasJob(exec, o.job):
		sets = append(sets, certSet{files: setup.SecretFiles(exec)})
	}
	return sets, nil
}

// hasJob reports whether a Secret belongs to a job, and not to somebody else.
func hasJob(secret *corev1.Secret, name string) bool {
	owner := metav1.GetControllerOf(secret)
	return owner != nil && owner.Kind == "Job" && owner.Name == name
}

// readSecrets reads the Secrets that apply stores, and returns a set for each namespace that has some.
func (o *inspectOptions) readSecrets(ctx context.Context) ([]certSet, error) {
	cluster, err := o.connect()
	if err != nil {
		return nil, err
	}
	var sets []certSet
	var looked []string
	for _, s := range setup.CertSecrets(cmp.Or(o.namespace, o.workers)) {
		if o.namespace != "" && o.namespace != s.Namespace {
			continue
		}
		if !slices.Contains(looked, s.Namespace) {
			looked, sets = append(looked, s.Namespace), append(sets, certSet{})
		}
		secret, err := setup.GetSecret(ctx, cluster.client, s.Namespace, s.Name)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, kubernetes.Explain(err)
		}
		set := &sets[slices.Index(looked, s.Namespace)]
		set.files = append(set.files, setup.SecretFiles(secret)...)
	}
	sets = slices.DeleteFunc(sets, func(s certSet) bool { return len(s.files) == 0 })
	if len(sets) == 0 {
		return nil, &job.Hinted{
			Err:  fmt.Errorf("there are no Secrets of certificates in %s", strings.Join(looked, " and ")),
			Hint: "{hodei} certs apply",
		}
	}
	return sets, nil
}

// print prints the certificates as a table, or as a document.
func (o *inspectOptions) print(facts []certs.Fact) error {
	if o.output == "json" || o.output == "yaml" {
		return o.printData(map[string][]certs.Fact{"certificates": facts}, o.output)
	}
	table := &metav1.Table{ColumnDefinitions: factColumns}
	for _, f := range facts {
		table.Rows = append(table.Rows, factRow(f, o.output == "wide"))
	}
	return printers.NewTablePrinter(printers.PrintOptions{Wide: o.output == "wide"}).PrintObj(table, o.Out)
}

var factColumns = []metav1.TableColumnDefinition{
	{Name: "Certificate", Type: "string", Format: "name"},
	{Name: "Kind", Type: "string"},
	{Name: "Names", Type: "string"},
	{Name: "Issuer", Type: "string"},
	{Name: "Begins", Type: "string"},
	{Name: "Ends", Type: "string"},
	{Name: "Days left", Type: "string"},
	{Name: "Key", Type: "string"},
	{Name: "Signed by", Type: "string"},
	{Name: "Status", Type: "string"},
	{Name: "Subject", Type: "string", Priority: 1},
	{Name: "Serial", Type: "string", Priority: 1},
}

// factRow returns the row of a certificate, with all of its names or only with the first.
func factRow(f certs.Fact, all bool) metav1.TableRow {
	or := func(s string) string {
		if s = ui.Printable(s); s == "" {
			return "-"
		}
		return s
	}
	status := "ok"
	if f.Warning != "" {
		status = f.Warning
	}
	if f.Problem != "" {
		status = f.Problem
	}
	if f.NotAfter.IsZero() { // there is no certificate
		return metav1.TableRow{Cells: []any{
			ui.Printable(f.Source), "-", "-", "-", "-", "-", "-", "-", "-", ui.Printable(status), "-", "-",
		}}
	}
	kind, names := "leaf", strings.Join(f.Names, ",")
	if f.CA {
		kind = "CA"
	}
	if n := len(f.Names) - 1; n > 0 && !all {
		names = fmt.Sprintf("%s and %d more", f.Names[0], n)
	}
	day := func(t time.Time) string { return t.Format("2006-01-02T15:04Z") }
	return metav1.TableRow{Cells: []any{
		ui.Printable(f.Source), kind, or(names), or(f.Issuer), day(f.NotBefore), day(f.NotAfter), fmt.Sprint(f.DaysLeft),
		or(f.Key), or(f.SignedBy), ui.Printable(status), or(f.Subject), or(f.Serial),
	}}
}
