package report

import (
	"math"
	"strings"
	"time"
)

// Distances of a poster, in pixels.
const posterGap, posterHead = 16, 108

// poster is all panels on one picture, two in a row, below what was run and how it
// went.
func poster(r *Report) []byte {
	panels := r.panels()
	rows := math.Ceil(float64(len(panels)) / 2)
	width := 2*float64(panelWidth) + 3*posterGap
	height := posterHead + rows*(panelHeight+posterGap)
	c := newCanvas()
	c.rect("paper", 0, 0, width, height)
	state, class := r.state()
	c.text("head", "ink", posterGap, 32, fit("head", r.name(), width-2*posterGap))
	c.text("code", "muted", posterGap, 53, fit("code", plain(r.Command), width-2*posterGap))
	var words []string
	for _, f := range r.figures() {
		if f.Absent || f.Name == "wall time" {
			continue
		}
		text := f.Name + " " + f.Text
		if strings.HasPrefix(f.Detail, "of ") {
			text += " " + f.Detail
		}
		words = append(words, text)
	}
	if o := r.Run.Outcome; o != nil && !o.Started.IsZero() {
		words = append(words, o.Started.Format(time.DateTime))
	}
	c.text("sub", class, posterGap, 74, fit("sub", state, width-2*posterGap))
	c.text("sub", "muted", posterGap, 95, fit("sub", strings.Join(words, " · "), width-2*posterGap))
	for i, p := range panels {
		at := c.at(posterGap+float64(i%2)*(panelWidth+posterGap), posterHead+float64(i/2)*(panelHeight+posterGap))
		at.rect("card", 0, 0, panelWidth, panelHeight)
		p.draw(at)
	}
	return c.svg(width, height, r.name()+": "+state, true)
}
