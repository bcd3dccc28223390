package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/cli-runtime/pkg/resource"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// fieldManager is the name under which the API server keeps which fields are
// ours. install.sh uses the same, so that either can follow the other.
const fieldManager = "hodei"

// Values of --dry-run, which are kubectl's.
const (
	dryRunNone   = "none"
	dryRunClient = "client" // show what would be sent
	dryRunServer = "server" // let the API server check it, and store nothing
)

func (a *app) newInstall() *cobra.Command {
	dryRun := dryRunNone
	print := genericclioptions.NewPrintFlags("serverside-applied")
	cmd := &cobra.Command{
		Use:                   "install [--dry-run=none|client|server] [-o yaml|json|name]",
		DisableFlagsInUseLine: true,
		Short:                 "Put what jobs need into a cluster",
		Long: templates.LongDesc(`
			Put what jobs need into the cluster of the current context: the namespaces
			hodei-system and hodei-jobs-workers, the workers' service account and role,
			the role hodei-user for people, and the workers' network policy.

			It may be run again at any time: it applies the same manifests as
			deploy/kubernetes/install.sh, on the server's side, and changes no field that
			somebody else has set.`),
		Example: templates.Examples(`
			# Install into the cluster of the current context
			hodei install

			# Read all that it would do, without touching a cluster
			hodei install --dry-run=client -o yaml

			# Let the API server check it, and store nothing
			hodei install --dry-run=server`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("namespace") {
				return usagef(cmd, "--namespace has no effect here: the namespaces are %s and %s", deploy.SystemNamespace, deploy.WorkersNamespace)
			}
			o := installOptions{
				IOStreams:  a.IOStreams,
				kube:       a.kube,
				dryRun:     dryRun,
				newPrinter: func(state string) (printers.ResourcePrinter, error) { return printer(print, state) },
			}
			switch dryRun {
			case dryRunNone, dryRunClient, dryRunServer:
			default:
				return usagef(cmd, "--dry-run %q: want %s, %s or %s", dryRun, dryRunNone, dryRunClient, dryRunServer)
			}
			if _, err := o.newPrinter("%s"); err != nil {
				return usagef(cmd, "%w", err)
			}
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&dryRun, "dry-run", dryRun, "What not to do: none does all, client only shows the objects, server has them checked and not stored.")
	print.AddFlags(cmd)
	return cmd
}

// printer prints objects as -o says, or as a line in which state, with one %s,
// surrounds what has been done.
func printer(flags *genericclioptions.PrintFlags, state string) (printers.ResourcePrinter, error) {
	copied, names := *flags, *flags.NamePrintFlags
	copied.NamePrintFlags = &names
	if err := copied.Complete(state); err != nil {
		return nil, err
	}
	return copied.ToPrinter()
}

type installOptions struct {
	genericiooptions.IOStreams
	kube       genericclioptions.RESTClientGetter
	dryRun     string
	newPrinter func(state string) (printers.ResourcePrinter, error)
}

func (o installOptions) run(ctx context.Context) error {
	builder := resource.NewBuilder(o.kube).Unstructured().Flatten()
	if o.dryRun == dryRunClient {
		builder = builder.Local()
	} else if err := o.reach(ctx); err != nil {
		return err
	}
	for _, manifest := range deploy.Manifests {
		builder = builder.Stream(strings.NewReader(manifest), "manifest")
	}
	infos, err := builder.Do().Infos()
	if err != nil {
		return kubernetes.Explain(err)
	}
	done, err := o.newPrinter(map[string]string{dryRunNone: "%s", dryRunClient: "%s (dry run)", dryRunServer: "%s (server dry run)"}[o.dryRun])
	if err != nil {
		return err
	}
	unchecked, err := o.newPrinter("%s (dry run: not checked, its namespace does not exist yet)")
	if err != nil {
		return err
	}
	for _, info := range infos {
		if err := ctx.Err(); err != nil {
			return err
		}
		object, print := info.Object, done
		if o.dryRun != dryRunClient {
			applied, err := o.apply(info)
			switch {
			case err == nil:
				object = applied
			case o.dryRun == dryRunServer && apierrors.IsNotFound(err) && info.Namespaced():
				print = unchecked
			default:
				return explainInstall(info, err)
			}
		}
		if err := print.PrintObj(object, o.Out); err != nil {
			return err
		}
	}
	return nil
}

// explainInstall says what could not be applied, and what to do about it.
func explainInstall(info *resource.Info, err error) error {
	explained := fmt.Errorf("install %s %s: %w", strings.ToLower(info.Mapping.GroupVersionKind.Kind), info.Name, kubernetes.Explain(err))
	switch {
	case apierrors.IsForbidden(err):
		return &hinted{err: explained, hint: "an administrator has to apply this: {hodei} install --dry-run=client -o yaml"}
	case apierrors.IsConflict(err):
		return &hinted{err: explained, hint: "to take over what another tool has set: deploy/kubernetes/install.sh --force-conflicts"}
	}
	return explained
}

// reach asks the API server for anything, because an error of the discovery that
// the builder begins with has lost what it was.
func (o installOptions) reach(ctx context.Context) error {
	config, err := restConfig(o.kube)
	if err != nil {
		return err
	}
	client, err := clientset.NewForConfig(config)
	if err != nil {
		return err
	}
	if err := client.RESTClient().Get().AbsPath("/version").Do(ctx).Error(); err != nil {
		return kubernetes.Explain(err)
	}
	return nil
}

// restConfig is the way to the cluster that the kube flags, the environment and
// the kubeconfig mean. Where none of them means any, kubectl would go on to
// localhost:8080 and complain of that.
func restConfig(kube genericclioptions.RESTClientGetter) (*rest.Config, error) {
	config, err := kube.ToRESTConfig()
	if err != nil {
		return nil, kubernetes.Explain(err)
	}
	raw, err := kube.ToRawKubeConfigLoader().RawConfig()
	if err == nil && len(raw.Clusters) == 0 && config.Host == clientcmd.ClusterDefaults.Server {
		return nil, kubernetes.Explain(clientcmd.ErrEmptyConfig)
	}
	return config, nil
}

func (o installOptions) apply(info *resource.Info) (runtime.Object, error) {
	data, err := json.Marshal(info.Object)
	if err != nil {
		return nil, err
	}
	return resource.NewHelper(info.Client, info.Mapping).
		DryRun(o.dryRun == dryRunServer).
		WithFieldManager(fieldManager).
		Patch(info.Namespace, info.Name, types.ApplyPatchType, data, &metav1.PatchOptions{})
}
