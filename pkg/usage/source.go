package usage

import "strings"

// sources says where figures come from, by what [job.Usage] calls it.
var sources = map[string]string{
	"cgroup2":      "the kernel's files of the job's container (cgroup v2)",
	"cgroup1":      "the kernel's files of the job's container (cgroup v1)",
	"cgroup2+ebpf": "the kernel's files of the job's container (cgroup v2), and eBPF",
	"cgroup1+ebpf": "the kernel's files of the job's container (cgroup v1), and eBPF",
	processSource:  "/proc of the job's processes",
	"proc+ebpf":    "/proc of the job's processes, and eBPF",
}

const (
	// processSource begins the name of a source that is weaker than a cgroup: what a process did
	// that came and went unseen, and what the kernel holds for the job, is not in it.
	processSource = "proc"
	// ebpfSource ends the name of a source that eBPF assists.
	ebpfSource = "+ebpf"
)

// HasEBPF reports whether eBPF assists a source.
func HasEBPF(source string) bool { return strings.HasSuffix(source, ebpfSource) }

// sourceText says where figures come from, in words.
func sourceText(source string) string {
	if text := sources[source]; text != "" {
		return text
	}
	return "nowhere: none could be read"
}
