package manifest

import (
	"maps"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// Secret makes the Secret of a Job that exists: the Job owns it, and has its name.
func Secret(owner *batchv1.Job, spec *job.Spec, id *certs.JobCerts) *corev1.Secret {
	return secret(owner, owner.Name, map[string][]byte{
		"ca.crt":     id.CA,
		"client.crt": id.ClientCert, "client.key": id.ClientKey,
		"server.crt": id.ServerCert, "server.key": id.ServerKey,
		startByKey: []byte(startBy(owner, spec)),
	})
}

// ExecName is the name of a job's second Secret, which a job that allows commands beside its own has.
func ExecName(job string) string { return job + "-exec" }

// ExecSecret makes the second Secret of a Job that exists. It is not mounted anywhere: who may read it may run commands
// beside the job's, and who may read the first one alone may not.
func ExecSecret(owner *batchv1.Job, exec *certs.JobCerts) *corev1.Secret {
	return secret(owner, ExecName(owner.Name), map[string][]byte{
		"ca.crt": exec.CA, "server.crt": exec.ServerCert, "server.key": exec.ServerKey,
	})
}

// secret makes a Secret that a Job owns.
func secret(owner *batchv1.Job, name string, data map[string][]byte) *corev1.Secret {
	ref := metav1.NewControllerRef(owner, batchv1.SchemeGroupVersion.WithKind("Job"))
	labels := maps.Clone(owner.Labels)
	delete(labels, LabelQueue)   // the Job alone is queued
	ref.BlockOwnerDeletion = nil // OpenShift lets only those set it who may change the Job's finalizers
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: owner.Namespace, Labels: labels,
			OwnerReferences: []metav1.OwnerReference{*ref},
		},
		Type: corev1.SecretTypeOpaque,
		Data: data,
	}
}

// startByKey is the key of a job's Secret that holds startBy. It is mounted beside the
// certificates, for the agent alone.
const startByKey = "start-by"

// startBy is the time, by the API server's clock, after which the command of a job must not
// start any more. "" means that each attempt counts its start timeout from its own start: a
// queued or suspended job may start at any time, and the later attempts of a job with retries
// are not its start. Every hodei command that waits for the start gives up a moment later, so
// what it reports stays true.
func startBy(j *batchv1.Job, spec *job.Spec) string {
	if j.CreationTimestamp.IsZero() || j.Labels[LabelQueue] != "" || j.Spec.Suspend != nil && *j.Spec.Suspend || spec.Retries > 0 {
		return ""
	}
	return j.CreationTimestamp.Add(spec.StartTimeout).UTC().Format(time.RFC3339)
}

// CertsOf are the certificates that a job's Secret holds; what it lacks is nil.
func CertsOf(s *corev1.Secret) *certs.JobCerts {
	return &certs.JobCerts{
		CA:         s.Data["ca.crt"],
		ClientCert: s.Data["client.crt"], ClientKey: s.Data["client.key"],
		ServerCert: s.Data["server.crt"], ServerKey: s.Data["server.key"],
	}
}
