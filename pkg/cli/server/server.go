// Package server is the command hodei server: it keeps a coordinator and an HTTP API for providers running on this
// machine. Start with [New]. [Options.Run] listens, serves and logs; the API itself is the module's own package server,
// the coordinator is package coordinator, and the figures for Prometheus are package exporter's.
package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/internal/httpserve"
	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/exporter"
	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/server"
	"github.com/hodei-jobs/hodei/pkg/shell"
	"github.com/hodei-jobs/hodei/pkg/signals"
)

// New makes the command; run is (*Options).Run, or a test's.
func New(env *command.Env, run func(*Options, context.Context) error) *cobra.Command {
	o := &Options{ErrOut: env.ErrOut, program: env.Name, named: env.Named, home: env.Home(), cluster: clusterOf(env)}
	cmd := &cobra.Command{
		Use:   "server [--listen ADDRESS] [--grpc-listen ADDRESS] [--certs-dir DIR]",
		Short: "Keep a coordinator running, with an HTTP API for providers",
		Long: templates.LongDesc(`
			Keep a coordinator running, with an HTTP API that registers providers in the same
			file as 'hodei provider'; 'hodei run' uses them.

			The agents of 'hodei run' connect to that run and to no server. The server is for
			agents that you start yourself. Each needs a certificate of its job, signed by the
			authority of 'hodei certs generate'; no command issues these by itself. The output of
			their jobs is stored on this machine, where 'hodei logs' finds it.

			The HTTP API asks nobody who they are, so it listens on loopback alone, refuses what a
			web page could send, and puts no provider in use: every account of this machine can
			add and remove providers. SIGINT and SIGTERM end the server; attached agents keep
			their output, and attach again.`),
		Example: templates.Examples(`
			# Serve the HTTP API
			hodei server

			# Serve agents too, with the certificates of ./certs
			hodei certs generate && hodei server

			# Register a provider, and put it in use
			curl -X POST http://localhost:8080/api/providers -H "Content-Type: application/json" \
			  -d '{"type":"kubernetes","name":"k8s-local","config":{"namespace":"hodei-jobs-workers"}}'
			hodei provider use k8s-local

			# Let agents of other machines dial it
			hodei server --grpc-listen 0.0.0.0:50051`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			return env.UntilSignal(cmd.Context(), signals.NextEndsUs, func(ctx context.Context) error { return run(o, ctx) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.listen, "listen", "127.0.0.1:8080",
		"Address of the HTTP API: 127.0.0.1, ::1 or localhost, and a port.")
	flags.StringVar(&o.grpcListen, "grpc-listen", "127.0.0.1:50051", "Address that agents dial, with mutual TLS.")
	command.MetricsFlag(cmd, &o.metricsAddr)
	flags.StringVar(&o.certsDir, "certs-dir", "", "Directory of 'hodei certs generate', read again at every connection. "+
		"Default: ./certs or $XDG_CONFIG_HOME/hodei/certs if hodei made them and they are yours; else agents are not served.")
	return cmd
}

// clusterOf returns a func that returns the cluster of env's kubeconfig as it is then.
func clusterOf(env *command.Env) func() (provider.Config, error) {
	return func() (provider.Config, error) {
		c := provider.Config{Context: *env.Kube.Context, Kubeconfig: *env.Kube.KubeConfig}
		err := env.CaptureContext(&c)
		return c, err
	}
}

// Options is where one server listens, and what it needs.
type Options struct {
	ErrOut      io.Writer // of the log
	listen      string    // address of the HTTP API
	grpcListen  string    // address that agents dial
	grpcAsked   bool      // grpcListen was given, so there have to be certificates
	metricsAddr string    // address of the figures for Prometheus; empty: none
	certsDir    string    // empty: one of hodei's own, if there is one
	program     string    // as it is typed
	// named makes a hint ready to be typed.
	named func(hint string) string
	// home is where providers, certificates and output of this machine are.
	home *place.Home
	// cluster returns the cluster of the kubeconfig, in Context and Kubeconfig.
	cluster func() (provider.Config, error)
}

// check checks what was typed.
func (o *Options) check(cmd *cobra.Command) error {
	if err := checkLoopback(o.listen); err != nil {
		return command.Usagef(cmd, "--listen %w", err)
	}
	if _, _, err := net.SplitHostPort(o.grpcListen); err != nil {
		return command.Usagef(cmd, "--grpc-listen %q: want HOST:PORT", o.grpcListen)
	}
	o.grpcAsked = cmd.Flags().Changed("grpc-listen")
	var err error
	o.metricsAddr, err = command.MetricsAddress(cmd, o.metricsAddr)
	return err
}

// checkLoopback refuses an address that other machines can reach. It refuses other addresses of loopback too, because
// the API refuses them as the Host of a request.
func checkLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q: want HOST:PORT", address)
	}
	if !server.ListensOn(host) {
		return fmt.Errorf("%q: the API asks nobody who they are, so it listens on loopback alone: "+
			"want 127.0.0.1, ::1 or localhost", address)
	}
	return nil
}

// Run serves until ctx ends, and returns nil then; or until one of its addresses fails.
func (o *Options) Run(ctx context.Context) error {
	registry, err := o.home.ProvidersPath()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(o.ErrOut, nil))
	files, tls, err := o.findCerts(log)
	if err != nil {
		return err
	}
	k, err := openKeeper(o.home, log)
	if err != nil {
		return err
	}
	defer k.close()
	k.files, k.tls = files, tls
	l, err := o.openListeners(tls != nil)
	if err != nil {
		return err
	}
	if l.metrics != nil {
		k.exporter = exporter.New()
	}
	agents := &coordinator.Hub{TLS: tls, Open: k.open, TurnedAway: k.turnedAway.tell, MetricsInterval: follow.UnwatchedEvery}
	api := &server.Server{
		Registry: registry, Complete: o.completer(), Program: o.program, Log: log,
		Health: func() error { return k.health(agents) },
	}
	o.logAddresses(log, l, k.store.Dir)
	all := &servers{listeners: l, api: api, agents: agents, figures: k.exporter}
	return all.serve(ctx, log)
}

