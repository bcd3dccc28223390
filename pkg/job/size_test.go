package job

import (
	"math"
	"testing"
)

func TestSize(t *testing.T) {
	for _, test := range []struct {
		name         string
		bytes        uint64
		memory, data string
	}{
		{"nothing", 0, "0B", "0B"},
		{"bytes", 512, "512B", "512B"},
		{"nearly a unit", 999, "999B", "999B"},
		{"one unit", 1024, "1Ki", "1kB"},
		{"rounded up into the next unit", 1<<20 - 1, "1Mi", "1MB"},
		{"one digit", 3 << 19, "1.5Mi", "1.6MB"},
		{"tens", 12_345_678, "11.8Mi", "12.3MB"},
		{"hundreds", 812 << 20, "812Mi", "851MB"},
		{"more than a decimal unit", 1010 << 20, "1010Mi", "1.1GB"},
		{"the greatest", math.MaxUint64, "16Ei", "18.4EB"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := MemorySize(test.bytes); got != test.memory {
				t.Errorf("memory %s, want %s", got, test.memory)
			}
			if got := DataSize(test.bytes); got != test.data {
				t.Errorf("data %s, want %s", got, test.data)
			}
		})
	}
}
