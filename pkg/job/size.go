package job

import "strconv"

// MemorySize writes bytes of memory as Kubernetes does, to three digits or four:
// 812Mi, 1.5Gi, 40Ki; below 1 KiB as 512B.
func MemorySize(bytes uint64) string {
	return size(bytes, 1024, []string{"B", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"})
}

// DataSize writes bytes that went over a network, or to a disk, in the decimal units
// in which both are sold: 12.3MB, 400kB; below 1 kB as 512B.
func DataSize(bytes uint64) string {
	return size(bytes, 1000, []string{"B", "kB", "MB", "GB", "TB", "PB", "EB"})
}

// size writes n in the largest unit of which there is one: one digit behind the point
// below 100, unless it is 0.
func size(n uint64, base float64, units []string) string {
	v, unit := float64(n), 0
	for v >= base-0.5 && unit < len(units)-1 { // what would be rounded to base is one of the next
		v /= base
		unit++
	}
	digits := 1
	if rounded := strconv.FormatFloat(v, 'f', 1, 64); v >= 99.95 || rounded[len(rounded)-1] == '0' {
		digits = 0
	}
	return strconv.FormatFloat(v, 'f', digits, 64) + units[unit]
}
