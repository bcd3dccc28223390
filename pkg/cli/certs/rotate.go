package certs

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/setup"
	"github.com/hodei-jobs/hodei/pkg/shell"
	"github.com/hodei-jobs/hodei/pkg/signals"
)

func newCertsRotate(a *command.Env) *cobra.Command {
	o := certsRotateOptions{Env: a}
	cmd := &cobra.Command{
		Use:                   "rotate [--ca|--finish] [--dir DIR] | --job NAME",
		DisableFlagsInUseLine: true,
		Short:                 "Renew certificates while jobs run",
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
			chosen := 0
			for _, set := range []bool{o.ca, o.finish, cmd.Flags().Changed("job")} {
				if set {
					chosen++
				}
			}
			switch {
			case chosen > 1:
				return command.Usagef(cmd, "--ca, --finish and --job exclude each other")
			case o.Dir == "":
				return command.Usagef(cmd, "--dir is empty")
			case cmd.Flags().Changed("job") && o.job == "":
				return command.Usagef(cmd, "--job is empty")
			case cmd.Flags().Changed("validity") && (o.Validity <= 0 || o.job != ""):
				return command.Usagef(cmd, "--validity %s: must be more than zero, and is not for --job", o.Validity)
			case o.inMemory && (o.job == "" || cmd.Flags().Changed("dir")):
				return command.Usagef(cmd, "--in-memory is for --job, and excludes --dir")
			case o.force && !o.finish:
				return command.Usagef(cmd, "--force is for --finish")
			case !o.finish && o.job == "":
				if err := noCluster(a, cmd); err != nil {
					return err
				}
			}
			o.chosenDir = cmd.Flags().Changed("dir")
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Dir, "dir", place.CertsDir, "Directory of the files. With --job: directory of the authority; default: ./certs or $XDG_CONFIG_HOME/hodei/certs if hodei made them and they are yours, else a new authority in memory.")
	flags.BoolVar(&o.ca, "ca", false, "Replace the authority: the first step.")
	flags.BoolVar(&o.finish, "finish", false, "Remove the old authority: the second step.")
	flags.BoolVar(&o.force, "force", false, "With --finish: do not ask the cluster whether jobs of the old authority are left.")
	flags.StringVar(&o.job, "job", "", "Renew the certificates of this job.")
	flags.BoolVar(&o.inMemory, "in-memory", false, "With --job: sign with a new authority in memory, whatever is configured.")
	flags.DurationVar(&o.Validity, "validity", 0, "How long the new ones are valid, in hours (h). Default: as long as the old ones were.")
	_ = cmd.RegisterFlagCompletionFunc("job", a.CompleteJob)
	return cmd
}

type certsRotateOptions struct {
	*command.Env
	certs.RotateOptions
	chosenDir         bool
	ca, finish, force bool
	job               string
	inMemory          bool
}

func (o *certsRotateOptions) run(ctx context.Context) error {
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
	wrote(o.Env, files)
	if err != nil {
		return o.explain(err)
	}
	next(o.Env, "certs apply", o.Dir)
	if o.ca {
		next(o.Env, "certs rotate --finish", o.Dir)
	}
	return nil
}

// explain adds what helps against an error of a rotation.
func (o *certsRotateOptions) explain(err error) error {
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
		return &job.Hinted{Err: err, Hint: fmt.Sprintf("{hodei} certs inspect %[1]s; with an authority that is elsewhere: {hodei} certs generate --force --dir %[1]s --ca-cert FILE --ca-key FILE", dir)}
	}
	return err
}

// mayFinish looks for jobs that have not finished, whose agents dial a server, and
// that know only the outgoing CA.
func (o *certsRotateOptions) mayFinish(ctx context.Context) error {
	outgoing, err := certs.Outgoing(o.Dir)
	if err != nil || len(outgoing) == 0 || o.force {
		return err
	}
	jobs, namespace, err := o.jobsOf(ctx, outgoing)
	if err != nil {
		f := kubernetes.Explain(err)
		return &job.Hinted{Err: fmt.Errorf("jobs of the old authority can't be looked for: %w", f), Hint: "if you know that there are none: {hodei} certs rotate --finish --force --dir " + shell.Quote(o.Dir)}
	}
	if len(jobs) == 0 {
		return nil
	}
	return &job.Hinted{
		Err:  fmt.Errorf("%d of the jobs in namespace %s dial a server and know only the old authority: %s", len(jobs), namespace, strings.Join(jobs, ", ")),
		Hint: fmt.Sprintf("wait for their end, or renew theirs: {hodei} certs rotate --job %s -n %s --dir %s", jobs[0], namespace, shell.Quote(o.Dir)),
	}
}

