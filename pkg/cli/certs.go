package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

func (a *app) newCerts() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "certs",
		Short: "Make the certificates of coordinator and workers",
		Long: templates.LongDesc(`
			Make the certificates by which coordinator and workers know each other.

			They are needed for a coordinator that stays, or for several people who share
			one. Without them every run makes a certificate authority of its own, in memory.`),
		Example: templates.Examples(`
			# Make them in ./certs
			hodei certs generate

			# Make them and store them in the cluster
			hodei certs generate --apply`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.newCertsGenerate())
	return cmd
}

func (a *app) newCertsGenerate() *cobra.Command {
	o := certsGenerateOptions{app: a}
	cmd := &cobra.Command{
		Use:                   "generate [--dir DIR] [--san NAME]... [--apply]",
		DisableFlagsInUseLine: true,
		Short:                 "Make a certificate authority, a server and a client certificate",
		Long: templates.LongDesc(`
			Make a certificate authority (ca.crt, ca.key), a server certificate (server.crt,
			server.key) and a client certificate (client.crt, client.key). Keys can be read
			by their owner alone, and what is there is not replaced without --force.

			The commands that store them in the cluster as Secrets are printed; with --apply
			they are stored at once. The authority's key goes to hodei-system alone.`),
		Example: templates.Examples(`
			# Make them in ./certs and print the kubectl commands that store them
			hodei certs generate

			# Make them and store them in the cluster
			hodei certs generate --apply

			# Make them for a server that is known by two names, for a year
			hodei certs generate --san hodei.example.com --san 192.0.2.7 --validity 8760h`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case cmd.Flags().Changed("namespace"):
				return usagef(cmd, "--namespace has no effect here: the Secrets' namespaces are %s and %s", deploy.SystemNamespace, deploy.WorkersNamespace)
			case o.Dir == "":
				return usagef(cmd, "--dir is empty")
			case cmd.Flags().Changed("validity") && o.Validity <= 0:
				return usagef(cmd, "--validity %s: must be more than zero", o.Validity)
			}
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Dir, "dir", "certs", "Directory of the files.")
	flags.StringArrayVar(&o.SANs, "san", nil, "Name or address of the server, in place of "+strings.Join(certs.DefaultSANs(), ", ")+"; may be repeated.")
	flags.DurationVar(&o.Validity, "validity", certs.DefaultValidity, "How long they are valid, in hours (h).")
	flags.BoolVar(&o.Force, "force", false, "Replace files that exist; what the old authority has signed is trusted no more.")
	flags.BoolVar(&o.apply, "apply", false, "Store them in the cluster as Secrets, in place of what is there.")
	return cmd
}

type certsGenerateOptions struct {
	*app
	certs.GenerateOptions
	apply bool
}

// certSecrets are the Secrets of the user's guide. A Pod can't mount one of
// another namespace, so the authority's certificate is in both.
var certSecrets = []struct {
	name, namespace string
	files           []string // keys, and names of files
}{
	{"hodei-ca-cert", deploy.SystemNamespace, []string{"ca.crt"}},
	{"hodei-ca-key", deploy.SystemNamespace, []string{"ca.key"}},
	{"hodei-server-cert", deploy.SystemNamespace, []string{"server.crt", "server.key"}},
	{"hodei-ca-cert", deploy.WorkersNamespace, []string{"ca.crt"}},
	{"hodei-client-cert", deploy.WorkersNamespace, []string{"client.crt", "client.key"}},
}

func (o *certsGenerateOptions) run(ctx context.Context) error {
	if !o.apply {
		if err := o.generate(); err != nil {
			return err
		}
		for _, s := range certSecrets {
			fmt.Fprintf(o.Out, "kubectl create secret generic %s", s.name)
			for _, file := range s.files {
				fmt.Fprintf(o.Out, " --from-file=%s", shellQuote(filepath.Join(o.Dir, file)))
			}
			fmt.Fprintf(o.Out, " -n %s\n", s.namespace)
		}
		return nil
	}

	config, err := restConfig(o.kube)
	if err != nil {
		return err
	}
	client, err := clientset.NewForConfig(config)
	if err != nil {
		return err
	}
	// First without the files: what the cluster refuses must not leave an
	// authority on the disk that stands in the way of the next try.
	if err := o.store(ctx, client, true); err != nil {
		return err
	}
	if err := o.generate(); err != nil {
		return err
	}
	return o.store(ctx, client, false)
}

// generate writes the files.
func (o *certsGenerateOptions) generate() error {
	files, err := certs.Generate(o.GenerateOptions)
	for _, file := range files {
		fmt.Fprintln(o.ErrOut, "wrote", file)
	}
	if errors.Is(err, certs.ErrExists) {
		return &hinted{err: err, hint: "to replace the certificates there: {hodei} certs generate --dir " + shellQuote(o.Dir) + " --force"}
	}
	return err
}

// store makes the Secrets, or asks the API server whether it would.
func (o *certsGenerateOptions) store(ctx context.Context, client clientset.Interface, dryRun bool) error {
	// Force takes over the fields of a Secret that kubectl create has made.
	how := metav1.ApplyOptions{FieldManager: fieldManager, Force: true}
	if dryRun {
		how.DryRun = []string{metav1.DryRunAll}
	}
	for _, s := range certSecrets {
		data := map[string][]byte{}
		for _, file := range s.files {
			if dryRun {
				data[file] = nil
				continue
			}
			content, err := os.ReadFile(filepath.Join(o.Dir, file))
			if err != nil {
				return err
			}
			data[file] = content
		}
		secret := applycorev1.Secret(s.name, s.namespace).
			WithLabels(map[string]string{"app.kubernetes.io/name": "hodei", "app.kubernetes.io/part-of": "hodei"}).
			WithData(data)
		_, err := client.CoreV1().Secrets(s.namespace).Apply(ctx, secret, how)
		switch {
		case apierrors.IsNotFound(err):
			return &hinted{err: fmt.Errorf("namespace %s does not exist", s.namespace), hint: "{hodei} install"}
		case apierrors.IsForbidden(err):
			return &hinted{err: kubernetes.Explain(err), hint: "without --apply, an administrator's commands are printed: {hodei} certs generate"}
		case err != nil:
			return kubernetes.Explain(err)
		}
		if !dryRun {
			fmt.Fprintf(o.Out, "secret/%s serverside-applied in %s\n", s.name, s.namespace)
		}
	}
	return nil
}

var shellSafe = regexp.MustCompile(`^[\w@%+=:,./-]+$`)

// shellQuote returns s as a shell takes it for one word.
func shellQuote(s string) string {
	if shellSafe.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
