// Command results stands between `go test -json` and a person:
//
//	go test -json ./... | results FILE   shows what go test shows without -json, and
//	                                     adds to FILE how each test ended
//	results -skipped FILE                lists the tests that were skipped and never ran
//
// A failure is go test's own exit status to tell.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

const usage = "usage: results FILE <events, or results -skipped FILE"

func main() {
	var err error
	switch args := os.Args[1:]; {
	case len(args) == 1 && args[0] != "-skipped":
		err = add(os.Stdin, os.Stdout, args[0])
	case len(args) == 2 && args[0] == "-skipped":
		err = list(os.Stdout, args[1])
	default:
		err = errors.New(usage)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// event is a line of `go doc test2json`.
type event struct {
	Action, Package, Test, Output string
}

// result is a line of FILE: how a test ended, and why it was skipped.
type result struct {
	Action, Package, Test, Reason string
}

// add shows events and keeps their results.
func add(in io.Reader, out io.Writer, file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	results := json.NewEncoder(f)
	s := shown{out: out, tests: map[[2]string][]string{}}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil {
				fmt.Fprint(out, line) // go's own
			} else if r := s.show(e); r != nil {
				if err := results.Encode(r); err != nil {
					return err
				}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// shown is what was printed by tests that have not ended yet.
type shown struct {
	out   io.Writer
	tests map[[2]string][]string
}

// show prints what go test would, and returns the result of a test that has ended.
func (s *shown) show(e event) *result {
	key := [2]string{e.Package, e.Test}
	switch {
	case e.Action == "build-output":
		fmt.Fprint(s.out, e.Output)
	case e.Action == "output" && e.Test == "":
		if e.Output != "PASS\n" {
			fmt.Fprint(s.out, e.Output)
		}
	case e.Action == "output" && !strings.HasPrefix(e.Output, "=== "):
		s.tests[key] = append(s.tests[key], e.Output)
	case e.Test == "" && (e.Action == "fail" || e.Action == "pass"):
		for k, said := range s.tests { // of a test that never came to its end
			if k[0] == e.Package {
				fmt.Fprint(s.out, strings.Join(said, ""))
				delete(s.tests, k)
			}
		}
	case e.Action == "fail", e.Action == "pass", e.Action == "skip" && e.Test != "":
		said := s.tests[key]
		delete(s.tests, key)
		if e.Action == "fail" {
			fmt.Fprint(s.out, strings.Join(said, ""))
		}
		return &result{e.Action, e.Package, e.Test, reason(said)}
	}
	return nil
}

// at is where a test file says something.
var at = regexp.MustCompile(`^\s*[\w.-]+\.go:\d+: `)

// inScript is a skip in a script of testdata/script.
var inScript = regexp.MustCompile(`^> .*\bskip '?(.*?)'?$`)

// reason is the last thing that a test said.
func reason(said []string) string {
	for _, line := range slices.Backward(said) {
		line = inScript.ReplaceAllString(strings.TrimSpace(at.ReplaceAllString(line, "")), "$1")
		if line != "" && !strings.HasPrefix(line, "--- ") {
			return line
		}
	}
	return "no reason was given"
}

// mostNames is how many tests are named that were skipped for one reason.
const mostNames = 4

// list prints a line for each package and reason. Fuzzing passes over inputs, which is no
// test that did not run.
func list(out io.Writer, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	ran := map[[2]string]bool{}
	var skipped []result
	for d := json.NewDecoder(f); ; {
		var r result
		if err := d.Decode(&r); err == io.EOF {
			break
		} else if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		key := [2]string{r.Package, r.Test}
		switch {
		case r.Action != "skip":
			ran[key] = true
		case !strings.HasPrefix(r.Test, "Fuzz"):
			skipped = append(skipped, r)
		}
	}
	type group struct{ pkg, reason string }
	names := map[group][]string{}
	var order []group
	for _, r := range skipped {
		if ran[[2]string{r.Package, r.Test}] {
			continue
		}
		g := group{r.Package, r.Reason}
		if names[g] == nil {
			order = append(order, g)
		}
		if !slices.Contains(names[g], r.Test) {
			names[g] = append(names[g], r.Test)
		}
	}
	for _, g := range order {
		tests := names[g]
		more := ""
		if n := len(tests) - mostNames; n > 0 {
			tests, more = tests[:mostNames], fmt.Sprintf(" and %d more", n)
		}
		fmt.Fprintf(out, "%s%s of %s: %s\n", strings.Join(tests, ", "), more, g.pkg, g.reason)
	}
	return nil
}