// findCerts returns the server's certificate from certsDir, else from a directory of hodei's own. Without one the
// config is nil, and the server does not listen for agents: none could attach.
func (o *Options) findCerts(log *slog.Logger) (files certs.ServerFiles, config *tls.Config, err error) {
	dir := o.certsDir
	if dir == "" {
		var passed []place.PassedCerts
		dir, passed = o.home.FoundCerts()
		for _, p := range passed {
			log.Warn("certificates not used", "directory", p.Dir, "reason", p.Why,
				"hint", o.named("{hodei} server --certs-dir "+shell.Quote(p.Dir)))
		}
	}
	switch {
	case dir == "" && o.grpcAsked:
		return files, nil, &job.Hinted{
			Err:  errors.New("--grpc-listen takes certificates, and there are none in " + strings.Join(o.home.CertsDirs(), " or ")),
			Hint: "{hodei} certs generate",
		}
	case dir == "":
		return files, nil, nil
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	files = certs.ServerFiles{CA: path("ca.crt"), Cert: path("server.crt"), Key: path("server.key")}
	if config, err = files.ServerConfig(); err != nil {
		return files, nil, &job.Hinted{
			Err:  err,
			Hint: "see what is wrong with them, or make them anew: {hodei} certs generate --force --dir " + shell.Quote(dir),
		}
	}
	return files, config, nil
}

// listeners are the opened addresses; nil: it is not served.
type listeners struct{ http, grpc, metrics net.Listener }

// openListeners opens all addresses, or none; that of agents only if they can be served.
func (o *Options) openListeners(agents bool) (l listeners, err error) {
	var opened []net.Listener
	open := func(address, flag string) net.Listener {
		if err != nil || address == "" {
			return nil
		}
		var one net.Listener
		if one, err = httpserve.Listen(address, "choose another: {hodei} server "+flag+" HOST:PORT"); err != nil {
			return nil
		}
		opened = append(opened, one)
		return one
	}
	l.http = open(o.listen, "--listen")
	if agents {
		l.grpc = open(o.grpcListen, "--grpc-listen")
	}
	l.metrics = open(o.metricsAddr, "--metrics-addr")
	if err != nil {
		for _, one := range opened {
			err = errors.Join(err, one.Close())
		}
	}
	return l, err
}

// logAddresses logs where the server listens, and where it stores output.
func (o *Options) logAddresses(log *slog.Logger, l listeners, output string) {
	if l.grpc != nil {
		log.Info("listening", "http", l.http.Addr().String(), "grpc", l.grpc.Addr().String(), "output", output)
	} else {
		log.Info("listening", "http", l.http.Addr().String(), "grpc", "not: there are no certificates",
			"hint", o.named("{hodei} certs generate, then {hodei} server"))
	}
	if l.metrics != nil {
		log.Info("listening", "metrics", l.metrics.Addr().String())
	}
}

// servers are what a process serves, each at its listener.
type servers struct {
	listeners
	api     *server.Server
	agents  *coordinator.Hub
	figures *exporter.Exporter
}

// serve serves until ctx ends or one of the servers fails, and ends all of them then.
func (s *servers) serve(ctx context.Context, log *slog.Logger) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var work sync.WaitGroup
	work.Go(func() { cancel(s.api.Serve(ctx, s.http)) })
	if s.grpc != nil {
		work.Go(func() { cancel(s.agents.Serve(s.grpc)) })
	}
	if s.metrics != nil {
		work.Go(func() { cancel(s.figures.Serve(ctx, s.metrics)) })
	}
	<-ctx.Done()
	log.Info("ending")
	s.agents.Close()
	work.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// completer returns what puts the cluster of the kubeconfig, as it is now, into providers, and refuses another. Not
// everyone on this machine may choose which clusters jobs go to, and with whose rights.
func (o *Options) completer() func(*provider.Config) error {
	here, err := o.cluster()
	if here.Kubeconfig != "" && err == nil {
		here.Kubeconfig, err = filepath.Abs(here.Kubeconfig)
	}
	if err != nil {
		f := kubernetes.Explain(err)
		err = &job.Failure{Cause: job.ConfigError, Message: f.Message, Hint: o.named(cmp.Or(job.HintOf(err), f.Hint))}
	}
	return func(c *provider.Config) error {
		switch {
		case err != nil:
			return err
		case c.Context != "" && c.Context != here.Context:
			return &job.Failure{
				Cause: job.ConfigError,
				Message: fmt.Sprintf("config.context: %q can't be chosen over HTTP, only %q, which the server was started with",
					c.Context, here.Context),
				Hint: o.named("{hodei} provider add NAME --context " + shell.Quote(c.Context)),
			}
		}
		c.Context, c.Kubeconfig = here.Context, here.Kubeconfig
		return nil
	}
}
