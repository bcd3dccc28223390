package explain

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

// A job has a Secret of its name, and one whose name has "-exec" behind it if commands may be run beside the job's. Names
// of jobs may end in -exec too, so one Secret can be wanted by two jobs. The later one is refused.

// SecretTaken explains the error that a Secret which a job needs exists already. holder is the job that it belongs to;
// empty: not known, or none.
func SecretTaken(err error, name, secret, holder string) error {
	f := &job.Failure{Cause: job.ConfigError, Err: err}
	switch {
	case secret == manifest.ExecName(name):
		f.Message = fmt.Sprintf("secret %q exists already, and job %s needs that name to allow exec", secret, name)
		if holder == secret {
			f.Message = fmt.Sprintf("job %s can't allow exec: it needs a secret %q, and that is job %s's", name, secret, holder)
		}
		f.Hint = "choose another --name, or run it with --exec=false"
	case holder != "" && secret == manifest.ExecName(holder):
		f.Message = fmt.Sprintf("job %s can't have this name: it needs a secret %q, and job %s, which allows exec, has that",
			name, secret, holder)
		f.Hint = "choose another --name"
	default:
		return err
	}
	return f
}

// Holder is the job that a Secret belongs to; empty: none, or there is no Secret.
func Holder(secret *corev1.Secret) string {
	if secret == nil {
		return ""
	}
	if owner := metav1.GetControllerOf(secret); owner != nil && owner.Kind == "Job" {
		return owner.Name
	}
	return ""
}

// MayNotExec explains the error that we may not read the second Secret of a job.
func MayNotExec(err error, namespace, name string) *job.Failure {
	secret := manifest.ExecName(name)
	f := *unreadable(err, namespace, secret)
	f.Message = fmt.Sprintf("no command may be run beside job %s without its secret %q: %s", name, secret, f.Message)
	return &f
}

// unreadable explains an error, as [Error] does, of reading the Secret called name. Where the right to that is missing, the
// hint grants it for this one Secret, and not for all, as hodei-user does.
func unreadable(err error, namespace, name string) *job.Failure {
	f := Error(err)
	m := deniedPattern.FindStringSubmatch(OneLine(err.Error()))
	if original := f.Err; m == nil && original != nil {
		m = deniedPattern.FindStringSubmatch(OneLine(original.Error()))
	}
	if f.Cause != job.Forbidden || m == nil || m[1] == anonymous {
		return f
	}
	user, subject := named(m[1])
	narrow := *f
	narrow.Hint = fmt.Sprintf("an administrator can grant it: "+
		"kubectl create role %[1]s --verb=get --resource=secrets --resource-name=%[1]s -n %[3]s && "+
		"kubectl create rolebinding %[1]s-%[2]s --role=%[1]s %[4]s -n %[3]s",
		name, strings.TrimPrefix(bindingName(user), "hodei-"), namespace, subject)
	return &narrow
}
