package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
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
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/server"
	"github.com/hodei-jobs/hodei/pkg/shell"
	"github.com/hodei-jobs/hodei/pkg/signals"
)

func New(a *command.Env) *cobra.Command {
	var certsDir string
	o := Options{Env: a}
	cmd := &cobra.Command{
		Use:                   "server [--listen ADDRESS] [--grpc-listen ADDRESS] [--certs-dir DIR]",
		DisableFlagsInUseLine: true,
		Short:                 "Keep a coordinator running, with an HTTP API for providers",
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
			if err := checkLoopback(o.listen); err != nil {
				return command.Usagef(cmd, "--listen %w", err)
			}
			if _, _, err := net.SplitHostPort(o.grpcListen); err != nil {
				return command.Usagef(cmd, "--grpc-listen %q: want HOST:PORT", o.grpcListen)
			}
			var err error
			if o.metricsAddr, err = command.MetricsAddress(cmd, o.metricsAddr); err != nil {
				return err
			}
			o.grpcAsked = cmd.Flags().Changed("grpc-listen")
			if err := o.complete(certsDir); err != nil {
				return err
			}
			defer o.store.Close(o.warn)
			return o.Run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.listen, "listen", "127.0.0.1:8080", "Address of the HTTP API: 127.0.0.1, ::1 or localhost, and a port.")
	flags.StringVar(&o.grpcListen, "grpc-listen", "127.0.0.1:50051", "Address that agents dial, with mutual TLS.")
	command.MetricsFlag(cmd, &o.metricsAddr)
	flags.StringVar(&certsDir, "certs-dir", "", "Directory of 'hodei certs generate', read again at every connection. Default: ./certs or $XDG_CONFIG_HOME/hodei/certs if hodei made them and they are yours; else agents are not served.")
	return cmd
}

// checkLoopback refuses an address that others can reach, and one that the API's own
// guard would refuse in Host: other addresses of loopback.
func checkLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q: want HOST:PORT", address)
	}
	if !server.ListensOn(host) {
		return fmt.Errorf("%q: the API asks nobody who they are, so it listens on loopback alone: want 127.0.0.1, ::1 or localhost", address)
	}
	return nil
}

// Options is a server, ready to listen.
type Options struct {
	*command.Env
	listen, grpcListen string
	grpcAsked          bool               // --grpc-listen was given
	metricsAddr        string             // empty: nowhere
	exporter           *exporter.Exporter // nil: none
	files              certs.ServerFiles
	tls                *tls.Config // nil: there are no certificates, and agents are not served
	registry           string
	store              *place.Store
	disk               *probe
	turnedAway         *turnedAway
	quotas             jobQuotas
	log                *slog.Logger
}

// complete finds what the server works with. The caller closes the store.
func (o *Options) complete(certsDir string) error {
	var err error
	if o.registry, err = o.Home().ProvidersPath(); err != nil {
		return err
	}
	o.log = slog.New(slog.NewTextHandler(o.ErrOut, nil))
	if err := o.findCerts(certsDir); err != nil {
		return err
	}
	if o.store, err = o.Home().OpenStore(true); err != nil {
		return err
	}
	if why := o.store.Temporary; why != nil { // agents would be told that their output is safe
		o.store.Close(o.warn)
		return &job.Hinted{Err: fmt.Errorf("output can't be stored: %w", why), Hint: "set XDG_STATE_HOME to a directory that can be written to"}
	}
	o.store.TellDropped(o.warn)
	o.disk, o.turnedAway = &probe{dir: o.store.Dir}, &turnedAway{log: o.log}
	o.quotas.quotas = map[string]*quota{}
	return nil
}

