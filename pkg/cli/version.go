package cli

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// version is set by the linker in a release:
// -X github.com/hodei-jobs/hodei/pkg/cli.version=v1.2.3.
var version string

// serverVersionTimeout is how long hodei version waits for a cluster: longer
// than a round trip over a slow VPN, shorter than a person's patience.
const serverVersionTimeout = 3 * time.Second

// newVersion makes the command; run is (*versionOptions).run, or a test's.
func newVersion(env *command.Env, run func(*versionOptions, context.Context) error) *cobra.Command {
	o := &versionOptions{Out: env.Out, ErrOut: env.ErrOut, cluster: env.ClusterConfig, printData: env.PrintData}
	cmd := &cobra.Command{
		Use:   "version [--client] [-o json|yaml]",
		Short: "Print the versions of hodei and of the cluster",
		Long: templates.LongDesc(`
			Print the versions of hodei and of the cluster that jobs go to. A cluster that does
			not answer within 3 seconds is left out.`),
		Example: templates.Examples(`
			# Print both versions
			hodei version

			# Print the version of hodei alone, for a script
			hodei version --client -o json`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]string{"", "json", "yaml"}, o.output) {
				return command.Usagef(cmd, "--output %q: want json or yaml", o.output)
			}
			return env.UntilSignal(cmd.Context(), signals.NextEndsUs, func(ctx context.Context) error { return run(o, ctx) })
		},
	}
	cmd.Flags().StringVarP(&o.output, "output", "o", "", "Output format: json or yaml (default: lines).")
	cmd.Flags().BoolVar(&o.client, "client", false, "Ask no cluster.")
	return cmd
}

// versionOptions is what one version prints, and what that needs.
type versionOptions struct {
	Out, ErrOut io.Writer
	output      string // json, yaml or, for lines, empty
	client      bool   // ask no cluster
	// cluster returns the way to the cluster that jobs go to.
	cluster func() (*rest.Config, error)
	// printData prints what is no Kubernetes object as json or yaml.
	printData func(v any, format string) error
}

// versions is what hodei version prints.
type versions struct {
	Client clientVersion  `json:"clientVersion"`
	Server *serverVersion `json:"serverVersion,omitempty"`
}

type clientVersion struct {
	Version   string `json:"version"`
	Commit    string `json:"commit,omitempty"`
	GoVersion string `json:"goVersion"`
	Platform  string `json:"platform"`
}

type serverVersion struct {
	Version  string `json:"version"`
	Platform string `json:"platform,omitempty"`
}

// run prints the versions. A cluster that does not answer is no error.
func (o *versionOptions) run(ctx context.Context) error {
	v := versions{Client: readClientVersion()}
	if !o.client {
		server, err := o.readServerVersion(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			fmt.Fprintln(o.ErrOut, "no cluster answers:", ui.Printable(err.Error()))
		}
		v.Server = server
	}
	if o.output != "" {
		return o.printData(v, o.output)
	}
	if err := printClientVersion(o.Out); err != nil {
		return err
	}
	if v.Server != nil {
		fmt.Fprintf(o.Out, "Server Version: %s\n", v.Server.Version)
	}
	return nil
}

// printClientVersion prints the line of hodei's own version.
func printClientVersion(out io.Writer) error {
	v := readClientVersion()
	_, err := fmt.Fprintf(out, "Client Version: %s (%s, %s)\n", v.Version, v.GoVersion, v.Platform)
	return err
}

// readClientVersion returns what the linker and the compiler noted in this program.
func readClientVersion() clientVersion {
	v := clientVersion{Version: version, GoVersion: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if v.Version == "" {
		v.Version = info.Main.Version
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			v.Commit = setting.Value
		}
	}
	return v
}

// readServerVersion asks the cluster for its version.
func (o *versionOptions) readServerVersion(ctx context.Context) (*serverVersion, error) {
	config, err := o.cluster()
	if err != nil {
		return nil, err
	}
	config.Timeout = serverVersionTimeout
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	info, err := client.ServerVersionWithContext(ctx)
	if err != nil {
		return nil, err
	}
	return &serverVersion{Version: ui.Printable(info.GitVersion), Platform: ui.Printable(info.Platform)}, nil
}
