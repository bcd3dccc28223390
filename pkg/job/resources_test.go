package job

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
)

func TestResources(t *testing.T) {
	text := func(q *resource.Quantity) string {
		if q == nil {
			return ""
		}
		return q.String()
	}
	parsed := func(s string) *resource.Quantity {
		if s == "" {
			return nil
		}
		return quantity(s)
	}
	for _, test := range []struct {
		name                                  string
		request, limit                        string // as they are named
		wantRequest, wantLimit, wantScheduled string
	}{
		{"nothing", "", "", "", "", ""},
		{"a request is the limit too", "1", "", "1", "1", "1"},
		{"a limit that is named", "1", "2", "1", "2", "1"},
		{"a limit alone", "", "2", "", "2", "2"},
		{"both alike", "2", "2", "2", "2", "2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cpu := (&Spec{CPU: parsed(test.request), CPULimit: parsed(test.limit)}).Resources()
			memory := (&Spec{Memory: parsed(test.request), MemoryLimit: parsed(test.limit)}).Resources()
			if cpu.Memory != (Bounds{}) || memory.CPU != (Bounds{}) {
				t.Errorf("one resource's bounds are another's: %+v, %+v", cpu.Memory, memory.CPU)
			}
			for resource, b := range map[string]Bounds{"CPU": cpu.CPU, "memory": memory.Memory} {
				if text(b.Request) != test.wantRequest || text(b.Limit) != test.wantLimit || text(b.Scheduled()) != test.wantScheduled {
					t.Errorf("%s: request %q, limit %q, scheduled %q, want %q, %q, %q", resource,
						text(b.Request), text(b.Limit), text(b.Scheduled()), test.wantRequest, test.wantLimit, test.wantScheduled)
				}
			}
		})
	}
}
