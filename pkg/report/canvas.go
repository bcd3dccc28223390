package report

import (
	"bytes"
	"fmt"
	"html"
	"unicode/utf8"

	"github.com/go-analyze/charts/chartdraw"
	"github.com/go-analyze/charts/chartdraw/drawing"
)

// fine is how many units a pixel has: the coordinates of chartdraw are whole numbers,
// and a curve in whole pixels has stairs.
const fine = 4

// Sizes of a panel, in pixels: two are side by side on a laptop, and on a phone one is
// as wide as the screen with letters that can still be read.
const panelWidth, panelHeight = 440, 224

// fontSize is that of each class of text, in pixels, as in picture.css.
var fontSize = map[string]float64{"title": 14, "label": 11, "note": 12, "head": 20, "sub": 13, "code": 13}

// codeWidth is how wide each letter of code is, of its size, in the widest of the fonts
// in picture.css.
const codeWidth = 0.62

// canvas draws a panel. Positions are in pixels, from its upper left corner. Looks are
// those of picture.css, by class, so that one picture is light and dark.
type canvas struct {
	r    chartdraw.Renderer
	x, y float64 // of that corner
}

// newCanvas returns one whose picture has a size in pixels.
func newCanvas(width, height float64) *canvas {
	r := chartdraw.SVG(int(width*fine), int(height*fine))
	r.SetDPI(72) // a point is a pixel
	r.SetFont(chartdraw.GetDefaultFont())
	return &canvas{r: r}
}

// at is a part of the picture.
func (c *canvas) at(x, y float64) *canvas { return &canvas{c.r, c.x + x, c.y + y} }

func (c *canvas) px(x float64) int { return int((c.x + x) * fine) }
func (c *canvas) py(y float64) int { return int((c.y + y) * fine) }

// text writes s. The first word of class is that of its size.
func (c *canvas) text(size, class string, x, y float64, s string) {
	c.style(size + " " + class)
	c.r.Text(s, c.px(x), c.py(y)) // which escapes it
}

// style has what follows look as a class; one that has no colour of its own.
func (c *canvas) style(class string) {
	chartdraw.Style{ClassName: class}.WriteDrawingOptionsToRenderer(c.r)
	c.r.SetFontSize(0)
	c.r.SetFont(nil)
}

// width is how wide a text is, in pixels. It is measured in another font than the
// reader's, which may be wider by a tenth.
func (c *canvas) width(size, s string) float64 {
	if size == "code" {
		return float64(utf8.RuneCountInString(s)) * fontSize[size] * codeWidth
	}
	c.r.SetFont(chartdraw.GetDefaultFont())
	c.r.SetFontSize(fontSize[size])
	return float64(c.r.MeasureText(s).Width()) * 1.1
}

func (c *canvas) line(class string, x1, y1, x2, y2 float64) {
	c.style(class)
	c.r.MoveTo(c.px(x1), c.py(y1))
	c.r.LineTo(c.px(x2), c.py(y2))
	c.r.Stroke()
}

func (c *canvas) rect(class string, x, y, width, height float64) {
	c.style(class)
	c.r.MoveTo(c.px(x), c.py(y))
	c.r.LineTo(c.px(x+width), c.py(y))
	c.r.LineTo(c.px(x+width), c.py(y+height))
	c.r.LineTo(c.px(x), c.py(y+height))
	c.r.Close()
	c.r.Fill()
}

func (c *canvas) dot(class string, x, y float64) {
	c.style(class)
	c.r.Circle(2.5*fine, c.px(x), c.py(y))
	c.r.Fill()
}

// series draws a piece of a curve in a box, with the area below it if it is wanted.
func (c *canvas) series(class string, area bool, b box, xs, ys []float64, x, y *chartdraw.ContinuousRange) {
	// Colours are those of the class; chartdraw draws nothing that has none.
	style := chartdraw.Style{ClassName: class, StrokeColor: drawing.ColorBlack, StrokeWidth: 1}
	if area {
		style.FillColor = drawing.ColorBlack
	}
	x.Domain, y.Domain = int((b.right-b.left)*fine), int((b.bottom-b.top)*fine)
	chartdraw.ContinuousSeries{XValues: xs, YValues: ys}.Render(c.r,
		chartdraw.Box{Left: c.px(b.left), Top: c.py(b.top), Right: c.px(b.right), Bottom: c.py(b.bottom), IsSet: true}, x, y, style)
}

// paragraph writes a text in lines, at most so many, and returns where the next would
// be.
func (c *canvas) paragraph(size, class string, x, y, width float64, lines int, s string) float64 {
	c.r.SetFont(chartdraw.GetDefaultFont())
	style := chartdraw.Style{FontStyle: chartdraw.FontStyle{Font: chartdraw.GetDefaultFont(), FontSize: fontSize[size]}, TextWrap: chartdraw.TextWrapWord}
	wrapped := chartdraw.Text.WrapFit(c.r, s, int(width/1.1), style)
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
	var drawn, out bytes.Buffer
	_ = c.r.Save(&drawn) // a buffer takes everything
	_, body, _ := bytes.Cut(drawn.Bytes(), []byte(">"))
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" class="picture" role="img" aria-label="%s" viewBox="0 0 %d %d"`,
		html.EscapeString(says), int(width*fine), int(height*fine))
	if standalone {
		fmt.Fprintf(&out, ` width="%d" height="%d"><style>%s</style>`, int(width), int(height), pictureStyle)
	} else {
		out.WriteString(">")
	}
	out.Write(body)
	return out.Bytes()
}
