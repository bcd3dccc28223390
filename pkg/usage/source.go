package usage

import "strings"

// sources says in words where figures come from. The keys are the values of Source in [job.Usage].
var sources = map[string]string{
	"cgroup2":      "the kernel's files of the job's container (cgroup v2)",
	"cgroup1":      "the kernel's files of the job's container (cgroup v1)",
	"cgroup2+ebpf": "the kernel's files of the job's container (cgroup v2), and eBPF",
	"cgroup1+ebpf": "the kernel's files of the job's container (cgroup v1), and eBPF",
	processSource:  "/proc of the job's processes",
	"proc+ebpf":    "/proc of the job's processes, and eBPF",
}

const (
	// processSource begins the name of a source that is weaker than a cgroup: it misses processes that came and went
	// unseen, and memory that the kernel itself holds for the job.
	processSource = "proc"
	// ebpfSource ends the name of a source that eBPF assists.
	ebpfSource = "+ebpf"
)

// HasEBPF reports whether eBPF assists a source.
func HasEBPF(source string) bool { return strings.HasSuffix(source, ebpfSource) }

// sourceText returns where figures come from, in words.
func sourceText(source string) string {
	if text := sources[source]; text != "" {
		return text
	}
	return "nowhere: none could be read"
}
