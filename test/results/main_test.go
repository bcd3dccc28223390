package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestResults(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results")
	events := `{"Action":"start","Package":"a"}
{"Action":"run","Package":"a","Test":"TestOne"}
{"Action":"output","Package":"a","Test":"TestOne","Output":"=== RUN   TestOne\n"}
{"Action":"output","Package":"a","Test":"TestOne","Output":"    a_test.go:1: chatter\n"}
{"Action":"pass","Package":"a","Test":"TestOne"}
{"Action":"output","Package":"a","Test":"TestRoot","Output":"    a_test.go:7: needs root\n"}
{"Action":"output","Package":"a","Test":"TestRoot","Output":"--- SKIP: TestRoot (0.00s)\n"}
{"Action":"skip","Package":"a","Test":"TestRoot"}
{"Action":"output","Package":"a","Test":"TestBoth","Output":"    a_test.go:8: needs root\n"}
{"Action":"skip","Package":"a","Test":"TestBoth"}
{"Action":"skip","Package":"a","Test":"TestLater"}
{"Action":"output","Package":"a","Test":"TestScripts/x","Output":"            > [!cluster] skip 'needs a cluster'\n"}
{"Action":"skip","Package":"a","Test":"TestScripts/x"}
{"Action":"skip","Package":"a","Test":"FuzzX/seed#0"}
{"Action":"output","Package":"a","Output":"PASS\n"}
{"Action":"output","Package":"a","Output":"ok  \ta\t0.1s\n"}
{"Action":"pass","Package":"a"}
{"Action":"output","Package":"b","Test":"TestBad","Output":"    b_test.go:3: wrong\n"}
{"Action":"output","Package":"b","Test":"TestBad","Output":"--- FAIL: TestBad (0.00s)\n"}
{"Action":"fail","Package":"b","Test":"TestBad"}
{"Action":"output","Package":"b","Test":"TestDies","Output":"panic: no\n"}
{"Action":"output","Package":"b","Output":"FAIL\tb\t0.2s\n"}
{"Action":"fail","Package":"b"}
{"Action":"build-output","ImportPath":"c","Output":"c.go:1: syntax error\n"}
go: not an event
{"Action":"skip","Package":"d"}
`
	var out strings.Builder
	if err := add(strings.NewReader(events), &out, file); err != nil {
		t.Fatal(err)
	}
	want := "ok  \ta\t0.1s\n    b_test.go:3: wrong\n--- FAIL: TestBad (0.00s)\nFAIL\tb\t0.2s\npanic: no\nc.go:1: syntax error\ngo: " +
		"not an event\n"
	if out.String() != want {
		t.Errorf("shown:\n%swant:\n%s", out.String(), want)
	}
	out.Reset()
	if err := add(strings.NewReader(`{"Action":"pass","Package":"a","Test":"TestLater"}`), &out, file); err != nil || out.Len() > 0 {
		t.Fatalf("%v, %q", err, out.String())
	}
	if err := list(&out, file); err != nil || out.String() != "TestRoot, TestBoth of a: needs root\nTestScripts/x of a: needs a cluster\n" {
		t.Errorf("%v, %q", err, out.String())
	}
}
