package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/printers"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/kubectl/pkg/util/templates"
	"sigs.k8s.io/yaml"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

func (a *app) newCertsInspect() *cobra.Command {
	o := certsInspectOptions{app: a}
	cmd := &cobra.Command{
		Use:                   "inspect [FILE|DIR]... | --secrets | --job NAME [-o wide|json|yaml]",
		DisableFlagsInUseLine: true,
		Short:                 "Show whether certificates are in order, and until when",
		Long: templates.LongDesc(`
			Show what certificates are for, when they begin and end, whether the private key
			beside them is theirs, and which authority signed them: those of files and
			directories, ./certs by default, those that 'hodei certs apply' has stored, or
			those of a job.

			A certificate X.crt is compared with X.key and ca.crt of the same directory or
			namespace, as far as they are there.

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
			o.paths = args
			switch {
			case len(args) > 0 && (o.secrets || o.job != ""), o.secrets && o.job != "":
				return usagef(cmd, "FILE, --secrets and --job exclude each other")
			case cmd.Flags().Changed("job") && o.job == "":
				return usagef(cmd, "--job is empty")
			case !slices.Contains([]string{"", "wide", "json", "yaml"}, o.output):
				return usagef(cmd, "-o %q: want wide, json or yaml", o.output)
			case !o.secrets && o.job == "":
				if err := a.noCluster(cmd); err != nil {
					return err
				}
			}
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.secrets, "secrets", false, "Show the Secrets of hodei-system and the workers' namespace, or of that of -n.")
	flags.StringVar(&o.job, "job", "", "Show the Secret of this job.")
	flags.StringVarP(&o.output, "output", "o", "", "wide: all columns. json or yaml: all that is known, under certificates.")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"wide", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("job", a.completeJob)
	return cmd
}

type certsInspectOptions struct {
	*app
	paths   []string
	secrets bool
	job     string
	output  string
}

func (o *certsInspectOptions) run(ctx context.Context) error {
	var facts []certs.Fact
	sets, err := o.read(ctx)
	if err != nil {
		return err
	}
	for _, set := range sets {
		for _, f := range certs.Inspect(set.files, time.Now()) {
			if set.only == "" || f.Source == set.only {
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

// certSet are files that belong together, of which one or all are asked for.
type certSet struct {
	files []certs.File
	only  string // its source
}

func (o *certsInspectOptions) read(ctx context.Context) ([]certSet, error) {
	switch {
	case o.job != "":
		return o.readJob(ctx)
	case o.secrets:
		return o.readSecrets(ctx)
	}
	paths := o.paths
	if len(paths) == 0 {
		paths = []string{defaultCertsDir}
	}
	var sets []certSet
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, os.ErrNotExist) && len(o.paths) == 0:
			return nil, &hinted{err: errors.New("there is no directory certs here"), hint: "{hodei} certs generate, {hodei} certs inspect DIR or {hodei} certs inspect --secrets"}
		case err == nil && info.IsDir():
			files, err := certs.ReadDir(path)
			if err != nil {
				return nil, err
			}
			sets = append(sets, certSet{files: files})
		default: // what is wrong with it is told as of any other
			sets = append(sets, certSet{files: certs.ReadFile(path), only: path})
		}
	}
	return sets, nil
}

// readJob reads the Secret of a job.
func (o *certsInspectOptions) readJob(ctx context.Context) ([]certSet, error) {
	_, chosen, err := o.chooseCluster("")
	if err != nil {
		return nil, err
	}
	client, err := o.client()
	if err != nil {
		return nil, err
	}
	files, err := secretFiles(ctx, client, chosen.Namespace, o.job)
	if apierrors.IsNotFound(err) {
		return nil, &hinted{err: fmt.Errorf("job %q has no Secret in namespace %s", o.job, chosen.Namespace), hint: "{hodei} jobs -n " + chosen.Namespace}
	}
	if err != nil {
		return nil, kubernetes.Explain(err)
	}
	return []certSet{{files: files}}, nil
}

// readSecrets reads those that apply has stored; those of a namespace belong together.
func (o *certsInspectOptions) readSecrets(ctx context.Context) ([]certSet, error) {
	client, err := o.client()
	if err != nil {
		return nil, err
	}
	namespaces := []string{deploy.SystemNamespace, deploy.WorkersNamespace}
	if n := *o.kube.Namespace; n != "" {
		namespaces = []string{n}
	}
	var sets []certSet
	for _, namespace := range namespaces {
		var set certSet
		for _, name := range []string{"hodei-ca-cert", "hodei-ca-key", "hodei-server-cert", "hodei-client-cert"} {
			files, err := secretFiles(ctx, client, namespace, name)
			if err != nil && !apierrors.IsNotFound(err) {
				return nil, kubernetes.Explain(err)
			}
			set.files = append(set.files, files...)
		}
		if len(set.files) > 0 {
			sets = append(sets, set)
		}
	}
	if len(sets) == 0 {
		return nil, &hinted{err: fmt.Errorf("there are no Secrets of certificates in %s", strings.Join(namespaces, " and ")), hint: "{hodei} certs apply"}
	}
	return sets, nil
}

func (a *app) client() (clientset.Interface, error) {
	config, err := restConfig(a.kube)
	if err != nil {
		return nil, err
	}
	return clientset.NewForConfig(config)
}

// secretFiles reads one Secret. The error is the API server's.
func secretFiles(ctx context.Context, client clientset.Interface, namespace, name string) ([]certs.File, error) {
	ctx, cancel := context.WithTimeout(ctx, secretTimeout)
	defer cancel()
	secret, err := client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	var files []certs.File
	for _, key := range []string{"ca.crt", "ca.key", "server.crt", "server.key", "client.crt", "client.key"} {
		if data, ok := secret.Data[key]; ok {
			files = append(files, certs.File{Name: key, Source: namespace + "/" + name + "/" + key, Data: data})
		}
	}
	return files, nil
}

// secretTimeout bounds one request for a Secret.
const secretTimeout = 30 * time.Second

func (o *certsInspectOptions) print(facts []certs.Fact) error {
	document := struct {
		Certificates []certs.Fact `json:"certificates"`
	}{facts}
	switch o.output {
	case "json":
		e := json.NewEncoder(o.Out)
		e.SetIndent("", "    ")
		return e.Encode(document)
	case "yaml":
		text, err := yaml.Marshal(document)
		if err == nil {
			_, err = o.Out.Write(text)
		}
		return err
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

// factRow is a certificate in a table; all tells all of its names.
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
		return metav1.TableRow{Cells: []any{ui.Printable(f.Source), "-", "-", "-", "-", "-", "-", "-", "-", ui.Printable(status), "-", "-"}}
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
