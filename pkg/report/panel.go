package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// panel is one of the pictures.
type panel interface {
	// draw draws it, panelWidth by panelHeight.
	draw(c *canvas)
	// says is what it shows, for who can't see it.
	says() string
}

// box is a part of a panel, in pixels.
type box struct{ left, top, right, bottom float64 }

// plot is where a panel has its curves: below title and legend, beside the labels.
var plot = box{left: 58, top: 52, right: panelWidth - 20, bottom: panelHeight - 28}

// picture is a panel as an SVG element for a page.
func picture(p panel) []byte {
	c := newCanvas()
	p.draw(c)
	return c.svg(panelWidth, panelHeight, p.says(), false)
}

// chart is curves over time.
type chart struct {
	title  string
	short  string // name among others
	kind   axisKind
	span   time.Duration
	lines  []line
	levels []level
	absent string // why there is no curve; empty: there is
}

type line struct {
	name, class string
	area        bool
	curve       curve
}

// level is a value that does not change.
type level struct {
	name, class string
	value       float64
}

// maxAbove is how far above curve and peak a limit may be to be drawn: further up it would
// press the curve to the ground, and is said in words instead.
const maxAbove = 3

func (ch chart) says() string {
	if ch.absent != "" {
		return ch.title + ": " + ch.absent
	}
	words := []string{}
	for _, l := range ch.lines {
		words = append(words, fmt.Sprintf("%s up to %s", l.name, ch.label(l.curve.peak())))
	}
	for _, l := range ch.levels {
		words = append(words, l.name+" "+ch.label(l.value))
	}
	return ch.title + " over " + job.Duration(ch.span) + ": " + strings.Join(words, ", ")
}

// label writes a value of the chart.
func (ch chart) label(v float64) string {
	switch ch.kind {
	case memoryAxis:
		return job.MemorySize(uint64(min(v, math.MaxInt64)))
	case bytesAxis:
		return decimal(v)
	}
	return number(v)
}

func (ch chart) draw(c *canvas) {
	c.text("title", "ink", 8, 20, ch.title)
	if ch.absent != "" {
		absent(c, ch.absent)
		return
	}
	top := 0.0
	for _, l := range ch.lines {
		top = max(top, l.curve.peak())
	}
	for _, l := range ch.levels {
		if l.class == "peak" { // which the samples may have missed
			top = max(top, l.value)
		}
	}
	reach := max(top, least[ch.kind]) * maxAbove
	for _, l := range ch.levels {
		if l.value <= reach {
			top = max(top, l.value)
		}
	}
	ticks := valueTicks(top, ch.kind)
	top = ticks[len(ticks)-1].at
	ch.axes(c, ticks)
	for _, l := range ch.lines {
		for _, piece := range l.curve {
			l.draw(c, piece, ch.span, top)
		}
	}
	for _, l := range ch.levels {
		if l.value <= top {
			at := plot.bottom - l.value/top*(plot.bottom-plot.top)
			c.line("level "+l.class, plot.left, at, plot.right, at)
		}
	}
	ch.legend(c, top)
}

func (l line) draw(c *canvas, piece []point, span time.Duration, top float64) {
	if len(piece) == 1 {
		across := float64(piece[0].at) / float64(span) * (plot.right - plot.left)
		up := piece[0].value / top * (plot.bottom - plot.top)
		c.dot("dot "+l.class, plot.left+across, plot.bottom-up)
		return
	}
	c.series("curve "+l.class, l.area, plot, piece, span, top)
}

// axes draws the grid and its labels.
func (ch chart) axes(c *canvas, ticks []tick) {
	top := ticks[len(ticks)-1].at
	for _, t := range ticks {
		at := plot.bottom - t.at/top*(plot.bottom-plot.top)
		c.line("grid", plot.left, at, plot.right, at)
		c.text("label", "muted end", plot.left-6, at+4, t.label)
	}
	timeAxis(c, ch.span, plot)
}

// timeAxis draws the labels of time below a box.
func timeAxis(c *canvas, span time.Duration, b box) {
	for _, t := range timeTicks(span) {
		at := b.left + t.at/float64(span)*(b.right-b.left)
		c.line("grid", at, b.bottom, at, b.bottom+4)
		c.text("label", "muted middle", at, b.bottom+17, t.label)
	}
}

