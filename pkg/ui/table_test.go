package ui

import (
	"strings"
	"testing"

	"charm.land/lipgloss/v2"
)

func TestTable(t *testing.T) {
	columns := []Column{{Title: "NAME"}, {Title: "CPU", Right: true}, {Title: "", Drop: 2}, {Title: "MEMORY", Right: true, Drop: 1}}
	rows := []Row{
		{Cells: []string{"make-1", "1.98 of 2", "▁▂", "512Mi"}},
		{Cells: []string{"x", "0", "", "2Mi"}},
		{Cells: []string{"y"}, Text: "no node takes it: \x1b[2J0/3 nodes\nare available"},
	}
	for _, test := range []struct {
		name  string
		width int
		want  string
	}{
		{"any width", 0, `
NAME           CPU        MEMORY
make-1   1.98 of 2   ▁▂    512Mi
x                0           2Mi
y        no node takes it: [2J0/3 nodes are available`},
		{"a column less", 28, `
NAME           CPU   MEMORY
make-1   1.98 of 2    512Mi
x                0      2Mi
y        no node takes it: …`},
		{"two less", 20, `
NAME           CPU
make-1   1.98 of 2
x                0
y        no node ta…`},
		{"too narrow", 8, `
NAME   …
make-1 …
x      …
y      …`},
	} {
		t.Run(test.name, func(t *testing.T) {
			lines := Table(columns, rows, test.width)
			if got := "\n" + strings.Join(lines, "\n"); got != test.want {
				t.Errorf("got:%s\nwant:%s", got, test.want)
			}
			for _, line := range lines {
				if test.width > 0 && lipgloss.Width(line) > test.width {
					t.Errorf("%q is wider than %d", line, test.width)
				}
			}
		})
	}
}
