package cli

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/server"
)

func (a *app) newServer() *cobra.Command {
	var certsDir string
	o := serverOptions{app: a}
	cmd := &cobra.Command{
		Use:                   "server [--listen ADDRESS] [--grpc-listen ADDRESS] [--certs-dir DIR]",
		DisableFlagsInUseLine: true,
		Short:                 "Keep a coordinator running, with an HTTP API for providers",
		Long: templates.LongDesc(`
			Keep a coordinator running: the agents of any job may dial it, with a certificate
			of that job from the authority of 'hodei certs generate', and what the job prints
			is stored on this machine, where 'hodei logs' finds it.

			Beside it an HTTP API registers providers, in the same file as 'hodei provider'.
			It asks nobody who they are, so it listens on loopback alone, and refuses what a
			web page could send.

			It makes no workers: jobs are submitted with 'hodei run'. SIGINT and SIGTERM end it;
			agents that are attached keep what they have, and attach again.`),
		Example: templates.Examples(`
			# Serve, with the certificates of ./certs
			hodei certs generate && hodei server

			# Register a provider
			curl -X POST http://localhost:8080/api/providers -H "Content-Type: application/json" \
			  -d '{"type":"kubernetes","name":"k8s-local","config":{"namespace":"hodei-jobs-workers"}}'

			# Let agents of other machines dial it
			hodei server --grpc-listen 0.0.0.0:50051`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkLoopback(o.listen); err != nil {
				return usagef(cmd, "--listen %w", err)
			}
			if _, _, err := net.SplitHostPort(o.grpcListen); err != nil {
				return usagef(cmd, "--grpc-listen %q: want HOST:PORT", o.grpcListen)
			}
			if err := o.complete(certsDir); err != nil {
				return err
			}
			defer o.store.close()
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.listen, "listen", "127.0.0.1:8080", "Address of the HTTP API, on loopback.")
	flags.StringVar(&o.grpcListen, "grpc-listen", "127.0.0.1:50051", "Address that agents dial, with mutual TLS.")
	flags.StringVar(&certsDir, "certs-dir", "", "Directory of 'hodei certs generate', read again at every connection. Default: ./certs or $XDG_CONFIG_HOME/hodei/certs.")
	return cmd
}

// checkLoopback refuses an address that others can reach. A name is not looked up:
// whoever answers for it would decide.
func checkLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q: want HOST:PORT", address)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%q: the API asks nobody who they are, so it listens on loopback alone: want 127.0.0.1, ::1 or localhost", address)
	}
	return nil
}

// serverOptions is a server, ready to listen.
type serverOptions struct {
	*app
	listen, grpcListen string
	files              certs.ServerFiles
	tls                *tls.Config
	registry           string
	store              *openedStore
	log                *slog.Logger
}

// complete finds what the server works with. The caller closes the store.
func (o *serverOptions) complete(certsDir string) error {
	var err error
	if o.registry, err = provider.Path(o.getenv); err != nil {
		return err
	}
	dir, err := o.serverCerts(certsDir)
	if err != nil {
		return err
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	o.files = certs.ServerFiles{CA: path("ca.crt"), Cert: path("server.crt"), Key: path("server.key")}
	if o.tls, err = o.files.ServerConfig(); err != nil {
		return &hinted{err: err, hint: "see what is wrong with them, or make them anew: {hodei} certs generate --force --dir " + shellQuote(dir)}
	}
	if o.store, err = o.openStore(true); err != nil {
		return err
	}
	if why := o.store.temporary; why != nil { // agents would be told that their output is safe
		o.store.close()
		return &hinted{err: fmt.Errorf("output can't be stored: %w", why), hint: "set XDG_STATE_HOME to a directory that can be written to"}
	}
	o.log = slog.New(slog.NewTextHandler(o.ErrOut, nil))
	return nil
}

// serverCerts is the directory of the server's certificate: the one that was named,
// else the first that has one.
func (o *serverOptions) serverCerts(dir string) (string, error) {
	if dir != "" {
		return dir, nil
	}
	for _, d := range []string{"certs", filepath.Join(filepath.Dir(o.registry), "certs")} {
		if _, err := os.Stat(filepath.Join(d, "server.crt")); !errors.Is(err, fs.ErrNotExist) {
			return d, nil // what else is wrong with it, the reading says
		}
	}
	return "", &hinted{err: errors.New("no server certificate: there is none in ./certs, and none beside the providers' file"), hint: "{hodei} certs generate"}
}

func (o *serverOptions) run(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)() // the next one ends us, whatever hangs
	http, err := o.listenOn(o.listen, "--listen")
	if err != nil {
		return err
	}
	grpc, err := o.listenOn(o.grpcListen, "--grpc-listen")
	if err != nil {
		return errors.Join(err, http.Close())
	}
	api := &server.Server{Registry: o.registry, Complete: o.captured(), Health: o.health, Program: o.name, Log: o.log}
	agents := &coordinator.Server{TLS: o.tls, Open: o.open, Handshake: o.handshake}
	o.log.Info("listening", "http", http.Addr().String(), "grpc", grpc.Addr().String(), "output", o.store.dir)

	// Whichever fails ends both.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var work sync.WaitGroup
	work.Go(func() { cancel(api.Serve(ctx, http)) })
	work.Go(func() { cancel(agents.Serve(grpc)) })
	<-ctx.Done()
	o.log.Info("ending")
	agents.Close()
	work.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (o *serverOptions) listenOn(address, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &hinted{err: fmt.Errorf("address %s is in use", address), hint: "see by whom: ss -ltnp; or choose another: {hodei} server " + flag + " HOST:PORT"}
	case err != nil:
		return nil, &hinted{err: err, hint: "choose another: {hodei} server " + flag + " HOST:PORT"}
	}
	return l, nil
}