// legend tells curves and levels apart; a level that is not in the picture is said
// to be above it.
func (ch chart) legend(c *canvas, top float64) {
	x := 8.0
	item := func(mark func(x float64), text string) {
		mark(x)
		c.text("label", "muted", x+20, 38, text)
		x += 20 + textWidth("label", text) + 12
	}
	for _, l := range ch.lines {
		text := l.name
		if ch.kind == bytesAxis {
			text += fmt.Sprintf(" (up to %s)", decimal(l.curve.peak()))
		}
		item(func(x float64) { c.line("key "+l.class, x, 34, x+14, 34) }, text)
	}
	for _, l := range ch.levels {
		text := l.name + " " + ch.label(l.value)
		mark := func(x float64) { c.line("level "+l.class, x, 34, x+14, 34) }
		if l.value > top {
			text += " (above)"
		}
		item(mark, text)
	}
}

// absent says in the middle of a panel why it is empty.
func absent(c *canvas, why string) {
	c.rect("hollow", 8, 34, panelWidth-16, panelHeight-44)
	y := 62.0
	for text := range strings.SplitSeq(why, "\n") {
		y = c.paragraph("note", "muted", 24, y, panelWidth-48, 3, text) + 8
	}
}

// timeline is the start of a run.
type timeline struct {
	begin  time.Time
	phases []job.Event // reached, in the order of their times
	coarse bool        // the times are whole seconds
}

func newTimeline(events []job.Event) timeline {
	var t timeline
	seen := map[job.Phase]bool{}
	for _, e := range events {
		if !e.Waiting && !seen[e.Phase] && e.Phase != job.Pulling { // which the next one ends
			seen[e.Phase] = true
			t.phases = append(t.phases, e)
		}
	}
	slices.SortStableFunc(t.phases, func(a, b job.Event) int { return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Phase, b.Phase)) })
	if len(t.phases) > 0 {
		t.begin = t.phases[0].Time
	}
	t.coarse = !slices.ContainsFunc(t.phases, func(e job.Event) bool { return e.Time.Nanosecond() != 0 })
	return t
}

// label writes a part of the start.
func (t timeline) label(d time.Duration) string {
	switch {
	case t.coarse && d < time.Minute:
		return fmt.Sprintf("%.0fs", d.Seconds())
	case d < 100*time.Millisecond:
		return number(float64(d)/float64(time.Millisecond)) + "ms"
	}
	return job.Duration(d)
}

// span is the time from the first phase to the last.
func (t timeline) span() time.Duration {
	if len(t.phases) == 0 {
		return 0
	}
	return t.phases[len(t.phases)-1].Time.Sub(t.begin)
}

func (t timeline) title() string {
	if len(t.phases) < 2 {
		return "Start"
	}
	return fmt.Sprintf("Start: %s from %s to %s", t.label(t.span()), t.phases[0].Phase, t.phases[len(t.phases)-1].Phase)
}

func (t timeline) says() string {
	words := []string{}
	for i, e := range t.phases {
		if i > 0 {
			words = append(words, fmt.Sprintf("%s %s", e.Phase, t.label(e.Time.Sub(t.phases[i-1].Time))))
		}
	}
	if len(words) == 0 {
		return "Start: not seen"
	}
	return t.title() + ": " + strings.Join(words, ", ")
}

func (t timeline) draw(c *canvas) {
	c.text("title", "ink", 8, 20, t.title())
	if len(t.phases) < 2 {
		absent(c, "the start was not seen: nobody followed it, and the cluster no longer tells of it")
		return
	}
	b := box{left: 76, top: 40, right: plot.right, bottom: plot.bottom}
	span := max(t.span(), time.Millisecond)
	timeAxis(c, span, b)
	row := min(30, (b.bottom-b.top)/float64(len(t.phases)-1))
	for _, tick := range timeTicks(span) {
		at := b.left + tick.at/float64(span)*(b.right-b.left)
		c.line("grid", at, b.top, at, b.bottom)
	}
	for i, e := range t.phases[1:] {
		y := b.top + row*float64(i)
		from, to := t.phases[i].Time.Sub(t.begin), e.Time.Sub(t.begin)
		left := b.left + float64(from)/float64(span)*(b.right-b.left)
		right := b.left + float64(to)/float64(span)*(b.right-b.left)
		c.text("label", "ink end", b.left-8, y+row/2+4, e.Phase.String())
		c.rect("bar", left, y+row*0.18, max(right-left, 1.5), row*0.64)
		label := t.label(to - from)
		switch width := textWidth("label", label) + 6; {
		case right+width <= panelWidth-4:
			c.text("label", "ink halo", right+6, y+row/2+4, label)
		case left-width >= b.left:
			c.text("label", "ink halo end", left-6, y+row/2+4, label)
		default:
			c.text("label", "onbar end", right-6, y+row/2+4, label)
		}
	}
}

