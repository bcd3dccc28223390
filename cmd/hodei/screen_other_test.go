//go:build !linux

package main

import "github.com/rogpeppe/go-internal/testscript"

// onScreen needs Linux's pseudo terminals.
func onScreen(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Fatalf("onscreen is for Linux")
}