// captured puts the cluster of the kubeconfig as it is now, when the server starts,
// into providers that name none, and refuses a context that is not in it.
func (o *serverOptions) captured() func(*provider.Config) error {
	here := provider.Config{Context: *o.kube.Context, Kubeconfig: *o.kube.KubeConfig}
	var contexts map[string]*clientcmdapi.Context
	kubeconfig, err := o.kube.ToRawKubeConfigLoader().RawConfig()
	if err == nil {
		contexts = kubeconfig.Contexts
		err = o.captureContext(&here)
	}
	if here.Kubeconfig != "" && err == nil {
		here.Kubeconfig, err = filepath.Abs(here.Kubeconfig)
	}
	if err != nil {
		err = &job.Failure{Cause: job.ConfigError, Message: kubernetes.Explain(err).Message, Hint: o.named(cmp.Or(hintOf(err), kubernetes.Explain(err).Hint))}
	}
	return func(c *provider.Config) error {
		chosen := c.Context
		switch {
		case err != nil:
			return err
		case chosen == "":
			chosen = here.Context
		case contexts[chosen] == nil:
			return &job.Failure{Cause: job.ConfigError, Message: fmt.Sprintf("config.context: %q does not exist in the kubeconfig", chosen), Hint: "kubectl config get-contexts"}
		}
		c.Context, c.Kubeconfig = chosen, here.Kubeconfig
		return nil
	}
}

// health says why an agent that dials now could not attach, or its output not be kept.
func (o *serverOptions) health() error {
	if _, err := o.files.ServerConfig(); err != nil {
		return err
	}
	return writable(o.store.dir)
}

// handshake tells of agents that the certificates keep out.
func (o *serverOptions) handshake(err error) {
	if err != nil {
		o.log.Warn("handshake failed", "error", err)
	}
}

// open gives what stores the output of an attempt.
func (o *serverOptions) open(hello *hodeipb.Hello) (coordinator.Follower, func()) {
	log := o.log.With("job", hello.Namespace+"/"+hello.Job, "attempt", hello.Attempt)
	r := &coordinator.Recorder{Store: o.store.Store, Keep: true, Listener: attemptLog{log}}
	return r, func() {
		if err := r.Close(); err != nil {
			log.Error("output not closed", "error", err)
		}
		log.Info("agent left")
	}
}

// attemptLog says what happens to an attempt.
type attemptLog struct{ log *slog.Logger }

func (l attemptLog) Attached(a coordinator.Attachment) {
	_, end := a.Log.Extent()
	l.log.Info("agent attached", "version", a.Hello.AgentVersion, "offset", end)
}

func (l attemptLog) State(string, *hodeipb.State) {}

func (l attemptLog) Exited(_ string, record *hodeipb.ExitRecord) {
	o := coordinator.Outcome(record)
	l.log.Info("job ended", "cause", string(o.Cause), "code", o.Code, "bytes", record.End, "lost", record.Lost)
}

func (l attemptLog) Failed(_ string, err error) { l.log.Error("output not stored", "error", err) }
