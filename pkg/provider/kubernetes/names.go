package kubernetes

import (
	batchv1 "k8s.io/api/batch/v1"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

// The names here are the face of the packages below for those who use a cluster beside a Provider, as
// install, doctor and the commands do: they import this package alone.

// What to look for in a cluster, or to say of a job; package manifest says what each is.
const (
	LabelJob       = manifest.LabelJob
	LabelManagedBy = manifest.LabelManagedBy
	ManagedBy      = manifest.ManagedBy
	AnnotationSpec = manifest.AnnotationSpec
	AnnotationEBPF = manifest.AnnotationEBPF

	LauncherPath            = manifest.LauncherPath
	DefaultEphemeralStorage = manifest.DefaultEphemeralStorage
)

// SpecOf reads what was asked for from a Job, with defaults, as [manifest.SpecOf] does.
func SpecOf(j *batchv1.Job) (*job.Spec, error) { return manifest.SpecOf(j) }

// ExecName is the name of a job's second Secret, as [manifest.ExecName] has it.
func ExecName(job string) string { return manifest.ExecName(job) }

// Explain turns an error of the API server, of the way to it, or of the kubeconfig into a Failure with a
// hint, as [explain.Error] does.
func Explain(err error) *job.Failure { return explain.Error(err) }

// InstallCommand is what makes a workers' namespace, and what is in it, for a hint.
func InstallCommand(namespace string) string { return explain.InstallCommand(namespace) }

// AccountHint is what makes a service account that jobs need, for a hint.
func AccountHint(namespace, account string) string { return explain.AccountHint(namespace, account) }

// RefusesEBPF says whether a refusal, or a warning, is about the agent's capabilities.
func RefusesEBPF(message string) bool { return explain.RefusesEBPF(message) }

// ClockHint is what helps against the last words of a job's agent, if they are about the time of a
// certificate; else it is "".
func ClockHint(message, namespace, name string) string {
	return explain.ClockHint(message, namespace, name)
}
