package shell

import "testing"

func TestNeeds(t *testing.T) {
	for word, want := range map[string]bool{
		"make": false, "cd": true, "&&": true, "a && b": true, "make test": true, "*.go": true, "$HOME": true,
		"/opt/my tools/run": false, "./run.sh": false, "": false,
	} {
		if got := Needs(word); got != want {
			t.Errorf("%q: got %v", word, got)
		}
	}
}

func TestInline(t *testing.T) {
	for line, want := range map[string]string{
		"#!/bin/bash -e\n":         `bash -c "$(cat 'my x')" 'my x' 'a b'`,
		"#!/usr/bin/env python3\n": `python3 -c "$(cat 'my x')" 'a b'`,
		"#!/usr/bin/ruby":          `ruby -e "$(cat 'my x')" 'a b'`,
		"#!/opt/odd\n":             "",
		"#!\n":                     "",
		"echo\n":                   "",
	} {
		if got := Inline(line, "my x", []string{"a b"}); got != want {
			t.Errorf("%q: got %s, want %s", line, got, want)
		}
	}
}
