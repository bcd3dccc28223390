package report

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"html"
	"math"
	"slices"
	"time"
)

// fine is how many units a pixel has: coordinates are whole numbers, which are short, and a curve in
// whole pixels has stairs.
const fine = 4

// Sizes of a panel, in pixels: two are side by side on a laptop, and on a phone one is
// as wide as the screen with letters that can still be read.
const panelWidth, panelHeight = 440, 224

// canvas draws a panel. Positions are in pixels, from its upper left corner. Looks are
// those of picture.css, by class, so that one picture is light and dark.
type canvas struct {
	out  *bytes.Buffer // elements of SVG
	x, y float64       // of that corner
}

func newCanvas() *canvas { return &canvas{out: &bytes.Buffer{}} }

// at is a part of the picture.
func (c *canvas) at(x, y float64) *canvas { return &canvas{c.out, c.x + x, c.y + y} }

func (c *canvas) px(x float64) int { return int((c.x + x) * fine) }
func (c *canvas) py(y float64) int { return int((c.y + y) * fine) }

// text writes s. The first word of class is that of its size.
func (c *canvas) text(size, class string, x, y float64, s string) {
	if s == "" {
		return
	}
	fmt.Fprintf(c.out, `<text x="%d" y="%d" class="%s %s">`, c.px(x), c.py(y), size, class)
	_ = xml.EscapeText(c.out, []byte(s)) // a buffer takes everything
	c.out.WriteString("</text>")
}

// path draws from one place to the next. The last word of class says how: stroke or fill.
func (c *canvas) path(class string, places []place, closed bool) {
	c.out.WriteString(`<path d="`)
	for i, p := range places {
		command := "\nL"
		if i == 0 {
			command = "M"
		}
		fmt.Fprintf(c.out, "%s %d %d", command, p.x, p.y)
	}
	if closed {
		c.out.WriteString("\nZ")
	}
	fmt.Fprintf(c.out, `" class="%s"/>`, class)
}

// place is one in the whole picture, in its units: fine of them are a pixel.
type place struct{ x, y int }

func (c *canvas) line(class string, x1, y1, x2, y2 float64) {
	c.path(class+" stroke", []place{{c.px(x1), c.py(y1)}, {c.px(x2), c.py(y2)}}, false)
}

func (c *canvas) rect(class string, x, y, width, height float64) {
	left, top, right, bottom := c.px(x), c.py(y), c.px(x+width), c.py(y+height)
	c.path(class+" fill", []place{{left, top}, {right, top}, {right, bottom}, {left, bottom}}, true)
}

func (c *canvas) dot(class string, x, y float64) {
	fmt.Fprintf(c.out, `<circle cx="%d" cy="%d" r="%g" class="%s fill"/>`, c.px(x), c.py(y), 2.5*fine, class)
}

// series draws a piece of a curve, of two points or more, in a box that is span wide and top high; with
// the area below it if that is wanted.
func (c *canvas) series(class string, area bool, b box, piece []point, span time.Duration, top float64) {
	left, bottom := c.px(b.left), c.py(b.bottom)
	width, height := float64(int((b.right-b.left)*fine)), float64(int((b.bottom-b.top)*fine))
	var places []place
	for _, p := range piece {
		across, up := float64(p.at)/float64(span), p.value/top
		places = append(places, place{left + int(math.Ceil(across*width)), bottom - int(math.Ceil(up*height))})
	}
	if area {
		first, last := places[0], places[len(places)-1]
		below := []place{{last.x, bottom}, {first.x, bottom}, first}
		c.path(class+" fill", slices.Concat(places, below), false)
	}
	c.path(class+" stroke", places, false)
}

// paragraph writes a text in lines, at most so many, and returns where the next would
// be.
func (c *canvas) paragraph(size, class string, x, y, width float64, lines int, s string) float64 {
	wrapped := wrap(size, s, width)
	for i, text := range wrapped {
		if i == lines {
			break
		}
		if i == lines-1 && len(wrapped) > lines {
			text += " …"
		}
		c.text(size, class, x, y, text)
		y += fontSize[size] * 1.45
	}
	return y
}

// svg is the picture as an element, which says what it shows. standalone has it bring
// its looks along.
func (c *canvas) svg(width, height float64, says string, standalone bool) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" class="picture" role="img" aria-label="%s" viewBox="0 0 %d %d"`,
		html.EscapeString(says), int(width*fine), int(height*fine))
	if standalone {
		fmt.Fprintf(&out, ` width="%d" height="%d"><style>%s</style>`, int(width), int(height), pictureStyle)
	} else {
		out.WriteString(">")
	}
	out.Write(c.out.Bytes())
	out.WriteString("</svg>")
	return out.Bytes()
}