// jobsOf are the jobs that have not finished whose certificates one of cas issued.
func (o *certsRotateOptions) jobsOf(ctx context.Context, cas []*x509.Certificate) (names []string, namespace string, err error) {
	provider, namespace, err := o.provider()
	if err != nil {
		return nil, "", err
	}
	found, err := provider.FindAll(ctx, "")
	if err != nil {
		return nil, "", err
	}
	client, err := o.Client()
	if err != nil {
		return nil, "", err
	}
	for _, j := range found {
		// Who comes through the tunnel has the certificates of the job's own Secret.
		if j.Finished || !j.DialsServer() {
			continue
		}
		secret, err := setup.GetSecret(ctx, client, namespace, j.Job.Name)
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
	return names, namespace, nil
}

func (o *certsRotateOptions) provider() (*kubernetes.Provider, string, error) {
	name, chosen, err := o.ChooseCluster()
	if err != nil {
		return nil, "", err
	}
	p, err := o.KubernetesProvider(name, chosen)
	return p, chosen.Namespace, err
}

// rotateJob renews the certificates of one job.
func (o *certsRotateOptions) rotateJob(ctx context.Context) error {
	ctx, stop := o.Signals.UntilSignal(ctx, signals.StillHeard)
	defer stop()
	err := o.renewJob(ctx)
	if ctx.Err() != nil && err != nil {
		// What was stored by then is said by a Failure, and is good for old and new files.
		if f, ok := errors.AsType[*job.Failure](err); ok && !errors.Is(err, context.Canceled) {
			return signals.InterruptedBy(ctx, f)
		}
		return signals.InterruptedBy(ctx, errors.New("interrupted"))
	}
	return err
}

func (o *certsRotateOptions) renewJob(ctx context.Context) error {
	provider, namespace, err := o.provider()
	if err != nil {
		return err
	}
	authority, notes, err := o.jobAuthority()
	if err != nil {
		return err
	}
	found, err := provider.Find(ctx, o.job)
	if err != nil {
		return err
	}
	if found.Finished {
		return &job.Hinted{Err: fmt.Errorf("job %s has finished: nobody connects to it any more", o.job), Hint: "{hodei} logs " + o.job}
	}
	if authority.Dir == "" && !o.inMemory {
		if err := o.wasInMemory(ctx, namespace); err != nil {
			return err
		}
	}
	screen := command.NewScreen(o.Env, false)
	defer screen.Stop()
	for _, note := range notes {
		screen.Note(note)
	}
	if err := provider.RenewCerts(ctx, found, authority, screen.Note); err != nil {
		return err
	}
	signed := "by a new authority in memory"
	if authority.Dir != "" {
		signed = "signed by " + filepath.Join(authority.Dir, "ca.crt")
	}
	fmt.Fprintf(o.Out, "secret/%s renewed in %s, %s\n", o.job, namespace, signed)
	return nil
}

// jobAuthority is the CA that is to sign.
func (o *certsRotateOptions) jobAuthority() (*certs.Authority, []string, error) {
	switch {
	case o.inMemory:
		authority, err := certs.NewAuthority(0)
		return authority, nil, err
	case o.chosenDir:
		return o.Home().Authority(o.Dir, "--dir")
	}
	return o.Home().Authority("", "--dir")
}

// wasInMemory is an error for a job that is of somebody's authority, which it would
// lose by being renewed from a directory where there is none.
func (o *certsRotateOptions) wasInMemory(ctx context.Context, namespace string) error {
	client, err := o.Client()
	if err != nil {
		return err
	}
	secret, err := setup.GetSecret(ctx, client, namespace, o.job)
	if err != nil {
		return kubernetes.Explain(err)
	}
	memory, err := certs.InMemory(secret.Data["ca.crt"])
	if err == nil && !memory { // what is wrong with it is for the renewal to say
		return &job.Hinted{
			Err: fmt.Errorf("the authority that signed for job %s is not in %s", o.job, strings.Join(o.Home().CertsDirs(), " or ")),
			Hint: fmt.Sprintf("name its directory: {hodei} certs rotate --job %[1]s -n %[2]s --dir DIR; or take a new one: {hodei} certs rotate --job %[1]s -n %[2]s --in-memory",
				o.job, namespace),
		}
	}
	return nil
}
