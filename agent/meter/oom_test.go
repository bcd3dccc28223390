package meter

import (
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

func TestOutOfMemory(t *testing.T) {
	tests := []struct {
		name          string
		before, after *hodeipb.Usage
		want          string
	}{
		{name: "nothing is known"},
		{name: "no kill", before: &hodeipb.Usage{OomKills: proto.Uint64(0)}, after: &hodeipb.Usage{OomKills: proto.Uint64(0)}},
		{name: "none since the start", before: &hodeipb.Usage{OomKills: proto.Uint64(3)}, after: &hodeipb.Usage{OomKills: proto.Uint64(3)}},
		{name: "a kill alone", after: &hodeipb.Usage{OomKills: proto.Uint64(1)},
			want: "the kernel killed a process of the job for want of memory on the node or in the Pod"},
		{name: "far below the limit",
			after: &hodeipb.Usage{OomKills: proto.Uint64(1), MemoryLimitBytes: proto.Uint64(512 << 20),
				MemoryPeakBytes: proto.Uint64(500 << 20)},
			want: "the kernel killed a process of the job for want of memory on the node or in the Pod"},
		{name: "at the limit before the start alone",
			before: &hodeipb.Usage{MemoryMaxEvents: proto.Uint64(3), OomEvents: proto.Uint64(1)},
			after:  &hodeipb.Usage{OomKills: proto.Uint64(1), MemoryMaxEvents: proto.Uint64(3), OomEvents: proto.Uint64(1)},
			want:   "the kernel killed a process of the job for want of memory on the node or in the Pod"},
		{name: "out of memory, without the limit", after: &hodeipb.Usage{OomKills: proto.Uint64(1), OomEvents: proto.Uint64(1)},
			want: "memory reached its limit; the kernel killed a process of the job"},
		{name: "with the limit",
			after: &hodeipb.Usage{OomKills: proto.Uint64(1), MemoryMaxEvents: proto.Uint64(9), MemoryLimitBytes: proto.Uint64(512 << 20)},
			want:  "memory reached its limit of 512Mi; the kernel killed a process of the job"},
		{name: "a limit full of page cache, on a node without memory",
			after: &hodeipb.Usage{OomKills: proto.Uint64(1), OomEvents: proto.Uint64(0), MemoryMaxEvents: proto.Uint64(9),
				MemoryPeakBytes: proto.Uint64(512 << 20), MemoryLimitBytes: proto.Uint64(512 << 20)},
			want: "the kernel killed a process of the job for want of memory on the node or in the Pod"},
		{name: "a peak at the limit",
			after: &hodeipb.Usage{OomKills: proto.Uint64(1), MemoryPeakBytes: proto.Uint64(512 << 20),
				MemoryLimitBytes: proto.Uint64(512 << 20)},
			want: "memory reached its limit of 512Mi; the kernel killed a process of the job"},
		{name: "with the victim",
			after: &hodeipb.Usage{OomKills: proto.Uint64(1), OomEvents: proto.Uint64(1), MemoryLimitBytes: proto.Uint64(512 << 20),
				OomVictim: &hodeipb.OOMVictim{Name: "python", Pid: 7, Bytes: 498 << 20}},
			want: "memory reached its limit of 512Mi; the kernel killed python (498Mi)"},
		{name: "the limit that the victim met",
			after: &hodeipb.Usage{OomEvents: proto.Uint64(1), MemoryLimitBytes: proto.Uint64(512 << 20),
				OomVictim: &hodeipb.OOMVictim{Name: "python", LimitBytes: 256 << 20}},
			want: "memory reached its limit of 256Mi; the kernel killed python"},
		{name: "the victim alone, its cgroup having gone", after: &hodeipb.Usage{OomVictim: &hodeipb.OOMVictim{Name: "sh", Bytes: 1536}},
			want: "the kernel killed sh (1.5Ki) for want of memory"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := OutOfMemory(test.before, test.after, 0); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

func TestBinarySize(t *testing.T) {
	tests := []struct {
		name string
		n    uint64
		want string
	}{
		{"none", 0, "0"},
		{"bytes", 1023, "1023"},
		{"a unit", 1 << 20, "1Mi"},
		{"halves", 3 << 29, "1.5Gi"},
		{"two decimals", 1300 << 20, "1.27Gi"},
		{"one decimal", 99<<20 + 1<<19, "99.5Mi"},
		{"none of them", 498<<20 + 700<<10, "499Mi"},
		{"up to the next unit", 1<<30 - 1, "1Gi"},
		{"the most", 1<<64 - 1, "16Ei"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := binarySize(test.n); got != test.want {
				t.Errorf("%d is %q, want %q", test.n, got, test.want)
			}
		})
	}
}

func TestPrintable(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"plain", "python3", "python3"},
		{"another script", "añadir", "añadir"},
		{"brackets and spaces", "a (b) c", "a (b) c"},
		{"a terminal's orders", "\x1b[31mred\r\n", "[31mred"},
		{"C1, and the other direction", "a\u009b\u202eb", "a  b"},
		{"no UTF-8", "a\xff", "a\ufffd"},
		{"nothing", "", "a process"},
		{"nothing to be seen", "\t\x00 ", "a process"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := printable(test.in)
			if got != test.want || !utf8.ValidString(got) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
