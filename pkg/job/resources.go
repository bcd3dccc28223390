package job

import (
	"cmp"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Resources are what a job's container may use, with the defaults of what the job does
// not name.
type Resources struct {
	// CPU is in cores, Memory in bytes.
	CPU, Memory Bounds
}

// Bounds are the request and the limit of one resource. The zero value asks for nothing
// and limits nothing.
type Bounds struct {
	// Request is what the job named; nil: nothing.
	Request *resource.Quantity
	// Limit is what the job named, else Request; nil: there is none.
	Limit *resource.Quantity
}

// Scheduled returns what a node reserves for the job; nil: nothing. Where only a limit is
// named, Kubernetes takes it for the request.
func (b Bounds) Scheduled() *resource.Quantity { return cmp.Or(b.Request, b.Limit) }

// Resources returns what s asks for: a limit that is not named is the request. The quantities
// are those of s, not copies.
func (s *Spec) Resources() Resources {
	bounds := func(request, limit *resource.Quantity) Bounds { return Bounds{request, cmp.Or(limit, request)} }
	return Resources{CPU: bounds(s.CPU, s.CPULimit), Memory: bounds(s.Memory, s.MemoryLimit)}
}
