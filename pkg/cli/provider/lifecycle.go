package provider

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// goneWait is how long a deleted job may take to be gone.
const goneWait = 30 * time.Second

// lifeCycle is level 3: a worker is created, runs, has a log, and goes without a trace. Nobody attaches to it.
func (t *testOptions) lifeCycle(ctx context.Context, r *levelReport) error {
	p, ok := t.place.(place.Cluster)
	if !ok {
		return errNoCluster
	}
	spec := t.newSpec(t.worker())
	// Nobody fetches its output, so the Pod runs until it is deleted.
	spec.ContainerLogs, spec.Detached, spec.Linger = true, true, 2*t.timeout
	id, err := t.authority.IssueJob(certs.ID{Namespace: p.Namespace(), Job: spec.Name})
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, 2*t.timeout) // a start that takes too long ends sooner, with its reason
	defer cancel()
	run, err := p.Provider.Submit(bounded, spec, id, kubernetes.RunOptions{NoTunnel: true})
	if err != nil {
		return causeOf(ctx, err)
	}
	r.Detail, err = t.live(bounded, p.Provider, run, spec.Name)
	run.Close()
	return errors.Join(causeOf(ctx, err), t.remove(ctx, spec.Name))
}

// causeOf returns why ctx has ended, if it has, and else err.
func causeOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// live takes a job through its life, and returns what became of it, in words.
func (t *testOptions) live(ctx context.Context, p *kubernetes.Provider, run *kubernetes.Run, name string) (string, error) {
	pod, err := awaitRunning(ctx, run)
	if err != nil {
		return "", err
	}
	if err := readsVersion(ctx, p, pod); err != nil {
		return "", err
	}
	if err := run.Delete(ctx); err != nil {
		return "", err
	}
	return pod + " was created, ran, had a log, and is gone", t.awaitGone(ctx, name)
}

// awaitRunning returns the Pod in which the job's command runs.
func awaitRunning(ctx context.Context, run *kubernetes.Run) (string, error) {
	running := make(chan string, 1)
	watched := &follow.Attachment{Job: run, Unserved: true, Report: func(e job.Event) {
		if e.Phase == job.Running && !e.Waiting {
			select {
			case running <- e.Detail:
			default:
			}
		}
	}}
	pod := ""
	err := watched.Run(ctx, func(_ context.Context, e *follow.Events) error {
		select {
		case pod = <-running:
			return nil
		case <-e.Over.Done():
			if e.Over.Outcome == nil {
				return context.Cause(e.Over)
			}
			return fmt.Errorf("the job ended before it was seen to run: %s", e.Over.Outcome.Summary())
		}
	})
	return pod, err
}

// readsVersion checks that the container's log has the line that the job has printed.
func readsVersion(ctx context.Context, p *kubernetes.Provider, pod string) error {
	log, err := p.ContainerLog(ctx, pod, kubernetes.ContainerLogOptions{Follow: true})
	if err != nil {
		return err
	}
	defer log.Close()
	switch line, err := bufio.NewReader(log).ReadString('\n'); {
	case err != nil:
		return fmt.Errorf("read the container's log: %w", err)
	case line == "\n":
		return errors.New("the container's log has an empty line, and a version was printed")
	}
	return nil
}

// remove deletes what is left of one of the test's jobs. It works even after ctx has ended, and takes at most
// goneWait.
func (t *testOptions) remove(ctx context.Context, name string) error {
	c, ok := t.place.(place.Cluster)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goneWait)
	defer cancel()
	err := t.delete(ctx, c, name)
	if err == nil {
		err = t.awaitGone(ctx, name)
	}
	if err != nil {
		return &job.Hinted{
			Err:  fmt.Errorf("job %s may be left: %w", name, err),
			Hint: fmt.Sprintf("{hodei} delete %s -n %s", name, c.Namespace()),
		}
	}
	return nil
}

// delete deletes a job, if it is there.
func (t *testOptions) delete(ctx context.Context, c place.Cluster, name string) error {
	found, err := c.Find(ctx, name)
	if errors.Is(err, kubernetes.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	run, err := c.Attach(ctx, found, kubernetes.RunOptions{NoTunnel: true}) // what is deleted needs no certificate
	if err != nil {
		return err
	}
	defer run.Close()
	return run.Delete(ctx)
}

// leftEvery is how often we look whether a job is gone: its Pod may take some seconds.
const leftEvery = 500 * time.Millisecond

// awaitGone waits until nothing is left of a job. What we may not see counts as gone once the Job that owns it
// is.
func (t *testOptions) awaitGone(ctx context.Context, name string) error {
	tick := time.NewTicker(leftEvery)
	defer tick.Stop()
	for {
		left, err := t.left(ctx, name)
		if err != nil || len(left) == 0 {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s still there: %w", strings.Join(left, ", "), ctx.Err())
		}
	}
}

// left names the kinds of objects that are left of a job.
func (t *testOptions) left(ctx context.Context, name string) (left []string, err error) {
	namespace := t.config.Namespace
	_, job := t.cluster.BatchV1().Jobs(namespace).Get(ctx, name, metav1.GetOptions{})
	_, secret := t.cluster.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	pods, podsErr := t.cluster.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: kubernetes.LabelJob + "=" + name})
	for _, l := range []struct {
		what string
		none bool
		err  error
	}{{"job", false, job}, {"secret", false, secret}, {"pods", podsErr == nil && len(pods.Items) == 0, podsErr}} {
		switch {
		case l.none:
		case l.err == nil:
			left = append(left, l.what)
		case apierrors.IsNotFound(l.err), apierrors.IsForbidden(l.err):
		default:
			return nil, kubernetes.Explain(l.err)
		}
	}
	return left, nil
}
