package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What a newcomer can still take in of one package: files and lines, tests and generated code left out.
const maxFiles, maxLines = 25, 4000

// fewerFiles are packages that are only a way in.
var fewerFiles = map[string]int{"pkg/cli": 8}

// larger says which packages may be larger, and why. A package is split where there is a seam, never to
// meet the number.
var larger = map[string]string{}

// generated is the line that says so: https://go.dev/s/generatedcode. A comment may stand before it.
var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// TestSize keeps every package of the product small enough to be read.
func TestSize(t *testing.T) {
	list := exec.Command("go", "list", "-f", "{{.ImportPath}}\t{{.Dir}}\t{{range .GoFiles}}{{.}} {{end}}", "./agent/...",
		"./certs/...", "./cmd/...", "./deploy/...", "./internal/...", "./pkg/...")
	list.Dir = "../.."
	list.Env = append(list.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(strings.TrimRight(line, "\n"), "\t")
		name, dir := strings.TrimPrefix(fields[0], module), fields[1]
		files, lines := 0, 0
		for _, file := range strings.Fields(fields[2]) {
			text, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				t.Fatal(err)
			}
			if generated.Match(text) {
				continue
			}
			files++
			lines += bytes.Count(text, []byte("\n"))
		}
		most := maxFiles
		if n, ok := fewerFiles[name]; ok {
			most = n
		}
		tooLarge := files > most || lines > maxLines
		switch why := larger[name]; {
		case tooLarge && why == "":
			t.Errorf("%s has %d files and %d lines; at most %d and %d can be read: split it at a seam", name, files, lines, most, maxLines)
		case !tooLarge && why != "":
			t.Errorf("%s has %d files and %d lines: it needs no exception any more", name, files, lines)
		}
	}
}
