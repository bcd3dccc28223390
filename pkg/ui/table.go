package ui

import (
	"slices"
	"strings"

	"charm.land/lipgloss/v2"
)

// Column is one of a [Table].
type Column struct {
	Title string
	// Right aligns its cells to the right, as numbers are.
	Right bool
	// Drop is when it goes where there is no room: the highest first, all of one number
	// together, 0 never.
	Drop int
}

// Row is one of a [Table]. Cells that are missing are empty.
type Row struct {
	Cells []string
	// Text, if not empty, stands behind the cells, over the columns that they leave.
	Text string
}

// gap is between two columns, as in kubectl's tables.
const gap = "   "

// Table lays rows out under their titles, each line no wider than width; 0 is any
// width. Cells and texts are made printable.
func Table(columns []Column, rows []Row, width int) []string {
	shown := make([]int, len(columns))
	for i := range shown {
		shown[i] = i
	}
	widths := make([]int, len(columns))
	for i, c := range columns {
		widths[i] = lipgloss.Width(c.Title)
		for _, r := range rows {
			if i < len(r.Cells) {
				widths[i] = max(widths[i], lipgloss.Width(Printable(r.Cells[i])))
			}
		}
	}
	for width > 0 && total(shown, widths) > width {
		last := columns[slices.MaxFunc(shown, func(a, b int) int { return columns[a].Drop - columns[b].Drop })].Drop
		if last == 0 {
			break // lines are cut
		}
		shown = slices.DeleteFunc(shown, func(i int) bool { return columns[i].Drop == last })
	}
	titles := Row{}
	for _, c := range columns {
		titles.Cells = append(titles.Cells, c.Title)
	}
	lines := []string{line(columns, shown, widths, titles, width)}
	for _, r := range rows {
		lines = append(lines, line(columns, shown, widths, r, width))
	}
	return lines
}

func total(shown, widths []int) int {
	n := 0
	for _, i := range shown {
		n += widths[i]
	}
	return n + (len(shown)-1)*len(gap)
}

func line(columns []Column, shown, widths []int, r Row, width int) string {
	var parts []string
	for _, i := range shown {
		if i >= len(r.Cells) {
			break
		}
		cell := Printable(r.Cells[i])
		space := strings.Repeat(" ", widths[i]-lipgloss.Width(cell))
		if columns[i].Right {
			cell = space + cell
		} else {
			cell += space
		}
		parts = append(parts, cell)
	}
	if r.Text != "" {
		parts = append(parts, Printable(r.Text))
	}
	text := strings.TrimRight(strings.Join(parts, gap), " ")
	if width > 0 {
		text = Cut(text, width)
	}
	return text
}

// Columns is how many columns of a terminal text takes.
func Columns(text string) int { return lipgloss.Width(text) }

// Cut shortens a line to width columns, the last of which tells that it was cut.
func Cut(text string, width int) string {
	switch {
	case Columns(text) <= width:
		return text
	case width <= 1: // no limit, to lipgloss
		return "…"[:max(0, width)*len("…")]
	}
	return lipgloss.NewStyle().Inline(true).MaxWidth(width-1).Render(text) + "…"
}
