package job

import "testing"

func TestReachedLimit(t *testing.T) {
	n := func(v uint64) *uint64 { return &v }
	for _, test := range []struct {
		name string
		used *Usage
		want bool
	}{
		{"nothing is known", nil, false},
		{"no figures", &Usage{}, false},
		{"counted", &Usage{Memory: MemoryUsage{OOMEvents: n(1)}}, true},
		{"not its own, and filled by files", &Usage{Memory: MemoryUsage{OOMEvents: n(0), MaxEvents: n(9), Peak: n(6400), Limit: n(6400)}},
			false},
		{"version 1", &Usage{Memory: MemoryUsage{MaxEvents: n(1)}}, true},
		{"version 1, by its peak", &Usage{Memory: MemoryUsage{MaxEvents: n(0), Peak: n(6300), Limit: n(6400)}}, true},
		{"version 1, below", &Usage{Memory: MemoryUsage{MaxEvents: n(0), Peak: n(6299), Limit: n(6400)}}, false},
		{"version 1, without a limit", &Usage{Memory: MemoryUsage{Peak: n(6400)}}, false},
		{"the limit that the kernel told", &Usage{Memory: MemoryUsage{Peak: n(6400), OOMVictim: &OOMVictim{LimitBytes: 6400}}}, true},
		{"a victim without a limit", &Usage{Memory: MemoryUsage{Peak: n(1), Limit: n(6400), OOMVictim: &OOMVictim{}}}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.used.ReachedLimit(); got != test.want {
				t.Errorf("got %t, want %t", got, test.want)
			}
		})
	}
}
