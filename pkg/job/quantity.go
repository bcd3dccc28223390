package job

import (
	"fmt"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Amount is what a quantity counts, with the bounds of what a person can mean. Kubernetes
// accepts far more: it stores 512m of memory, which is half a byte.
type Amount struct {
	least, most string
	example     string
	// scale is the finest that is counted: single bytes, or thousandths of a CPU.
	scale resource.Scale
	finer string // what is said of a quantity between two of them
}

// The amounts that people write. A bound's reason is beside it.
var (
	// CPUs in cores, counted in thousandths as Kubernetes does. The largest machines
	// have some 2,000 cores: what is above 10,000 was meant as bytes.
	CPUs = Amount{least: "1m", most: "10k", example: "500m or 2", scale: resource.Milli, finer: "a CPU has no more than 1000 parts"}
	// Memory in bytes. The launcher itself takes 4 MiB: with less nothing starts.
	Memory = Amount{least: "4Mi", most: "1Pi", example: "512Mi or 4Gi", finer: "a byte has no parts"}
	// Disk in bytes. The least is a page: what is below was meant as MiB or GiB.
	Disk = Amount{least: "4Ki", most: "1Pi", example: "512Mi or 10Gi", finer: "a byte has no parts"}
	// Spool is how much of a job's output is kept. Less than the least would be full in a
	// moment; no node's disk has more than the most.
	Spool = Amount{least: "1Mi", most: "16Ti", example: "512Mi or 1Gi", finer: "a byte has no parts"}
	// Store is what is kept of all jobs' output on a machine. A store is made of at
	// least 16 segments of 64 KiB.
	Store = Amount{least: "1Mi", most: "1Pi", example: "10Gi", finer: "a byte has no parts"}
	// What all jobs of a namespace may request together, of as large a cluster as there
	// may be.
	AllCPUs   = Amount{least: "1m", most: "100M", example: "500m or 20", scale: resource.Milli, finer: "a CPU has no more than 1000 parts"}
	AllMemory = Amount{least: "4Mi", most: "1Ei", example: "64Gi", finer: "a byte has no parts"}
	AllPods   = Amount{least: "1", most: "1M", example: "50", finer: "want a whole number"}
)

// Parse reads a quantity and checks it. An error begins with the text, for a flag's
// or a key's name before it.
func (a Amount) Parse(text string) (resource.Quantity, error) {
	q, err := resource.ParseQuantity(text)
	if err != nil {
		return q, fmt.Errorf("%q: want a quantity such as %s%s", text, a.example, a.meant(text))
	}
	return q, a.CheckField("", q)
}

// CheckField refuses a quantity that is out of bounds, or finer than what is counted. The error is a [FieldError] of
// path; without a path, its text begins with the quantity.
func (a Amount) CheckField(path string, q resource.Quantity) error {
	switch {
	case !a.holds(q):
		return InvalidField(path, &q, "want %s to %s%s", a.least, a.most, a.meant(q.String()))
	case !a.counts(q):
		return InvalidField(path, &q, "%s%s", a.finer, a.meant(q.String()))
	}
	return nil
}

// holds tells whether q is within a's bounds.
func (a Amount) holds(q resource.Quantity) bool {
	return q.Cmp(resource.MustParse(a.least)) >= 0 && q.Cmp(resource.MustParse(a.most)) <= 0
}

// counts tells whether q, which a holds, is no finer than what is counted.
func (a Amount) counts(q resource.Quantity) bool {
	return resource.NewScaledQuantity(q.ScaledValue(a.scale), a.scale).Cmp(q) == 0 // that is rounded up
}

// CheckPair checks the fields of a request and its limit, which are nil where they are not
// given. An error is a [FieldError] of path or limitPath.
func (a Amount) CheckPair(path string, request *resource.Quantity, limitPath string, limit *resource.Quantity) error {
	if request != nil {
		if err := a.CheckField(path, *request); err != nil {
			return err
		}
	}
	if limit != nil {
		if err := a.CheckField(limitPath, *limit); err != nil {
			return err
		}
	}
	if request != nil && limit != nil && request.Cmp(*limit) > 0 {
		return &FieldError{Path: path, Value: request.String(), Detail: "more than", Beside: limitPath, BesideValue: limit.String()}
	}
	return nil
}

var sizePattern = regexp.MustCompile(`^([0-9]*\.?[0-9]+) ?([kmgtKMGT]?)(?i:i?b?|bytes?)$`)

// meant is what somebody probably meant by a text that is no amount of bytes, as the
// end of a sentence: 512Mi for 512m, 512MB or 512. It is empty where there is no guess.
func (a Amount) meant(text string) string {
	m := sizePattern.FindStringSubmatch(text)
	if m == nil || !strings.HasSuffix(a.most, "i") { // not in bytes
		return ""
	}
	units := []string{strings.ToUpper(m[2]) + "i"}
	switch m[2] {
	case "":
		units = []string{"Mi", "Gi"}
	case "k":
		units = []string{"Ki"}
	}
	for _, unit := range units {
		guess := m[1] + unit
		if q, err := resource.ParseQuantity(guess); err == nil && a.holds(q) && a.counts(q) {
			return "; did you mean " + guess + "?"
		}
	}
	return ""
}

// GuessBytes is what somebody probably meant by a text that Kubernetes does not take
// for a quantity, such as 1GB, as the end of a sentence; empty where there is no guess.
func GuessBytes(text string) string { return Disk.meant(text) }

// maxGPUs is more than any node has, with each GPU cut into parts.
const maxGPUs = 1024

func (s *Spec) checkResources() error {
	for _, r := range []struct {
		path           string
		amount         Amount
		request, limit *resource.Quantity
	}{
		{"cpu", CPUs, s.CPU, s.CPULimit}, {"memory", Memory, s.Memory, s.MemoryLimit},
		{"ephemeralStorage", Disk, s.EphemeralStorage, nil}, {"logSpool", Spool, s.LogSpool, nil},
	} {
		if err := r.amount.CheckPair(r.path, r.request, r.path+"Limit", r.limit); err != nil {
			return err
		}
	}
	if s.GPU < 0 || s.GPU > maxGPUs {
		return InvalidField("gpu", s.GPU, "want 0 to %d", maxGPUs)
	}
	return nil
}
