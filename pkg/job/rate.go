package job

import "time"

// Rate is how fast a job used things between two samples. A nil figure could not be
// had: one of the samples lacks it, or its counter went back.
type Rate struct {
	// Cores is CPU time in a time: 1 is one core all the while.
	Cores *float64 `json:"cores,omitempty"`
	// Of the block devices, and of the network over both address families, a second.
	ReadBytes     *float64 `json:"readBytesPerSecond,omitempty"`
	WriteBytes    *float64 `json:"writeBytesPerSecond,omitempty"`
	ReceiveBytes  *float64 `json:"receiveBytesPerSecond,omitempty"`
	TransmitBytes *float64 `json:"transmitBytesPerSecond,omitempty"`
	// Throttled is the share of the quota's periods, 0 to 1, in which threads were held
	// back.
	Throttled *float64 `json:"throttledShare,omitempty"`
	// The shares of the time, 0 to 1, in which all threads that had something to do
	// waited.
	CPUPressure    *float64 `json:"cpuPressureShare,omitempty"`
	MemoryPressure *float64 `json:"memoryPressureShare,omitempty"`
	IOPressure     *float64 `json:"ioPressureShare,omitempty"`
}

// RateBetween is the rate from one sample to a later one. That of samples which are
// not in this order is empty.
func RateBetween(from, to Sample) Rate {
	wall := to.Time.Sub(from.Time).Seconds()
	if wall <= 0 {
		return Rate{}
	}
	a, b := &from.Usage, &to.Usage
	r := Rate{
		Cores:          quotient(elapsed(a.CPU.Total, b.CPU.Total), wall),
		ReadBytes:      quotient(counted(a.IO.ReadBytes, b.IO.ReadBytes), wall),
		WriteBytes:     quotient(counted(a.IO.WriteBytes, b.IO.WriteBytes), wall),
		CPUPressure:    share(elapsed(a.Pressure.CPUFull, b.Pressure.CPUFull), wall),
		MemoryPressure: share(elapsed(a.Pressure.MemoryFull, b.Pressure.MemoryFull), wall),
		IOPressure:     share(elapsed(a.Pressure.IOFull, b.Pressure.IOFull), wall),
	}
	if before, after := a.Network.Total(), b.Network.Total(); before != nil && after != nil {
		r.ReceiveBytes = quotient(counted(&before.ReceiveBytes, &after.ReceiveBytes), wall)
		r.TransmitBytes = quotient(counted(&before.TransmitBytes, &after.TransmitBytes), wall)
	}
	if periods := counted(a.CPU.Periods, b.CPU.Periods); periods != nil && *periods > 0 {
		r.Throttled = share(counted(a.CPU.ThrottledPeriods, b.CPU.ThrottledPeriods), *periods)
	}
	return r
}

// counted is by how much a counter has grown; nil if it is not known twice, or has not.
func counted(from, to *uint64) *float64 {
	if from == nil || to == nil || *to < *from {
		return nil
	}
	grown := float64(*to - *from)
	return &grown
}

// elapsed is counted of a time, in seconds.
func elapsed(from, to *time.Duration) *float64 {
	if from == nil || to == nil || *to < *from {
		return nil
	}
	grown := (*to - *from).Seconds()
	return &grown
}

func quotient(n *float64, by float64) *float64 {
	if n == nil {
		return nil
	}
	q := *n / by
	return &q
}

// share is a quotient of at most 1: the two may have been read at slightly different
// times.
func share(n *float64, of float64) *float64 {
	q := quotient(n, of)
	if q != nil {
		*q = min(*q, 1)
	}
	return q
}

const (
	// minSpan is the least time whose mean says something of a run: the launcher spends
	// some 2 ms of CPU after the first sample, which is 2 % of a core over it.
	minSpan = 100 * time.Millisecond
	// minWhole is the same where there is no first sample to subtract: the container
	// runtime and the launcher have spent some 30 ms until the command starts, which is
	// less than 1 % of a core over it.
	minWhole = 5 * time.Second
)

// MeanCores is the CPU time that the command used, by its time on the clock: 1 is one
// core all the while. It is from the first sample on, which is of the command's start,
// so that what the container's start has cost is not in it. It is nil where CPU was not
// counted, or the run was too short for a mean: 100 ms, and 5 s without samples.
func (r *Run) MeanCores() *float64 {
	var end Sample
	if n := len(r.Samples); n > 0 {
		end = r.Samples[n-1]
	}
	if o := r.Outcome; o != nil && o.Usage != nil {
		end = Sample{Time: o.Finished, Usage: *o.Usage}
	}
	if len(r.Samples) > 0 && end.Time.Sub(r.Samples[0].Time) >= minSpan {
		if cores := RateBetween(r.Samples[0], end).Cores; cores != nil && *cores >= 0 {
			return cores
		}
	}
	total := end.Usage.CPU.Total
	if o := r.Outcome; o == nil || o.Started.IsZero() || total == nil || *total < 0 || o.Finished.Sub(o.Started) < minWhole {
		return nil
	}
	return quotient(new(total.Seconds()), r.Outcome.Finished.Sub(r.Outcome.Started).Seconds())
}
