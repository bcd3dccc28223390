package certs

import (
	"context"
	"errors"
	"fmt"
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
)

func newCertsApply(a *command.Env) *cobra.Command {
	o := certsApplyOptions{Env: a, dryRun: command.DryRunNone}
	print := genericclioptions.NewPrintFlags("serverside-applied")
	cmd := &cobra.Command{
		Use:                   "apply [--dir DIR] [--dry-run=none|client|server] [-o yaml|json|name]",
		DisableFlagsInUseLine: true,
		Short:                 "Store the certificates of a directory in the cluster",
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
			switch {
			case cmd.Flags().Changed("namespace"):
				return command.Usagef(cmd, "--namespace has no effect here: the namespaces are %s and that of --workers-namespace", deploy.SystemNamespace)
			case o.dir == "":
				return command.Usagef(cmd, "--dir is empty")
			case o.workers == "":
				return command.Usagef(cmd, "--workers-namespace is empty")
			}
			done, ok := map[string]string{command.DryRunNone: "", command.DryRunClient: " (dry run)", command.DryRunServer: " (server dry run)"}[o.dryRun]
			if !ok {
				return command.Usagef(cmd, "--dry-run %q: want %s, %s or %s", o.dryRun, command.DryRunNone, command.DryRunClient, command.DryRunServer)
			}
			inState := command.StatePrinters(print)
			o.newPrinter = func(namespace string) (printers.ResourcePrinter, error) {
				return inState("%s in " + namespace + done)
			}
			if _, err := o.newPrinter(""); err != nil {
				return command.Usagef(cmd, "%w", err)
			}
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.dir, "dir", place.CertsDir, "Directory of the files.")
	flags.StringVar(&o.workers, "workers-namespace", deploy.WorkersNamespace, "Namespace of the workers.")
	flags.StringVar(&o.dryRun, "dry-run", o.dryRun, "none, client (print only) or server (validate on the server, store nothing).")
	flags.Lookup("dry-run").NoOptDefVal = command.DryRunClient
	print.AddFlags(cmd)
	return cmd
}

type certsApplyOptions struct {
	*command.Env
	dir, workers, dryRun string
	// newPrinter is of Secrets of one namespace.
	newPrinter func(namespace string) (printers.ResourcePrinter, error)
}

func (o *certsApplyOptions) run(ctx context.Context) error {
	data, err := o.read()
	if err != nil {
		return err
	}
	var client clientset.Interface
	if o.dryRun != command.DryRunClient {
		if err := o.NameCluster("into", o.dryRun == command.DryRunNone); err != nil {
			return err
		}
		if client, err = o.Client(); err != nil {
			return err
		}
		if o.dryRun == command.DryRunNone { // all or nothing, as far as can be known
			if err := o.each(ctx, data, client, true, func(*corev1.Secret) error { return nil }); err != nil {
				return err
			}
		}
	}
	return o.each(ctx, data, client, o.dryRun == command.DryRunServer, func(secret *corev1.Secret) error {
		masked, err := maskKeys(secret)
		if err != nil {
			return err
		}
		print, err := o.newPrinter(secret.Namespace)
		if err != nil {
			return err
		}
		return print.PrintObj(masked, o.Out)
	})
}

// read returns the files by their names. What is wrong with one of them must not
// reach the cluster, where workers would stumble over it.
func (o *certsApplyOptions) read() (map[string][]byte, error) {
	files, err := certs.ReadDir(o.dir)
	if err != nil {
		return nil, &job.Hinted{Err: err, Hint: "{hodei} certs generate --dir " + shell.Quote(o.dir)}
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
				return nil, &job.Hinted{Err: fmt.Errorf("%s: no such file", filepath.Join(o.dir, name)), Hint: "{hodei} certs generate --dir " + shell.Quote(o.dir)}
			}
			data[name], ours = files[i].Data, append(ours, files[i])
		}
	}
	for _, f := range certs.Inspect(ours, time.Now()) {
		if f.Problem != "" {
			return nil, &job.Hinted{Err: fmt.Errorf("%s: %s", f.Source, f.Problem), Hint: "{hodei} certs inspect " + shell.Quote(o.dir)}
		}
	}
	return data, nil
}

// each applies the Secrets, or with a dry run has the API server check them, and
// with no client only makes them.
func (o *certsApplyOptions) each(ctx context.Context, data map[string][]byte, client clientset.Interface, dryRun bool, done func(*corev1.Secret) error) error {
	// Force takes over the fields of a Secret that kubectl create has made.
	how := metav1.ApplyOptions{FieldManager: setup.FieldManager, Force: true}
	if dryRun {
		how.DryRun = []string{metav1.DryRunAll}
	}
	for _, s := range setup.CertSecrets(o.workers) {
		content := map[string][]byte{}
		for _, file := range s.Files {
			if d, ok := data[file]; ok {
				content[file] = d
			}
		}
		if len(content) == 0 {
			if !dryRun {
				fmt.Fprintf(o.ErrOut, "secret/%s in %s is left as it is: there is no %s\n", s.Name, s.Namespace, filepath.Join(o.dir, s.Files[0]))
			}
			continue
		}
		labels := map[string]string{"app.kubernetes.io/name": "hodei", "app.kubernetes.io/part-of": "hodei"}
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: s.Name, Namespace: s.Namespace, Labels: labels}, Data: content}
		if client != nil {
			applying, cancel := context.WithTimeout(ctx, setup.SecretTimeout)
			applied, err := client.CoreV1().Secrets(s.Namespace).Apply(applying,
				applycorev1.Secret(s.Name, s.Namespace).WithLabels(labels).WithData(content), how)
			cancel()
			if err != nil {
				return explainApply(s, err)
			}
			secret = applied
		}
		secret.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
		if err := done(secret); err != nil {
			return err
		}
	}
	return nil
}

func explainApply(s setup.CertSecret, err error) error {
	switch {
	case apierrors.IsNotFound(err):
		return &job.Hinted{Err: fmt.Errorf("namespace %s does not exist", s.Namespace), Hint: kubernetes.InstallCommand(s.Namespace)}
	case apierrors.IsForbidden(err):
		return &job.Hinted{Err: kubernetes.Explain(err), Hint: "an administrator has to do this: {hodei} certs apply"}
	}
	return kubernetes.Explain(err)
}

// maskKeys is a Secret as it is shown: an output ends up in tickets and pipelines.
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
