package certs

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/setup"
	"github.com/hodei-jobs/hodei/pkg/shell"
	"github.com/hodei-jobs/hodei/pkg/signals"
)

// newRotate makes the command; run is (*rotateOptions).run, or a test's.
func newRotate(env *command.Env, run func(*rotateOptions, context.Context) error) *cobra.Command {
	o := &rotateOptions{
		Out: env.Out, ErrOut: env.ErrOut, program: env.Name, connect: connecting(env), home: env.Home(),
		newScreen: func() *output.Screen { return command.NewScreen(env, false) },
	}
	cmd := &cobra.Command{
		Use:   "rotate [--ca|--finish] [--dir DIR] | --job NAME",
		Short: "Renew certificates while jobs run",
		Long: templates.LongDesc(`
			Renew the server's and the client's certificate of a directory, with the same
			names and the same authority. The old ones stay valid until they end.

			--ca replaces the authority in two steps. The first step makes a new authority,
			which signs from then on; both are trusted. The server's certificate is signed by
			the old one once more, so that running workers stay connected. When their jobs have
			ended, --finish removes the old authority. It refuses while the namespace has a job
			whose agent dials a server and does not know the new authority. Jobs that are
			reached through the tunnel carry their own authority and need no overlap.

			--job renews the certificates of a running job in its Secret. The authority of --dir
			signs them, else that of ./certs or $XDG_CONFIG_HOME/hodei/certs, else a new one in
			memory. If the job's authority was not in memory, signing with one in memory needs
			--in-memory. With another authority than before it takes up to 3 minutes.

			Open connections stay: new certificates are used from the next connection on.`),
		Example: templates.Examples(`
			# Renew the leaves of ./certs, and store them
			hodei certs rotate
			hodei certs apply

			# Replace the authority; finish when the jobs of the old one have ended
			hodei certs rotate --ca && hodei certs apply
			hodei certs rotate --finish && hodei certs apply

			# Renew the certificates of a job that runs for more than 30 days
			hodei certs rotate --job hodei-train-k3x9z`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			rotate := func(ctx context.Context) error { return run(o, ctx) }
			switch {
			case o.job != "":
				return env.UntilSignal(cmd.Context(), signals.StillHeard, rotate)
			case o.finish:
				return env.UntilSignal(cmd.Context(), signals.NextEndsUs, rotate)
			}
			return rotate(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Dir, "dir", place.CertsDir, "Directory of the files. With --job: directory of the authority; "+
		"default: ./certs or $XDG_CONFIG_HOME/hodei/certs if hodei made them and they are yours, else a new authority in memory.")
	flags.BoolVar(&o.ca, "ca", false, "Replace the authority: the first step.")
	flags.BoolVar(&o.finish, "finish", false, "Remove the old authority: the second step.")
	flags.BoolVar(&o.force, "force", false, "With --finish: do not ask the cluster whether jobs of the old authority are left.")
	flags.StringVar(&o.job, "job", "", "Renew the certificates of this job.")
	flags.BoolVar(&o.inMemory, "in-memory", false, "With --job: sign with a new authority in memory, whatever is configured.")
	flags.DurationVar(&o.Validity, "validity", 0,
		"How long the new ones are valid, in hours (h). Default: as long as the old ones were.")
	_ = cmd.RegisterFlagCompletionFunc("job", env.CompleteJob)
	return cmd
}

// rotateOptions is what one rotate renews, and what that needs.
type rotateOptions struct {
	certs.RotateOptions
	Out, ErrOut io.Writer
	program     string // as it is typed
	ca          bool   // begin to replace the authority
	finish      bool   // end to replace it
	force       bool   // finish without asking the cluster
	job         string // whose certificates; empty: those of Dir
	chosenDir   bool   // of job: Dir was chosen, and is no default
	inMemory    bool   // of job: a new authority signs, which is stored nowhere
	// connect chooses the cluster.
	connect func() (*cluster, error)
	// home is where authorities of this machine are looked for.
	home *place.Home
	// newScreen returns what a person sees while a job's certificates are renewed.
	newScreen func() *output.Screen
}

// check checks what was typed.
func (o *rotateOptions) check(cmd *cobra.Command) error {
	given := cmd.Flags().Changed
	switch {
	case o.ca && o.finish, o.ca && given("job"), o.finish && given("job"):
		return command.Usagef(cmd, "--ca, --finish and --job exclude each other")
	case o.Dir == "":
		return command.Usagef(cmd, "--dir is empty")
	case given("job") && o.job == "":
		return command.Usagef(cmd, "--job is empty")
	case given("validity") && (o.Validity <= 0 || o.job != ""):
		return command.Usagef(cmd, "--validity %s: must be more than zero, and is not for --job", o.Validity)
	case o.inMemory && (o.job == "" || given("dir")):
		return command.Usagef(cmd, "--in-memory is for --job, and excludes --dir")
	case o.force && !o.finish:
		return command.Usagef(cmd, "--force is for --finish")
	case !o.finish && o.job == "":
		return refuseCluster(cmd)
	}
	o.chosenDir = given("dir")
	return nil
}

// run renews the certificates of a job or of a directory, and says what comes next.
func (o *rotateOptions) run(ctx context.Context) error {
	if o.job != "" {
		return o.rotateJob(ctx)
	}
	rotate := certs.Rotate
	switch {
	case o.ca:
		rotate = certs.RotateCA
	case o.finish:
		rotate = certs.FinishCA
		if err := o.mayFinish(ctx); err != nil {
			return o.explain(err)
		}
	}
	files, err := rotate(o.RotateOptions)
	wrote(o.ErrOut, files)
	if err != nil {
		return o.explain(err)
	}
	next(o.ErrOut, o.program, "certs apply", o.Dir)
	if o.ca {
		next(o.ErrOut, o.program, "certs rotate --finish", o.Dir)
	}
	return nil
}

// explain adds what helps against an error of a rotation.
func (o *rotateOptions) explain(err error) error {
	dir := shell.Quote(o.Dir)
	file, aboutFile := errors.AsType[*certs.FileError](err)
	switch {
	case aboutFile && errors.Is(err, fs.ErrNotExist) && filepath.Base(file.Path) == "ca.crt":
		return &job.Hinted{Err: err, Hint: place.AuthorityHint(err, o.Dir)}
	case errors.Is(err, certs.ErrOverlap):
		return &job.Hinted{Err: err, Hint: "{hodei} certs rotate --finish --dir " + dir}
	case errors.Is(err, certs.ErrNoOverlap):
		return &job.Hinted{Err: err, Hint: "begin one: {hodei} certs rotate --ca --dir " + dir}
	case errors.Is(err, certs.ErrBusy):
		return &job.Hinted{Err: err, Hint: "try again: it takes less than a second"}
	case errors.Is(err, certs.ErrExpired):
		return &job.Hinted{Err: err, Hint: "{hodei} certs generate --force --dir " + dir}
	case aboutFile:
		return &job.Hinted{Err: err, Hint: fmt.Sprintf("{hodei} certs inspect %[1]s; with an authority that is elsewhere: "+
			"{hodei} certs generate --force --dir %[1]s --ca-cert FILE --ca-key FILE", dir)}
	}
	return err
}

// mayFinish returns an error if jobs would be cut off without the outgoing CA: they have not finished, their agents
// dial a server, and they know no other CA.
func (o *rotateOptions) mayFinish(ctx context.Context) error {
	outgoing, err := certs.Outgoing(o.Dir)
	if err != nil || len(outgoing) == 0 || o.force {
		return err
	}
	jobs, namespace, err := o.jobsOf(ctx, outgoing)
	if err != nil {
		return &job.Hinted{
			Err:  fmt.Errorf("jobs of the old authority can't be looked for: %w", kubernetes.Explain(err)),
			Hint: "if you know that there are none: {hodei} certs rotate --finish --force --dir " + shell.Quote(o.Dir),
		}
	}
	if len(jobs) == 0 {
		return nil
	}
	return &job.Hinted{
		Err: fmt.Errorf("%d of the jobs in namespace %s dial a server and know only the old authority: %s",
			len(jobs), namespace, strings.Join(jobs, ", ")),
		Hint: fmt.Sprintf("wait for their end, or renew theirs: {hodei} certs rotate --job %s -n %s --dir %s",
			jobs[0], namespace, shell.Quote(o.Dir)),
	}
}

// jobsOf returns the jobs that have not finished, dial a server and have certificates of one of cas. Jobs that are
// reached through the tunnel don't count: they have the certificates of their own Secret.
func (o *rotateOptions) jobsOf(ctx context.Context, cas []*x509.Certificate) (names []string, namespace string, err error) {
	cluster, err := o.connect()
	if err != nil {
		return nil, "", err
	}
	found, err := cluster.provider.FindAll(ctx, "")
	if err != nil {
		return nil, "", err
	}
	for _, j := range found {
		if j.Finished || !j.DialsServer() {
			continue
		}
		secret, err := setup.GetSecret(ctx, cluster.client, cluster.namespace, j.Job.Name)
		if apierrors.IsNotFound(err) { // it goes with its job
			continue
		}
		if err != nil {
			return nil, "", err
		}
		old, err := certs.IssuedBy(secret.Data["client.crt"], cas)
		if err != nil {
			return nil, "", fmt.Errorf("secret %q: client.crt: %w", secret.Name, err)
		}
		if old {
			names = append(names, j.Job.Name)
		}
	}
	return names, cluster.namespace, nil
}