// waits is what a start waited for, as it was said.
func waits(events []job.Event) []fact {
	var out []fact
	for _, e := range events {
		if e.Waiting {
			out = append(out, fact{e.Time.Format(time.TimeOnly), plain(e.Detail)})
		}
	}
	return out
}

// histogram is how long threads waited for a CPU, of those waits that were seen.
type histogram struct {
	counts  []uint64
	watched time.Duration // 0: not known
}

// maxBuckets is one for every power of two of a uint64, of nanoseconds or anything.
const maxBuckets = 65

func newHistogram(counts []uint64, watched time.Duration) histogram {
	counts = counts[:min(len(counts), maxBuckets)]
	for len(counts) > 0 && counts[len(counts)-1] == 0 {
		counts = counts[:len(counts)-1]
	}
	return histogram{counts, watched}
}

func (h histogram) says() string {
	if len(h.counts) == 0 {
		return "Waits for a CPU: none"
	}
	return fmt.Sprintf("Waits for a CPU%s: the longest %s or more", h.sample(), bound(len(h.counts)-1))
}

// sample says that there were more waits than those that were seen; empty: not known.
func (h histogram) sample() string {
	if h.watched <= 0 {
		return ""
	}
	return ", a sample of " + job.Duration(h.watched)
}

// bound is the least wait of a bucket.
func bound(bucket int) string {
	if bucket == 0 {
		return "0"
	}
	// In microseconds, so that those beyond any Duration have a name too.
	switch us := math.Exp2(float64(bucket - 1)); {
	case us < 1000:
		return number(us) + "µs"
	case us < 1e6:
		return number(math.Round(us/1000)) + "ms"
	case us < 3600e6:
		return number(math.Round(us/1e6)) + "s"
	default:
		return number(math.Round(us/3600e6)) + "h"
	}
}

func (h histogram) draw(c *canvas) {
	c.text("title", "ink", 8, 20, "Waits of threads for a CPU")
	if len(h.counts) == 0 {
		absent(c, "no thread waited")
		return
	}
	c.text("label", "muted", 8, 38, "how many"+h.sample()+", by how long, both in powers; "+bound(len(h.counts)-1)+
		" or more was the longest")
	b := plot
	decades := math.Ceil(math.Log10(float64(slices.Max(h.counts)) + 1))
	// One wait is half a decade high, so that it can be seen.
	height := func(n float64) float64 { return (math.Log10(n) + 0.5) / (decades + 0.5) * (b.bottom - b.top) }
	for d, step := 0.0, math.Ceil((decades+1)/maxValueTicks); d <= decades; d += step {
		at := b.bottom - height(math.Pow(10, d))
		c.line("grid", b.left, at, b.right, at)
		c.text("label", "muted end", b.left-6, at+4,
			strings.ReplaceAll(scaled(math.Pow(10, d), 1000, []string{"", "k", "M", "G", "T", "P", "E"}, ""), " ", ""))
	}
	c.line("grid", b.left, b.bottom, b.right, b.bottom)
	width := min((b.right-b.left)/float64(len(h.counts)), 40)
	every := max(1, int(math.Ceil(46/width))) // so that labels have room
	for i, n := range h.counts {
		x := b.left + float64(i)*width
		if n > 0 {
			c.rect("bar", x+width*0.1, b.bottom-height(float64(n)), width*0.8, height(float64(n)))
		}
		if i%every == 0 {
			c.line("grid", x, b.bottom, x, b.bottom+4)
			c.text("label", "muted middle", x, b.bottom+17, bound(i))
		}
	}
}
