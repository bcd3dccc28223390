package certs

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/setup"
	"github.com/hodei-jobs/hodei/pkg/signals"
)

// rotateJob renews the certificates of one job. If ctx ended before, the error says so although a signal ended ctx,
// and what was stored by then.
func (o *rotateOptions) rotateJob(ctx context.Context) error {
	err := o.renew(ctx)
	if err == nil || ctx.Err() == nil {
		return err
	}
	// A Failure says what was stored. That is good for old and new files.
	if f, ok := errors.AsType[*job.Failure](err); ok && !errors.Is(err, context.Canceled) {
		return signals.InterruptedBy(ctx, f)
	}
	return signals.InterruptedBy(ctx, errors.New("interrupted"))
}

// renew renews the certificates of one job, unless ctx ends before.
func (o *rotateOptions) renew(ctx context.Context) error {
	cluster, err := o.connect()
	if err != nil {
		return err
	}
	authority, notes, err := o.jobAuthority()
	if err != nil {
		return err
	}
	found, err := cluster.provider.Find(ctx, o.job)
	if err != nil {
		return err
	}
	if found.Finished {
		return &job.Hinted{
			Err:  fmt.Errorf("job %s has finished: nobody connects to it any more", o.job),
			Hint: "{hodei} logs " + o.job,
		}
	}
	if authority.Dir == "" && !o.inMemory {
		if err := o.checkInMemory(ctx, cluster); err != nil {
			return err
		}
	}
	screen := o.newScreen()
	defer screen.Stop()
	for _, note := range notes {
		screen.Note(note)
	}
	renewed, err := cluster.provider.RenewCerts(ctx, found, authority, screen.Note)
	if err != nil { // it says what is renewed nevertheless
		return err
	}
	signed := "by a new authority in memory"
	if authority.Dir != "" {
		signed = "signed by " + filepath.Join(authority.Dir, "ca.crt")
	}
	for _, name := range renewed {
		fmt.Fprintf(o.Out, "secret/%s renewed in %s, %s\n", name, cluster.namespace, signed)
	}
	return nil
}

// jobAuthority returns the CA that is to sign, and what there is to say of that choice.
func (o *rotateOptions) jobAuthority() (*certs.Authority, []string, error) {
	switch {
	case o.inMemory:
		authority, err := certs.NewAuthority(0)
		return authority, nil, err
	case o.chosenDir:
		return o.home.Authority(o.Dir, "--dir")
	}
	return o.home.Authority("", "--dir")
}

// checkInMemory returns an error unless the job's authority was in memory. Otherwise the job would lose the authority
// of a directory that was not found, and get one in memory.
func (o *rotateOptions) checkInMemory(ctx context.Context, cluster *cluster) error {
	secret, err := setup.GetSecret(ctx, cluster.client, cluster.namespace, o.job)
	if err != nil {
		return kubernetes.Explain(err)
	}
	if memory, err := certs.InMemory(secret.Data["ca.crt"]); err == nil && !memory { // a malformed one is for the renewal to tell
		rotate := fmt.Sprintf("{hodei} certs rotate --job %s -n %s", o.job, cluster.namespace)
		return &job.Hinted{
			Err: fmt.Errorf("the authority that signed for job %s is not in %s",
				o.job, strings.Join(o.home.CertsDirs(), " or ")),
			Hint: "name its directory: " + rotate + " --dir DIR; or take a new one: " + rotate + " --in-memory",
		}
	}
	return nil
}
