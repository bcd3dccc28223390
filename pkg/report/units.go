package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// binary writes bytes of memory at an axis, where job.MemorySize has a digit too few for
// quarters: 812Mi, 1.25Gi.
func binary(b uint64) string {
	return scaled(float64(b), 1024, []string{"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"}, "")
}

// decimal writes bytes of a disk or a network: 12.3 MB.
func decimal(b float64) string {
	return scaled(b, 1000, []string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}, " ")
}

// scaled writes v in the largest unit of which it is one or more.
func scaled(v, base float64, units []string, space string) string {
	i := 0
	for ; i < len(units)-1 && v >= base; i++ {
		v /= base
	}
	if i > 0 && v >= 999.5 && i < len(units)-1 && base == 1000 { // else it would be rounded to 1000
		v, i = v/base, i+1
	}
	text := number(v)
	if units[i] == "" {
		space = ""
	}
	return text + space + units[i]
}

// number writes v with three digits, and no more zeros than it needs.
func number(v float64) string {
	digits := 0
	switch a := math.Abs(v); {
	case a == 0:
		return "0"
	case a < 9.995:
		digits = 2
	case a < 99.95:
		digits = 1
	}
	if a := math.Abs(v); a < 0.995 {
		digits = 3
	}
	s := strconv.FormatFloat(v, 'f', digits, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// count writes n with its thousands apart.
func count(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// clock writes a time on an axis of a span: 45s, 1m30s, 2h.
func clock(d, span time.Duration) string {
	switch {
	case d == 0:
		return "0"
	case span < time.Second:
		return number(float64(d)/float64(time.Millisecond)) + "ms"
	case d%time.Second != 0:
		return number(d.Seconds()) + "s"
	}
	var b strings.Builder
	for _, u := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if n := d / u.of; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			d %= u.of
		}
	}
	return b.String()
}

// asked writes resources; what is nil was not asked for.
func asked(cpu, memory *resource.Quantity) []string {
	var words []string
	if cpu != nil {
		words = append(words, "cpu "+cpu.String())
	}
	if memory != nil {
		words = append(words, "memory "+memory.String())
	}
	return words
}

// share writes a part of a whole in percent; "" where there is no whole.
func share(part, whole float64) string {
	if whole <= 0 {
		return ""
	}
	return number(math.Round(part/whole*1000)/10) + " %"
}

// took writes a duration as all of hodei does.
func took(d *time.Duration) string { return job.Duration(*d) }
