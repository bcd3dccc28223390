package report

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// point is a value at a time since the start of the curves.
type point struct {
	at    time.Duration
	value float64
}

// curve is what is known of a figure over time, in pieces: between two of them it is
// not known.
type curve [][]point

// peak is the highest of it; 0: it has nothing.
func (c curve) peak() float64 {
	top := 0.0
	for _, piece := range c {
		for _, p := range piece {
			top = max(top, p.value)
		}
	}
	return top
}

// course is the samples of a run on a common axis of time.
type course struct {
	samples []job.Sample
	start   time.Time
	span    time.Duration // above zero
}

// maxLead is how long before the first sample a command may be said to have started:
// it is taken when the command starts, or, if nobody has asked, 10 s later at most.
// More is a clock that is wrong.
const maxLead = 15 * time.Second

// newCourse orders the samples of a run. Times that make no sense are left out.
func newCourse(r *job.Run) course {
	var c course
	for _, s := range r.Samples {
		if n := len(c.samples); n == 0 || s.Time.After(c.samples[n-1].Time) {
			c.samples = append(c.samples, s)
		}
	}
	if len(c.samples) == 0 {
		return course{span: time.Second}
	}
	c.start = c.samples[0].Time
	end := c.samples[len(c.samples)-1].Time
	if o := r.Outcome; o != nil {
		if lead := c.start.Sub(o.Started); lead > 0 && lead <= maxLead {
			c.start = o.Started
		}
	}
	if c.span = end.Sub(c.start); c.span <= 0 {
		c.span = time.Second
	}
	return c
}

// levels is a figure that has a value at any time.
func (c course) levels(figure func(*job.Usage) *uint64) curve {
	var out curve
	known := false
	for i := range c.samples {
		value := figure(&c.samples[i].Usage)
		if value == nil {
			known = false
			continue
		}
		if !known {
			out = append(out, nil)
		}
		known = true
		last := len(out) - 1
		out[last] = append(out[last], point{c.samples[i].Time.Sub(c.start), float64(*value)})
	}
	return out
}

// rates is how much of a figure that only grows there was a second, between each
// sample and the next: the area below it is what was used. A figure that went back is
// not known there.
func (c course) rates(figure func(*job.Usage) (float64, bool)) curve {
	var out curve
	known := false
	for i := 1; i < len(c.samples); i++ {
		a, b := &c.samples[i-1], &c.samples[i]
		before, ok1 := figure(&a.Usage)
		after, ok2 := figure(&b.Usage)
		if !ok1 || !ok2 || after < before {
			known = false
			continue
		}
		rate := (after - before) / b.Time.Sub(a.Time).Seconds()
		step := []point{{a.Time.Sub(c.start), rate}, {b.Time.Sub(c.start), rate}}
		if !known {
			out = append(out, nil)
		}
		known = true
		last := len(out) - 1
		out[last] = append(out[last], step...)
	}
	return out
}

// cpuSeconds is the CPU time of a usage.
func cpuSeconds(u *job.Usage) (float64, bool) {
	switch c := &u.CPU; {
	case c.Total != nil:
		return c.Total.Seconds(), true
	case c.User != nil && c.System != nil:
		return c.User.Seconds() + c.System.Seconds(), true
	}
	return 0, false
}

// grown makes a figure of rates of one of usage's.
func grown(figure func(*job.Usage) *uint64) func(*job.Usage) (float64, bool) {
	return func(u *job.Usage) (float64, bool) {
		if n := figure(u); n != nil {
			return float64(*n), true
		}
		return 0, false
	}
}

// charts are the curves of a run.
func (r *Report) charts() []panel {
	c := newCourse(&r.Run)
	last := r.usage()
	if last == nil {
		last = &job.Usage{}
	}
	if len(c.samples) < 2 {
		why := "one sample makes no curve"
		if len(c.samples) == 0 {
			why = cmp.Or(plain(r.Missing), "there are no samples of this run")
		}
		return []panel{chart{title: "CPU, memory, disk and network over time", absent: "no curves: " + why}}
	}
	received := func(u *job.Usage) *uint64 {
		if t := u.Network.Total(); t != nil {
			return &t.ReceiveBytes
		}
		return nil
	}
	sent := func(u *job.Usage) *uint64 {
		if t := u.Network.Total(); t != nil {
			return &t.TransmitBytes
		}
		return nil
	}

	cpu := chart{title: "CPU, in cores", short: "CPU", kind: coresAxis, span: c.span, absent: "not counted: the kernel gave no CPU time",
		lines: []line{{"used", "cpu", true, c.rates(cpuSeconds)}}}
	if m := last.CPU.LimitMillis; m != nil {
		cpu.levels = append(cpu.levels, level{"limit", "limit", float64(*m) / 1000})
	}
	memory := chart{title: "Memory", short: "memory", kind: memoryAxis, span: c.span,
		absent: "not counted: the kernel gave no memory figure",
		lines:  []line{{"in use", "memory", true, c.levels(func(u *job.Usage) *uint64 { return u.Memory.Current })}}}
	if m := last.Memory.Limit; m != nil {
		memory.levels = append(memory.levels, level{"limit", "limit", float64(*m)})
	}
	if m := last.Memory.Peak; m != nil {
		memory.levels = append(memory.levels, level{"peak", "peak", float64(*m)})
	}
	io := chart{title: "Disk I/O, a second", short: "disk I/O", kind: bytesAxis, span: c.span,
		absent: "not counted: the kernel gave no I/O of block devices",
		lines: []line{
			{"read", "in", false, c.rates(grown(func(u *job.Usage) *uint64 { return u.IO.ReadBytes }))},
			{"written", "out", false, c.rates(grown(func(u *job.Usage) *uint64 { return u.IO.WriteBytes }))},
		}}
	network := chart{title: "Network, a second", short: "network", kind: bytesAxis, span: c.span,
		absent: "not counted: " + r.uncounted("network"),
		lines:  []line{{"received", "in", false, c.rates(grown(received))}, {"sent", "out", false, c.rates(grown(sent))}}}

	var all []panel
	var absent []chart
	for _, ch := range []chart{cpu, memory, io, network} {
		if slices.ContainsFunc(ch.lines, func(l line) bool { return len(l.curve) > 0 }) {
			ch.absent = ""
			all = append(all, ch)
		} else {
			absent = append(absent, ch)
		}
	}
	switch len(absent) {
	case 0:
	case 1:
		all = append(all, absent[0])
	default: // one panel tells of all
		var why []string
		for _, ch := range absent {
			why = append(why, ch.short+": "+strings.TrimPrefix(ch.absent, "not counted: "))
		}
		all = append(all, chart{title: "Not counted", absent: strings.Join(why, "\n")})
	}
	return all
}
