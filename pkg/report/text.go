package report

import (
	"math"
	"strings"
	"unicode/utf8"
)

// fontSize is that of each class of text, in pixels, as in picture.css.
var fontSize = map[string]float64{"title": 14, "label": 11, "note": 12, "head": 20, "sub": 13, "code": 13}

// codeWidth is how wide each letter of code is, of its size, in the widest of the fonts
// in picture.css.
const codeWidth = 0.62

// advances are the widths of the printable characters of ASCII, from the space on, in thousandths of
// the size. They are those of Roboto Medium.
var advances = [...]float64{
	249, 265, 320, 604, 569, 737, 642, 168, 347, 350, 444, 556, 224, 340, 278, 391,
	569, 569, 569, 569, 569, 569, 569, 569, 569, 569, 264, 240, 509, 563, 520, 487,
	897, 664, 632, 653, 653, 565, 551, 682, 710, 284, 556, 632, 541, 875, 710, 689,
	639, 689, 630, 606, 610, 655, 646, 881, 632, 611, 604, 272, 417, 272, 429, 448,
	321, 540, 563, 522, 564, 536, 354, 567, 556, 255, 251, 522, 255, 872, 557, 568,
	563, 566, 354, 515, 334, 557, 497, 743, 503, 490, 503, 334, 249, 334, 663,
}

// textWidth is how wide a text is, in pixels. The reader's font may be wider by a tenth than the one it
// is reckoned with, and a letter beyond ASCII is taken to be as wide as a wide one of its script.
func textWidth(size, s string) float64 {
	if size == "code" {
		return float64(utf8.RuneCountInString(s)) * fontSize[size] * codeWidth
	}
	sum := 0.0
	for _, r := range s {
		switch i := int(r) - ' '; {
		case i >= 0 && i < len(advances):
			sum += advances[i]
		case r < 0x1100: // before the scripts whose letters are square
			sum += 600
		default:
			sum += 1000
		}
	}
	return math.Ceil(sum*fontSize[size]/1000) * 1.1
}

// wrap breaks a text into lines between words. A word that is wider than there is room is cut.
func wrap(size, s string, width float64) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(s) {
		longer := strings.TrimPrefix(line+" "+word, " ")
		if line != "" && textWidth(size, longer) >= width {
			lines = append(lines, fit(size, line, width))
			longer = word
		}
		line = longer
	}
	return append(lines, fit(size, line, width))
}

// fit cuts a text that is wider than there is room.
func fit(size, s string, width float64) string {
	runes := []rune(s)
	if textWidth(size, s) <= width {
		return s
	}
	for lo, hi := 0, len(runes); ; {
		mid := (lo + hi) / 2
		if mid == lo {
			return string(runes[:lo]) + "…"
		}
		if textWidth(size, string(runes[:mid])+"…") <= width {
			lo = mid
		} else {
			hi = mid
		}
	}
}
