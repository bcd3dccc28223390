package cgroup

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

func fig(n uint64) Figure { return Figure{n, true} }

// What the fixtures hold.
var (
	sampleV2 = Sample{
		CPU: CPU{
			Total: fig(942749000), User: fig(553911000), System: fig(388838000),
			Periods: fig(47), ThrottledPeriods: fig(46), Throttled: fig(3634882000),
			Limit: fig(20_000_000), Period: fig(100_000_000),
		},
		Memory: Memory{
			Current: fig(5533696), Peak: fig(64 << 20), Anon: fig(49152), File: fig(5242880), Kernel: fig(98304),
			Swap: fig(0), Limit: fig(64 << 20), MaxEvents: fig(70), OOMEvents: fig(2), OOMKills: fig(1),
		},
		IO:   IO{fig(0), fig(0), fig(0), fig(0)},
		Pids: Pids{fig(1), fig(100)},
		Pressure: Pressure{
			CPUSome: fig(3678922000), CPUFull: fig(3655401000), MemorySome: fig(5393000), MemoryFull: fig(5393000),
			IOSome: fig(0), IOFull: fig(0),
		},
		HugePages: fig(0),
	}
	sampleV1 = Sample{
		CPU: CPU{
			Total: fig(247398304), User: fig(200_000_000), System: fig(40_000_000),
			Periods: fig(14), ThrottledPeriods: fig(11), Throttled: fig(869020967),
			Limit: fig(20_000_000), Period: fig(100_000_000),
		},
		Memory: Memory{
			Current: fig(499712), Peak: fig(64 << 20), Anon: fig(110592), File: fig(77824), Kernel: fig(81920),
			Swap: fig(0), Limit: fig(64 << 20), MaxEvents: fig(81), OOMKills: fig(1),
		},
		Pids: Pids{fig(1), fig(100)},
	}
	pressureHybrid = Pressure{
		CPUSome: fig(835679000), CPUFull: fig(835505000), MemorySome: fig(110000), MemoryFull: fig(110000),
		IOSome: fig(316000), IOFull: fig(316000),
	}
)

// with is a copy of s that was changed.
func with(s Sample, change func(s *Sample)) Sample {
	change(&s)
	return s
}

// tree is the files of a layout, and what is in them.
type tree map[string]string

func fixture(t testing.TB, name string) tree {
	t.Helper()
	a, err := txtar.ParseFile(filepath.Join("testdata", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	files := make(tree)
	for _, f := range a.Files {
		files[f.Name] = string(f.Data)
	}
	return files
}

// all gives every file another content.
func (files tree) all(content func(string) string) {
	for name, old := range files {
		if strings.HasSuffix(name, notRootV2) || strings.HasSuffix(name, markV2) {
			continue
		}
		files[name] = content(old)
	}
}

func (files tree) delete(prefix string) {
	maps.DeleteFunc(files, func(name, _ string) bool { return strings.HasPrefix(name, prefix) })
}

// write makes the files and opens their directory.
func (files tree) write(t testing.TB) *os.File {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}

// large puts n into the place of every number.
func large(n string) func(string) string {
	return func(s string) string {
		words := strings.SplitAfter(s, "\n")
		for i, line := range words {
			at := strings.LastIndexAny(line, " =")
			if at < 0 {
				at = -1
			}
			if _, err := strconv.ParseUint(strings.TrimSpace(line[at+1:]), 10, 64); err == nil {
				words[i] = line[:at+1] + n + "\n"
			}
			if a, b, ok := strings.Cut(strings.TrimSpace(line), " "); ok && !strings.ContainsAny(a, "abcdefghijklmnopqrstuvwxyz") &&
				b == "100000" {
				words[i] = n + " " + n + "\n" // cpu.max
			}
		}
		return strings.Join(words, "")
	}
}

// differ reports each figure of got that is not that of want.
func differ(t *testing.T, got, want Sample) {
	t.Helper()
	wanted := make(map[string]Figure)
	eachFigure(want, func(path string, f Figure) { wanted[path] = f })
	eachFigure(got, func(path string, f Figure) {
		if f != wanted[path] {
			t.Errorf("%s = %v, want %v", path, f, wanted[path])
		}
	})
}

// eachFigure calls do with all figures of a sample and where they are in it.
func eachFigure(s Sample, do func(path string, f Figure)) {
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		if f, ok := v.Interface().(Figure); ok {
			do(path, f)
			return
		}
		if v.Kind() != reflect.Struct || v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			walk(path+"."+v.Type().Field(i).Name, v.Field(i))
		}
	}
	walk("Sample", reflect.ValueOf(s))
}
