package main

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestVariables holds docs/settings.md to the code: every variable that a program reads is
// there, and every one of hodei's that is there some program reads.
func TestVariables(t *testing.T) {
	const root, page = "../..", "docs/settings.md"
	doc, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	ours := regexp.MustCompile(`\bHODEI_[A-Z0-9_]+\b`)
	read := regexp.MustCompile(`(?i:getenv|lookupenv)\("([A-Z][A-Z0-9_]*)"\)`)
	code := map[string]string{} // a file that has it
	for _, dir := range []string{"pkg", "cmd", "agent", "certs"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ fs.DirEntry, err error) error {
			ofTests := strings.HasSuffix(path, "_test.go") || strings.HasSuffix(filepath.Dir(path), "test") // or what tests share
			if err != nil || !strings.HasSuffix(path, ".go") || ofTests {
				return err
			}
			text, err := os.ReadFile(path)
			for _, name := range ours.FindAllString(string(text), -1) {
				code[name] = path
			}
			for _, m := range read.FindAllStringSubmatch(string(text), -1) {
				code[m[1]] = path
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(code) < 20 {
		t.Fatalf("found %v alone", code)
	}
	documented := string(doc)
	for _, name := range slices.Sorted(maps.Keys(code)) {
		if !strings.Contains(documented, "`"+name+"`") {
			t.Errorf("%s, which %s reads, is not in %s", name, code[name], page)
		}
	}
	_, tests, _ := strings.Cut(documented, "## Variables of the tests")
	for _, name := range ours.FindAllString(documented, -1) {
		if code[name] == "" && !strings.Contains(tests, name) {
			t.Errorf("%s is in %s, and no program reads it", name, page)
		}
	}
}
