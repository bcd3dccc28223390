// Package uitest is a terminal for tests: a pseudo terminal ([Open]) and a screen that
// does what is written to one ([Screen]), so that a test sees what a person would.
package uitest

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"charm.land/lipgloss/v2"
)

// Screen interprets what hodei, its libraries and ordinary commands write to a terminal,
// as xterm does. What it does not know fails the test, by [Screen.Unknown]. Lines that
// leave the screen at the top are kept.
type Screen struct {
	// Unknown is the sequences that it did not understand.
	Unknown []string

	columns, rows int
	gone          []string   // lines that have left at the top
	cells         [][]string // a wide character has an empty cell behind it
	row, column   int
	noWrap        bool
	pending       bool       // the last column was written: the next character wraps
	main          [][]string // while the alternate screen is shown
	rest          string     // of a sequence or character that has not ended
}

// NewScreen returns an empty screen.
func NewScreen(columns, rows int) *Screen {
	s := &Screen{columns: columns, rows: rows}
	s.cells = s.empty()
	return s
}

func (s *Screen) empty() [][]string {
	cells := make([][]string, s.rows)
	for i := range cells {
		cells[i] = blank(s.columns)
	}
	return cells
}

func blank(columns int) []string {
	line := make([]string, columns)
	for i := range line {
		line[i] = " "
	}
	return line
}

// Lines are those that have left at the top and those of the screen, without the empty
// ones at the end.
func (s *Screen) Lines() []string {
	lines := append([]string(nil), s.gone...)
	for _, line := range s.cells {
		lines = append(lines, strings.TrimRight(strings.Join(line, ""), " "))
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// Write never fails.
func (s *Screen) Write(b []byte) (int, error) {
	text := s.rest + string(b)
	for text != "" {
		n := s.take(text)
		if n == 0 {
			break
		}
		text = text[n:]
	}
	s.rest = text
	return len(b), nil
}

// take does the first thing that text says, and returns its length; 0: it has not ended.
func (s *Screen) take(text string) int {
	switch text[0] {
	case '\r':
		s.column, s.pending = 0, false
		return 1
	case '\n':
		s.down()
		return 1
	case '\b':
		s.column, s.pending = max(0, s.column-1), false
		return 1
	case '\a', 0:
		return 1
	case '\t':
		s.column = min(s.columns-1, (s.column/8+1)*8)
		return 1
	case '\x1b':
		return s.escape(text)
	}
	if !utf8.FullRuneInString(text) {
		return 0
	}
	_, n := utf8.DecodeRuneInString(text)
	s.put(text[:n])
	return n
}

func (s *Screen) down() {
	s.pending = false
	if s.row++; s.row < s.rows {
		return
	}
	s.row--
	if s.main == nil {
		s.gone = append(s.gone, strings.TrimRight(strings.Join(s.cells[0], ""), " "))
	}
	s.cells = append(s.cells[1:], blank(s.columns))
}

func (s *Screen) put(char string) {
	width := lipgloss.Width(char)
	if width == 0 { // it belongs to the one before
		at := s.column - 1
		if s.pending {
			at = s.column
		}
		if at >= 0 {
			s.cells[s.row][at] += char
		}
		return
	}
	if s.pending || s.column+width > s.columns {
		if s.noWrap {
			s.column = max(0, s.columns-width)
		} else {
			s.column = 0
			s.down()
		}
		s.pending = false
	}
	s.cells[s.row][s.column] = char
	for i := 1; i < width; i++ {
		s.cells[s.row][s.column+i] = ""
	}
	if s.column += width; s.column >= s.columns {
		s.column, s.pending = s.columns-1, true
	}
}

// escape does a control sequence of ECMA-48.
func (s *Screen) escape(text string) int {
	if len(text) < 2 {
		return 0
	}
	if text[1] != '[' {
		s.Unknown = append(s.Unknown, text[:2])
		return 2
	}
	end := strings.IndexFunc(text[2:], func(r rune) bool { return r >= 0x40 && r <= 0x7e })
	if end < 0 {
		return 0
	}
	parameters, final := text[2:2+end], text[2+end]
	number, _ := strconv.Atoi(parameters) // 0 is the default
	s.control(parameters, final, number)
	return 3 + end
}

func (s *Screen) control(parameters string, final byte, n int) {
	s.pending = s.pending && final == 'm'
	switch {
	case final == 'm': // colours
	case s.mode(parameters, final):
	case final == 'A':
		s.row = max(0, s.row-max(n, 1))
	case final == 'F':
		s.row, s.column = max(0, s.row-max(n, 1)), 0
	case final == 'H' && parameters == "":
		s.row, s.column = 0, 0
	case final == 'K':
		s.eraseLine(n)
	case final == 'J' && (n == 0 || n == 2):
		s.erase(n)
	default:
		s.Unknown = append(s.Unknown, "ESC["+parameters+string(final))
	}
}

// mode acts on a sequence that switches a mode on or off, and tells whether it is one.
func (s *Screen) mode(parameters string, final byte) bool {
	on := final == 'h'
	if !on && final != 'l' {
		return false
	}
	switch parameters {
	case "?25": // the cursor's shape
	case "?7":
		s.noWrap = !on
	case "?1049":
		if on {
			s.main, s.cells = s.cells, s.empty()
		} else {
			s.cells, s.main = s.main, nil
		}
	default:
		return false
	}
	return true
}

// erase erases what follows the cursor, 0, or the whole screen, 2.
func (s *Screen) erase(which int) {
	if which == 2 {
		s.cells = s.empty()
		return
	}
	s.eraseLine(0)
	for i := s.row + 1; i < s.rows; i++ {
		s.cells[i] = blank(s.columns)
	}
}

func (s *Screen) eraseLine(which int) {
	from, to := s.column, s.columns
	switch which {
	case 1:
		from, to = 0, s.column+1
	case 2:
		from = 0
	}
	copy(s.cells[s.row][from:to], blank(to-from))
}

// Resize gives the screen another width. Lines are cut, not broken anew, as in xterm.
func (s *Screen) Resize(columns int) {
	for i, line := range s.cells {
		s.cells[i] = append(line, blank(max(0, columns-s.columns))...)[:columns]
	}
	s.columns = columns
	s.column, s.pending = min(s.column, columns-1), false
}
