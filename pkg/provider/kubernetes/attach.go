package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilversion "k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/discovery"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

// Attach returns a Run of a job that is there already, with the certificates by
// which its agents know a coordinator. With NoTunnel nobody has to show any, so they
// are not asked for. Watch keeps what is left of the job's start timeout.
//
// A *job.Failure is returned where the right to read the job's Secret is missing,
// or the Secret is; another error where what it holds is not this job's.
func (p *Provider) Attach(ctx context.Context, found *Found, o RunOptions) (*Run, error) {
	var (
		server  *certs.JobServer
		secrets []*corev1.Secret
	)
	if !o.NoTunnel {
		id, secret, err := p.serverCerts(ctx, found.Job, o.Exec)
		if err != nil {
			return nil, err
		}
		if server, err = certs.NewJobServer(id); err != nil {
			return nil, err
		}
		secrets = append(secrets, secret)
	}
	r := p.newRun(found.Spec, o)
	r.job, r.secrets, r.certs, r.found = found.Job, secrets, server, found
	for _, a := range found.Attempts {
		r.pods[a.Name] = true
	}
	r.watch(ctx)
	return r, nil
}

// serverCerts reads the server's side of a job's certificates from its Secret, or with exec those of who may run
// commands beside the job's from its second one. It returns that Secret too.
func (p *Provider) serverCerts(ctx context.Context, j *batchv1.Job, exec bool) (*certs.JobCerts, *corev1.Secret, error) {
	name, wanted := j.Name, contract.JobURI(j.Namespace, j.Name)
	if exec {
		name, wanted = manifest.ExecName(j.Name), contract.JobExecURI(j.Namespace, j.Name)
	}
	absent := func(what string) error {
		return &job.Failure{Cause: job.ConfigError,
			Message: fmt.Sprintf("job %q can't be attached to: %s in namespace %s", j.Name, what, j.Namespace),
			Hint:    fmt.Sprintf("see how it is: {hodei} jobs %s -n %s", j.Name, j.Namespace)}
	}
	secret, err := p.jobSecret(ctx, j, name)
	switch {
	case apierrors.IsNotFound(err) && isUnfinished(j):
		return nil, nil, &job.Failure{Cause: job.ConfigError, Err: err,
			Message: fmt.Sprintf("job %q can't be attached to: hodei was ended before it had made the job whole; "+
				"the cluster ends the job %s after its start", j.Name, makingSeconds*time.Second),
			Hint: fmt.Sprintf("{hodei} delete -n %s %s", j.Namespace, j.Name)}
	case apierrors.IsNotFound(err):
		return nil, nil, absent(fmt.Sprintf("its secret %q is not found", name))
	case exec && apierrors.IsForbidden(err):
		return nil, nil, explain.MayNotExec(err, j.Namespace, j.Name)
	case err != nil:
		return nil, nil, err
	}
	id := &certs.JobCerts{}
	for _, k := range []struct {
		name string
		to   *[]byte
	}{{"ca.crt", &id.CA}, {"server.crt", &id.ServerCert}, {"server.key", &id.ServerKey}} {
		if *k.to = secret.Data[k.name]; len(*k.to) == 0 {
			return nil, nil, absent(fmt.Sprintf("its secret %q has no key %s", name, k.name))
		}
	}
	config, err := id.ServerConfig()
	if err != nil {
		if errors.Is(err, certs.ErrExpired) {
			return nil, nil, &job.Failure{Cause: job.ConfigError, Err: err, Message: fmt.Sprintf("secret %q: %v", secret.Name, err),
				Hint: fmt.Sprintf("{hodei} certs rotate --job %s -n %s", j.Name, j.Namespace)}
		}
		return nil, nil, fmt.Errorf("secret %q: %w", secret.Name, err)
	}
	switch uris := config.Certificates[0].Leaf.URIs; {
	case len(uris) != 1:
		return nil, nil, fmt.Errorf("secret %q: server.crt: it has %d URI names, want one", secret.Name, len(uris))
	case uris[0].String() != wanted:
		return nil, nil, fmt.Errorf("secret %q: server.crt is of %s, want %s", secret.Name, uris[0], wanted)
	}
	return id, secret, nil
}

// ContainerLogOptions choose what ContainerLog returns; the zero value is all that
// the kubelet still has.
type ContainerLogOptions struct {
	// Follow waits for more until the container ends.
	Follow bool
	// Since leaves out what is older; zero: nothing.
	Since time.Time
	// TailLines is how many lines are returned of those that are there; nil: all.
	TailLines *int64
	// Timestamps puts the time in RFC 3339 and a space before every line.
	Timestamps bool
	// Stream is "stdout" or "stderr"; "" is both, as they came. Few clusters can tell
	// them apart, and none can together with TailLines.
	Stream string
}

// streams are the words of the API for those of a user.
var streams = map[string]string{"stdout": corev1.LogStreamStdout, "stderr": corev1.LogStreamStderr}

// splitStreams is the first version whose API server does not pass over the choice
// of a stream: it makes it, or refuses.
var splitStreams = utilversion.MustParseGeneric("1.32")

// ContainerLog opens the log of the job's container in a Pod: what the job printed,
// if it copies its output there, and what of it the kubelet still has. It ends
// with ctx, by its error or as if the log did. An error is a *job.Failure, but for
// a Stream that there is not.
func (p *Provider) ContainerLog(ctx context.Context, pod string, o ContainerLogOptions) (io.ReadCloser, error) {
	options := &corev1.PodLogOptions{Container: manifest.JobContainer, Follow: o.Follow, TailLines: o.TailLines, Timestamps: o.Timestamps}
	if !o.Since.IsZero() {
		options.SinceTime = &metav1.Time{Time: o.Since}
	}
	if o.Stream != "" {
		stream, ok := streams[o.Stream]
		if !ok {
			return nil, fmt.Errorf("stream %q: want stdout or stderr", o.Stream)
		}
		options.Stream = &stream
		version, err := discovery.ToServerVersionInterfaceWithContext(p.client.Discovery()).ServerVersionWithContext(ctx)
		if err != nil {
			return nil, explain.Error(err)
		}
		if v, err := utilversion.ParseGeneric(version.GitVersion); err != nil || v.LessThan(splitStreams) {
			return nil, oneStream(fmt.Errorf("the server's version is %q", version.GitVersion))
		}
	}
	log, err := p.client.CoreV1().Pods(p.settings.Namespace).GetLogs(pod, options).Stream(ctx)
	if err != nil {
		if o.Stream != "" && refusesStream(err) {
			return nil, oneStream(err)
		}
		return nil, explain.Error(err)
	}
	return log, nil
}

// refusesStream tells the answer of an API server, or of a kubelet, whose feature
// gate is off.
func refusesStream(err error) bool {
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) {
		return false
	}
	if details := answer.Status().Details; apierrors.IsInvalid(err) && details != nil {
		for _, c := range details.Causes {
			if c.Field == "stream" {
				return true
			}
		}
	}
	return apierrors.IsBadRequest(err) && strings.Contains(err.Error(), "PodLogsQuerySplitStreams")
}

func oneStream(err error) error {
	return &job.Failure{Cause: job.ConfigError, Err: err,
		Message: "this cluster can't tell stdout from stderr in a container's log (feature gate PodLogsQuerySplitStreams)",
		Hint:    "leave --stream out"}
}
