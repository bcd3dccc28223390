package remedy

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/hodei-jobs/hodei/pkg/job"
)

func TestMoreMemory(t *testing.T) {
	q := func(s string) *resource.Quantity { return new(resource.MustParse(s)) }
	for _, test := range []struct {
		name string
		spec job.Spec
		used *job.Usage
		want string
	}{
		{"its memory", job.Spec{Memory: q("512Mi")}, nil, "--memory 1Gi"},
		{"its limit", job.Spec{Memory: q("512Mi"), MemoryLimit: q("1Gi")}, nil, "--memory-limit 2Gi"},
		{"the cluster's", job.Spec{}, &job.Usage{Memory: job.MemoryUsage{Limit: new(uint64(256 << 20))}}, "--memory 512Mi"},
		{"none is known", job.Spec{}, &job.Usage{}, "--memory SIZE"},
		{"nothing is known", job.Spec{}, nil, "--memory SIZE"},
		{"absurd", job.Spec{}, &job.Usage{Memory: job.MemoryUsage{Limit: new(uint64(1 << 63))}}, "--memory SIZE"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.spec.Name = "x"
			for want, j := range map[string]Job{
				"{hodei} rerun x " + test.want:                {Spec: &test.spec},
				"run it again with more memory: " + test.want: {Spec: &test.spec, Removed: true},
			} {
				if got := j.moreMemory(test.used); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		})
	}
}

// This machine has no Job to look at.
func TestExplainHere(t *testing.T) {
	f := Job{Spec: &job.Spec{Name: "x"}, Here: true}.Explain(&job.Outcome{Cause: job.Unknown})
	if f == nil || f.Hint != "see what is left: {hodei} logs x" {
		t.Errorf("got %+v", f)
	}
	if f := (Job{Spec: &job.Spec{Name: "x"}, Removed: true}).Explain(&job.Outcome{Cause: job.Unknown}); f == nil || f.Hint != "" {
		t.Errorf("of a job that was removed: %+v", f)
	}
}

// A job that somebody else has run is run again in its image.
func TestExplainNotRun(t *testing.T) {
	outcome := &job.Outcome{Cause: job.Error, Code: job.ExitNotFound, Message: "executable file not found in $PATH"}
	spec := &job.Spec{Name: "x", Image: "busybox", Command: []string{"a && b"}}
	for again, want := range map[string]string{
		"":               "a shell can: {hodei} run --image busybox -- sh -c 'a && b'",
		"{hodei} run -q": "a shell can: {hodei} run -q -- sh -c 'a && b'",
	} {
		if f := (Job{Spec: spec, Again: again}).Explain(outcome); f == nil || f.Hint != want {
			t.Errorf("again %q: got %+v, want %q", again, f, want)
		}
	}
}