// findCerts takes the server's certificate from the directory that was named, else from one of
// hodei's own. Without a certificate no agent could attach, so the server does not listen for
// agents.
func (o *Options) findCerts(dir string) (err error) {
	if dir == "" {
		var passed []place.PassedCerts
		dir, passed = o.Home().FoundCerts()
		for _, p := range passed {
			o.log.Warn("certificates not used", "directory", p.Dir, "reason", p.Why, "hint", o.Named("{hodei} server --certs-dir "+shell.Quote(p.Dir)))
		}
	}
	switch {
	case dir == "" && o.grpcAsked:
		return &job.Hinted{Err: errors.New("--grpc-listen takes certificates, and there are none in " + strings.Join(o.Home().CertsDirs(), " or ")), Hint: "{hodei} certs generate"}
	case dir == "":
		return nil
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	o.files = certs.ServerFiles{CA: path("ca.crt"), Cert: path("server.crt"), Key: path("server.key")}
	if o.tls, err = o.files.ServerConfig(); err != nil {
		return &job.Hinted{Err: err, Hint: "see what is wrong with them, or make them anew: {hodei} certs generate --force --dir " + shell.Quote(dir)}
	}
	return nil
}

func (o *Options) Run(ctx context.Context) error {
	ctx, stop := o.Signals.UntilSignal(ctx, signals.NextEndsUs)
	defer stop()
	http, err := o.listenOn(o.listen, "--listen")
	if err != nil {
		return err
	}
	grpc, err := o.listenForAgents()
	if err != nil {
		return errors.Join(err, http.Close())
	}
	metrics, err := o.listenForMetrics()
	if err != nil {
		if grpc != nil {
			err = errors.Join(err, grpc.Close())
		}
		return errors.Join(err, http.Close())
	}
	agents := &coordinator.Hub{TLS: o.tls, Open: o.open, TurnedAway: o.turnedAway.tell, MetricsInterval: follow.UnwatchedEvery}
	api := &server.Server{Registry: o.registry, Complete: o.captured(), Program: o.Name, Log: o.log,
		Health: func() error { return o.health(agents) }}
	if grpc != nil {
		o.log.Info("listening", "http", http.Addr().String(), "grpc", grpc.Addr().String(), "output", o.store.Dir)
	} else {
		o.log.Info("listening", "http", http.Addr().String(), "grpc", "not: there are no certificates", "hint", o.Named("{hodei} certs generate, then {hodei} server"))
	}

	// Whichever fails ends both.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var work sync.WaitGroup
	work.Go(func() { cancel(api.Serve(ctx, http)) })
	if grpc != nil {
		work.Go(func() { cancel(agents.Serve(grpc)) })
	}
	if metrics != nil {
		o.log.Info("listening", "metrics", metrics.Addr().String())
		work.Go(func() { cancel(o.exporter.Serve(ctx, metrics)) })
	}
	<-ctx.Done()
	o.log.Info("ending")
	agents.Close()
	work.Wait()
	o.turnedAway.end()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// listenForAgents opens the address that agents dial; nil without certificates.
func (o *Options) listenForAgents() (net.Listener, error) {
	if o.tls == nil {
		return nil, nil
	}
	return o.listenOn(o.grpcListen, "--grpc-listen")
}

// listenForMetrics opens the address of --metrics-addr; nil without one.
func (o *Options) listenForMetrics() (net.Listener, error) {
	if o.metricsAddr == "" {
		return nil, nil
	}
	o.exporter = exporter.New()
	return o.listenOn(o.metricsAddr, "--metrics-addr")
}

func (o *Options) listenOn(address, flag string) (net.Listener, error) {
	return httpserve.Listen(address, "choose another: {hodei} server "+flag+" HOST:PORT")
}

// captured puts the cluster of the kubeconfig as it is now, when the server starts,
// into providers, and refuses another: which clusters jobs go to, and with whose
// rights, is not for everyone on this machine to choose.
func (o *Options) captured() func(*provider.Config) error {
	here := provider.Config{Context: *o.Kube.Context, Kubeconfig: *o.Kube.KubeConfig}
	err := o.CaptureContext(&here)
	if here.Kubeconfig != "" && err == nil {
		here.Kubeconfig, err = filepath.Abs(here.Kubeconfig)
	}
	if err != nil {
		err = &job.Failure{Cause: job.ConfigError, Message: kubernetes.Explain(err).Message, Hint: o.Named(cmp.Or(job.HintOf(err), kubernetes.Explain(err).Hint))}
	}
	return func(c *provider.Config) error {
		switch {
		case err != nil:
			return err
		case c.Context != "" && c.Context != here.Context:
			return &job.Failure{Cause: job.ConfigError, Message: fmt.Sprintf("config.context: %q can't be chosen over HTTP, only %q, which the server was started with", c.Context, here.Context),
				Hint: o.Named("{hodei} provider add NAME --context " + shell.Quote(c.Context))}
		}
		c.Context, c.Kubeconfig = here.Context, here.Kubeconfig
		return nil
	}
}

// health says why an agent that dials now could not attach, or its output not be kept.
func (o *Options) health(agents *coordinator.Hub) error {
	if o.tls == nil { // and no agent dials
		return o.disk.check()
	}
	if _, err := o.files.ServerConfig(); err != nil {
		return err
	}
	if err := agents.Ready(); err != nil {
		return err
	}
	return o.disk.check()
}

// open gives what stores the output of an attempt.
func (o *Options) open(hello *hodeipb.Hello) (coordinator.Follower, func()) {
	log := o.quotas.of(o.log, hello.Namespace+"/"+hello.Job, hello.Attempt)
	r := &coordinator.Recorder{Store: o.store.Store, Keep: true, Listener: follow.Exported(attemptLog{log}, o.exporter)}
	return r, func() {
		if o.exporter != nil {
			o.exporter.Left(exporter.ID{Namespace: hello.Namespace, Job: hello.Job, Attempt: hello.Attempt})
		}
		if err := r.Close(); err != nil {
			log.Error("output not closed", "error", err)
		}
		log.Info("agent left")
		o.store.TellDropped(o.warn)
	}
}

// warn logs what is about no agent.
func (o *Options) warn(text string) { o.log.Warn(text) }
