package manifest

import (
	"encoding/json"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
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

// CheckSize refuses a Job that no API server takes: its annotations, or all of it, are too large.
// The error says by how much.
func CheckSize(j *batchv1.Job) error {
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
