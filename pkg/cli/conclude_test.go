package cli

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
			want := "run it again with more memory: " + test.want
			if got := moreMemory(&test.spec, test.used); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}
