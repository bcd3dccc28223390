package kubernetes

import (
	"encoding/json"
	"fmt"
	"path"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"

	"github.com/hodei-jobs/hodei/pkg/job"
)

const (
	// maxJobBytes is the most that etcd takes of one object, 1.5 MiB, less what the cluster
	// adds to a Job and its Pods: status, conditions, managed fields.
	maxJobBytes = 3<<19 - 128<<10
	// maxBodyBytes is the most that the API server takes of one request, 3 MiB. A Job is sent
	// as JSON, which has six bytes for each <, > and &.
	maxBodyBytes = 3<<20 - 16<<10
)

// CheckSpec refuses a spec, with its defaults, that no cluster could take, before
// anything is made. It asks none. Where one field is wrong the error is a [job.FieldError], or has one
// in it.
func (p *Provider) CheckSpec(spec *job.Spec) error {
	if spec.Workdir != "" && !path.IsAbs(spec.Workdir) {
		return job.InvalidField("workdir", spec.Workdir, "want a path from the root, as it is in the image")
	}
	j, err := p.Manifest(spec)
	if err != nil {
		return err
	}
	if err := apivalidation.ValidateAnnotationsSize(j.Annotations); err != nil { // the provider's, with ours
		return err
	}
	if n := j.Size(); n > maxJobBytes {
		return tooLarge(n, maxJobBytes, "")
	}
	body, err := json.Marshal(j)
	if err != nil {
		return err
	}
	if len(body) > maxBodyBytes {
		return tooLarge(len(body), maxBodyBytes, " as JSON, in which <, > and & take six each")
	}
	return nil
}

func tooLarge(bytes, most int, how string) error {
	return &job.Failure{Cause: job.ConfigError, Hint: job.TooLargeHint,
		Message: fmt.Sprintf("the Job with the command and its variables has %d bytes%s: Kubernetes takes at most %d", bytes, how, most)}
}
