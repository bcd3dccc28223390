package manifest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// specText returns the annotation of a Job. It leaves out what the Pod's template has already:
// all annotations together may have 256 KiB.
func specText(spec *job.Spec) (string, error) {
	bare := *spec
	bare.Command, bare.Env = nil, nil
	var text strings.Builder
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	err := e.Encode(bare)
	return strings.TrimSuffix(text.String(), "\n"), err
}

// SpecOf reads what was asked for from a Job, with defaults. One that says nothing of it
// is not ours, and neither is a copy under another name.
func SpecOf(j *batchv1.Job) (*job.Spec, error) {
	text, ok := j.Annotations[AnnotationSpec]
	if !ok {
		return nil, fmt.Errorf("job %q was not made by hodei: it has no annotation %s", j.Name, AnnotationSpec)
	}
	spec := &job.Spec{}
	if err := json.Unmarshal([]byte(text), spec); err != nil {
		return nil, fmt.Errorf("annotation %s of job %q: %w", AnnotationSpec, j.Name, err)
	}
	if spec.Name != j.Name {
		return nil, fmt.Errorf("annotation %s of job %q is of job %q", AnnotationSpec, j.Name, spec.Name)
	}
	if len(spec.Command) == 0 { // earlier versions have all of it there
		spec.Command, spec.Env = commandOf(&j.Spec.Template.Spec)
	}
	spec.SetDefaults() // of another version's
	return spec, nil
}

// commandOf reads the command and its variables from a Pod's template, as they were
// typed. What is not there, or not as hodei makes it, is empty.
func commandOf(pod *corev1.PodSpec) (command []string, env []job.EnvVar) {
	for _, c := range pod.Containers {
		if c.Name != JobContainer {
			continue
		}
		if end := slices.Index(c.Command, "--"); end >= 0 {
			for _, arg := range c.Command[end+1:] {
				command = append(command, typed(arg))
			}
		}
		for _, v := range c.Env {
			if v.ValueFrom == nil { // else it is one of ours
				env = append(env, job.EnvVar{Name: v.Name, Value: typed(v.Value)})
			}
		}
	}
	return command, env
}
