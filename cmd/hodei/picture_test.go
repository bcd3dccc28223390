package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// inPicture matches the packages in a line of the picture.
var inPicture = regexp.MustCompile(`\b(?:(?:cmd|pkg|agent|internal)/[\w/-]+|agent|certs|deploy)(?:\s|$)`)

// TestPicture compares the picture of the packages in docs/architecture.md with their imports: each of the
// product's packages is in it, and imports what stands on lower lines alone.
func TestPicture(t *testing.T) {
	text, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, picture, _ := strings.Cut(string(text), "lower lines of this picture.\n\n")
	picture, _, _ = strings.Cut(picture, "\n\n")
	lines := map[string]int{} // from the top, by package
	for i, line := range strings.Split(picture, "\n") {
		for _, name := range inPicture.FindAllString(line, -1) {
			name = strings.TrimSpace(name)
			if at, twice := lines[name]; twice && at != i {
				t.Errorf("%s stands on two lines", name)
			}
			lines[name] = i
		}
	}
	lineOf := func(path string) (line int, drawn bool) {
		name, ours := strings.CutPrefix(path, module)
		if !ours || strings.HasPrefix(name, "test/") || strings.HasSuffix(name, "test") { // for tests
			return 0, false
		}
		if strings.HasPrefix(name, "pkg/cli/") {
			name = "pkg/cli/COMMAND"
		}
		line, drawn = lines[name]
		if !drawn {
			t.Errorf("%s is not in the picture", name)
		}
		return line, drawn
	}
	for path, p := range listPackages(t) {
		line, drawn := lineOf(path)
		if !drawn {
			continue
		}
		for _, imported := range p.Imports {
			if below, drawn := lineOf(imported); drawn && below <= line {
				t.Errorf("%s imports %s, which does not stand below it in the picture", path, imported)
			}
		}
	}
}
