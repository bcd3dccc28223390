package certs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/setup"
	"github.com/hodei-jobs/hodei/pkg/shell"
	"github.com/hodei-jobs/hodei/pkg/signals"
)

// newApply makes the command; run is (*applyOptions).run, or a test's.
func newApply(env *command.Env, run func(*applyOptions, context.Context) error) *cobra.Command {
	o := &applyOptions{
		Out: env.Out, ErrOut: env.ErrOut, dryRun: command.DryRunNone, nameCluster: env.NameCluster, connect: env.Client,
	}
	printFlags := genericclioptions.NewPrintFlags("serverside-applied")
	cmd := &cobra.Command{
		Use:   "apply [--dir DIR] [--dry-run=none|client|server] [-o yaml|json|name]",
		Short: "Store the certificates of a directory in the cluster",
		Long: templates.LongDesc(`
			Store the certificates of 'hodei certs generate' as Secrets: hodei-ca-cert in
			hodei-system and in the workers' namespace, hodei-ca-key and hodei-server-cert in
			hodei-system alone, hodei-client-cert in the workers' namespace. The cluster is that
			of the provider in use, else of the current context; hodei names it first. It may be
			run again at any time.

			The files are checked beforehand, as by 'hodei certs inspect'. A directory without
			ca.key leaves hodei-ca-key as it is.

			Private keys are never printed: -o shows *** in their place, which no API server
			takes for a Secret's data.`),
		Example: templates.Examples(`
			# Store what is in ./certs
			hodei certs apply

			# See what would be stored, without touching a cluster
			hodei certs apply --dry-run=client -o yaml`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.complete(cmd, printFlags); err != nil {
				return err
			}
			return env.UntilSignal(cmd.Context(), signals.NextEndsUs, func(ctx context.Context) error { return run(o, ctx) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.dir, "dir", place.CertsDir, "Directory of the files.")
	flags.StringVar(&o.workers, "workers-namespace", deploy.WorkersNamespace, "Namespace of the workers.")
	flags.StringVar(&o.dryRun, "dry-run", o.dryRun,
		"none, client (print only) or server (validate on the server, store nothing).")
	flags.Lookup("dry-run").NoOptDefVal = command.DryRunClient
	printFlags.AddFlags(cmd)
	return cmd
}

// applyOptions is what one apply stores, and what that needs.
type applyOptions struct {
	Out, ErrOut io.Writer
	dir         string // of the files
	workers     string // namespace
	dryRun      string // a value of --dry-run
	// newPrinter makes a printer of Secrets of one namespace.
	newPrinter func(namespace string) (printers.ResourcePrinter, error)
	// nameCluster chooses the cluster and, if acts, says after verb which it is.
	nameCluster func(verb string, acts bool) error
	// connect returns a client of the chosen cluster.
	connect func() (clientset.Interface, error)
}

// complete checks what was typed, and turns it into options.
func (o *applyOptions) complete(cmd *cobra.Command, printFlags *genericclioptions.PrintFlags) error {
	switch {
	case cmd.Flags().Changed("namespace"):
		return command.Usagef(cmd, "--namespace has no effect here: the namespaces are %s and that of --workers-namespace",
			deploy.SystemNamespace)
	case o.dir == "":
		return command.Usagef(cmd, "--dir is empty")
	case o.workers == "":
		return command.Usagef(cmd, "--workers-namespace is empty")
	}
	if err := command.CheckDryRun(cmd, o.dryRun); err != nil {
		return err
	}
	inState := command.StatePrinters(printFlags)
	o.newPrinter = func(namespace string) (printers.ResourcePrinter, error) {
		return inState("%s in " + namespace + command.DryRunNote[o.dryRun])
	}
	if _, err := o.newPrinter(""); err != nil {
		return command.Usagef(cmd, "%w", err)
	}
	return nil
}

// run stores the Secrets and prints each. The API server first checks all of them, so that, as far as can be known,
// all are stored or none.
func (o *applyOptions) run(ctx context.Context) error {
	files, err := o.read()
	if err != nil {
		return err
	}
	secrets := makeSecrets(o.workers, files)
	if o.dryRun == command.DryRunClient {
		return o.each(secrets, func(secret *corev1.Secret) (*corev1.Secret, error) { return secret, nil })
	}
	if err := o.nameCluster("into", o.dryRun == command.DryRunNone); err != nil {
		return err
	}
	client, err := o.connect()
	if err != nil {
		return err
	}
	check := func(secret *corev1.Secret) (*corev1.Secret, error) {
		return store(ctx, client, secret, metav1.DryRunAll)
	}
	if o.dryRun == command.DryRunServer {
		return o.each(secrets, check)
	}
	for _, secret := range secrets {
		if len(secret.Data) == 0 {
			continue
		}
		if _, err := check(secret); err != nil {
			return err
		}
	}
	return o.each(secrets, func(secret *corev1.Secret) (*corev1.Secret, error) { return store(ctx, client, secret) })
}

// read returns the contents of the files by their names. It checks them first: what is wrong with one of them would
// be found by workers only.
func (o *applyOptions) read() (map[string][]byte, error) {
	generate := "{hodei} certs generate --dir " + shell.Quote(o.dir)
	files, err := certs.ReadDir(o.dir)
	if err != nil {
		return nil, &job.Hinted{Err: err, Hint: generate}
	}
	data := map[string][]byte{}
	var ours []certs.File
	for _, s := range setup.CertSecrets(o.workers) {
		for _, name := range s.Files {
			i := slices.IndexFunc(files, func(f certs.File) bool { return f.Name == name })
			if _, known := data[name]; known || i < 0 && name == "ca.key" {
				continue
			}
			if i < 0 {
				return nil, &job.Hinted{Err: fmt.Errorf("%s: no such file", filepath.Join(o.dir, name)), Hint: generate}
			}
			data[name], ours = files[i].Data, append(ours, files[i])
		}
	}
	for _, f := range certs.Inspect(ours, time.Now()) {
		if f.Problem != "" {
			return nil, &job.Hinted{
				Err:  fmt.Errorf("%s: %s", f.Source, f.Problem),
				Hint: "{hodei} certs inspect " + shell.Quote(o.dir),
			}
		}
	}
	return data, nil
}

// makeSecrets returns the Secrets that hold files. One has no data: that of ca.key, if there is no such file.
func makeSecrets(workers string, files map[string][]byte) []*corev1.Secret {
	var secrets []*corev1.Secret
	for _, s := range setup.CertSecrets(workers) {
		secret := &corev1.Secret{Data: map[string][]byte{}, ObjectMeta: metav1.ObjectMeta{
			Name: s.Name, Namespace: s.Namespace,
			Labels: map[string]string{"app.kubernetes.io/name": "hodei", "app.kubernetes.io/part-of": "hodei"},
		}}
		for _, name := range s.Files {
			if data, ok := files[name]; ok {
				secret.Data[name] = data
			}
		}
		secrets = append(secrets, secret)
	}
	return secrets
}

// each stores the secrets that have data, and prints what store returned.
func (o *applyOptions) each(secrets []*corev1.Secret, store func(*corev1.Secret) (*corev1.Secret, error)) error {
	for _, secret := range secrets {
		if len(secret.Data) == 0 {
			if o.dryRun != command.DryRunServer {
				fmt.Fprintf(o.ErrOut, "secret/%s in %s is left as it is: there is no %s\n",
					secret.Name, secret.Namespace, filepath.Join(o.dir, "ca.key"))
			}
			continue
		}
		stored, err := store(secret)
		if err != nil {
			return err
		}
		if err := o.print(stored); err != nil {
			return err
		}
	}
	return nil
}

// store applies secret, and returns it as the API server has it then. It takes over fields that others have set,
// such as those of a Secret that kubectl create made.
func store(ctx context.Context, client clientset.Interface, secret *corev1.Secret, dryRun ...string) (*corev1.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, setup.SecretTimeout)
	defer cancel()
	want := applycorev1.Secret(secret.Name, secret.Namespace).WithLabels(secret.Labels).WithData(secret.Data)
	how := metav1.ApplyOptions{FieldManager: setup.FieldManager, Force: true, DryRun: dryRun}
	stored, err := client.CoreV1().Secrets(secret.Namespace).Apply(ctx, want, how)
	if err != nil {
		return nil, explainStore(secret.Namespace, err)
	}
	return stored, nil
}

// explainStore says why a Secret of namespace could not be stored.
func explainStore(namespace string, err error) error {
	switch {
	case apierrors.IsNotFound(err):
		return &job.Hinted{Err: fmt.Errorf("namespace %s does not exist", namespace), Hint: kubernetes.InstallCommand(namespace)}
	case apierrors.IsForbidden(err):
		return &job.Hinted{Err: kubernetes.Explain(err), Hint: "an administrator has to do this: {hodei} certs apply"}
	}
	return kubernetes.Explain(err)
}

// print prints a Secret without its private keys.
func (o *applyOptions) print(secret *corev1.Secret) error {
	secret.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	masked, err := maskKeys(secret)
	if err != nil {
		return err
	}
	printer, err := o.newPrinter(secret.Namespace)
	if err != nil {
		return err
	}
	return printer.PrintObj(masked, o.Out)
}

// maskKeys returns secret with *** in place of private keys, because output ends up in tickets and pipelines.
func maskKeys(secret *corev1.Secret) (runtime.Object, error) {
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(secret)
	if err != nil {
		return nil, err
	}
	masked := &unstructured.Unstructured{Object: object}
	masked.SetManagedFields(nil)
	data, ok := object["data"].(map[string]any)
	if !ok {
		return nil, errors.New("a Secret without data")
	}
	for name := range data {
		if filepath.Ext(name) == ".key" {
			data[name] = "***"
		}
	}
	return masked, nil
}
