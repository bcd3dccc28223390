package top

import (
	"fmt"
	"strconv"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/ui"
	"github.com/hodei-jobs/hodei/pkg/usage"
)

// figure is a column of hodei top, and how its cell is made.
type figure struct {
	ui.Column
	cell func(r *row, s job.Sample, rate job.Rate) string
}

// figures are the columns after the job's name. On a narrow terminal the highest Drop goes first: what a person
// looks at last.
var figures = []figure{
	{ui.Column{Title: "CPU", Right: true}, func(_ *row, s job.Sample, rate job.Rate) string {
		return cores(rate.Cores, s.Usage.CPU.LimitMillis)
	}},
	{ui.Column{Title: "", Drop: 7}, func(r *row, _ job.Sample, _ job.Rate) string {
		return ui.Spark(usage.CPUCurve(r.samples, sparkWidth))
	}},
	{ui.Column{Title: "MEMORY", Right: true}, func(_ *row, s job.Sample, _ job.Rate) string {
		return memory(s.Usage.Memory.Current, s.Usage.Memory.Limit)
	}},
	{ui.Column{Title: "PEAK", Right: true, Drop: 2}, func(_ *row, s job.Sample, _ job.Rate) string {
		return memory(s.Usage.Memory.Peak, nil)
	}},
	{ui.Column{Title: "", Drop: 8}, func(r *row, _ job.Sample, _ job.Rate) string {
		return ui.Spark(usage.MemoryCurve(r.samples, sparkWidth))
	}},
	{ui.Column{Title: "READ", Right: true, Drop: 4}, ofRate(func(r job.Rate) string { return usage.PerSecond(r.ReadBytes) })},
	{ui.Column{Title: "WRITE", Right: true, Drop: 4}, ofRate(func(r job.Rate) string { return usage.PerSecond(r.WriteBytes) })},
	{ui.Column{Title: "RECEIVE", Right: true, Drop: 3}, ofRate(func(r job.Rate) string { return usage.PerSecond(r.ReceiveBytes) })},
	{ui.Column{Title: "SEND", Right: true, Drop: 3}, ofRate(func(r job.Rate) string { return usage.PerSecond(r.TransmitBytes) })},
	{ui.Column{Title: "PIDS", Right: true, Drop: 5}, func(_ *row, s job.Sample, _ job.Rate) string {
		return count(s.Usage.Pids.Current)
	}},
	{ui.Column{Title: "THROTTLED", Right: true, Drop: 6}, ofRate(func(r job.Rate) string { return shareOf(r.Throttled) })},
	{ui.Column{Title: "WAITS", Drop: 6}, ofRate(usage.Waits)},
}

// ofRate makes a cell that shows how fast something is used.
func ofRate(text func(job.Rate) string) func(*row, job.Sample, job.Rate) string {
	return func(_ *row, _ job.Sample, rate job.Rate) string { return text(rate) }
}

// sparkWidth is the width of a curve in columns. With it, all columns of the table fit some 140.
const sparkWidth = 10

// tableOf returns the lines of a table of rows. Each row begins with time, unless that is empty, and with namespaces
// it has its namespace. A table for a terminal has curves, and leaves out columns that have no figure. Others always
// have the same columns, for the programs that read them.
func tableOf(rows []row, time string, namespaces, terminal bool, width int) []string {
	var columns []ui.Column
	var before []func(*row) string
	if time != "" {
		columns = append(columns, ui.Column{Title: "TIME"})
		before = append(before, func(*row) string { return time })
	}
	if namespaces {
		columns = append(columns, ui.Column{Title: "NAMESPACE"})
		before = append(before, func(r *row) string { return r.namespace })
	}
	columns = append(columns, ui.Column{Title: "NAME"})
	before = append(before, func(r *row) string { return r.name })

	lines := make([]ui.Row, len(rows))
	for i := range rows {
		r := &rows[i]
		for _, cell := range before {
			lines[i].Cells = append(lines[i].Cells, cell(r))
		}
		switch r.rank() {
		case 1:
			lines[i].Text = r.waiting
		case 2:
			lines[i].Text = r.outcome.Summary()
		}
	}
	for _, f := range figures {
		cells, known := make([]string, len(rows)), false
		for i := range rows {
			if r := &rows[i]; r.rank() == 0 {
				s, rate := r.latest()
				cells[i] = f.cell(r, s, rate)
				known = known || cells[i] != usage.Unknown && cells[i] != ""
			}
		}
		if f.Title == "" && !terminal || terminal && !known && f.Drop > 0 {
			continue
		}
		columns = append(columns, f.Column)
		for i := range rows {
			if rows[i].rank() == 0 {
				lines[i].Cells = append(lines[i].Cells, cells[i])
			}
		}
	}
	return ui.Table(columns, lines, width)
}

// cores writes the cores in use, and how many the quota allows, if there is one.
func cores(used *float64, limitMillis *uint64) string {
	text := usage.Unknown
	if used != nil {
		text = fmt.Sprintf("%.2f", *used)
	}
	if limitMillis != nil {
		text += " of " + strconv.FormatFloat(float64(*limitMillis)/1000, 'f', -1, 64)
	}
	return text
}

func memory(bytes, limit *uint64) string {
	text := usage.Unknown
	if bytes != nil {
		text = job.MemorySize(*bytes)
	}
	if limit != nil {
		text += " of " + job.MemorySize(*limit)
	}
	return text
}

func count(n *uint64) string {
	if n == nil {
		return usage.Unknown
	}
	return strconv.FormatUint(*n, 10)
}

func shareOf(share *float64) string {
	if share == nil {
		return usage.Unknown
	}
	return usage.Percent(*share)
}
