// Package ui is what hodei shows of itself while it works: what a stream can
// do ([Detect]) and the lines that tell how far a run has come ([Status]). It
// writes to the stream that it is given, which is stderr: stdout belongs to the
// data. It reads no environment of its own.
package ui

import (
	"hash/fnv"
	"image/color"
	"io"
	"os"
	"strings"
	"unicode"

	"charm.land/lipgloss/v2"
	"golang.org/x/term"
)

// Terminal is what a stream can do. The zero value is a file, a pipe or the log
// of a CI run: plain lines, no escape sequence.
type Terminal struct {
	// TTY is true for a terminal on which a line can be erased.
	TTY bool
	// Color is true where colours are wanted too; never without TTY.
	Color bool
}

// Detect decides once what w can do. Colour follows https://no-color.org: a
// NO_COLOR that is not empty turns it off. A terminal that calls itself dumb,
// or has no name, is treated as none, because it can't erase a spinner's line.
func Detect(w io.Writer, getenv func(string) string) Terminal {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return Terminal{}
	}
	if name := getenv("TERM"); name == "" || name == "dumb" {
		return Terminal{}
	}
	return Terminal{TTY: true, Color: getenv("NO_COLOR") == ""}
}

// Width is how many columns the terminal has that w is; 0 if it is none, or does not
// say.
func Width(w io.Writer) int {
	width, _ := size(w)
	return width
}

func size(w io.Writer) (width, height int) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, 0
	}
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0, 0
	}
	return width, height
}

// Printable makes one line of s that can't do anything to a terminal but show
// text. Image names, job names and the messages of servers come from strangers:
// control characters (the C1 set and bidirectional overrides too) are dropped,
// spaces of any kind become one byte of space.
func Printable(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsPrint(r):
			return r
		}
		return -1
	}, s))
}

// tints tell apart what stands side by side; the dark ones and those that mean
// good and bad are left out.
var tints = []color.Color{
	lipgloss.Cyan, lipgloss.Yellow, lipgloss.Magenta, lipgloss.Blue,
	lipgloss.BrightCyan, lipgloss.BrightYellow, lipgloss.BrightMagenta, lipgloss.BrightBlue,
}

// Tint colours text, where colours are wanted, in one that key alone decides:
// the same at every call, in every process.
func (t Terminal) Tint(text, key string) string {
	if !t.Color {
		return text
	}
	h := fnv.New32a()
	io.WriteString(h, key) // a hash takes everything
	return lipgloss.NewStyle().Foreground(tints[h.Sum32()%uint32(len(tints))]).Render(text)
}
