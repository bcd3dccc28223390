package proc

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// statLine is /proc/PID/stat with 52 fields.
func statLine(pid int, comm, state string, user, system, childUser, childSystem, threads, began uint64) string {
	return fmt.Sprintf("%d (%s) %s 1 1 1 0 -1 4194304 100 0 0 0 %d %d %d %d 20 0 %d 0 %d 2000000 300 18446744073709551615"+
		strings.Repeat(" 0", 27)+"\n",
		pid, comm, state, user, system, childUser, childSystem, threads, began)
}

func TestParseStat(t *testing.T) {
	want := stat{state: 'S', used: Spent{3 * tick, 4 * tick}, ended: Spent{5 * tick, 6 * tick}, threads: 7, began: 8}
	plain := statLine(12, "sh", "S", 3, 4, 5, 6, 7, 8)
	tests := []struct {
		name, in string
		want     stat
		ok       bool
	}{
		{"plain", plain, want, true},
		{"spaces", statLine(12, "tmux: server", "S", 3, 4, 5, 6, 7, 8), want, true},
		{"brackets", statLine(12, "a) R 1 (b", "S", 3, 4, 5, 6, 7, 8), want, true},
		{"a bracket at the end", statLine(12, "evil))", "S", 3, 4, 5, 6, 7, 8), want, true},
		{"a line's end", statLine(12, "two\nlines", "S", 3, 4, 5, 6, 7, 8), want, true},
		{"no name", statLine(12, "", "S", 3, 4, 5, 6, 7, 8), want, true},
		{"bytes that are no text", statLine(12, "\xff\x00", "S", 3, 4, 5, 6, 7, 8), want, true},
		{"the longest times", statLine(1, "x", "R", maxTicks, 0, 0, maxTicks, 1, math.MaxUint64),
			stat{state: 'R', used: Spent{User: time.Duration(maxTicks) * tick}, ended: Spent{System: time.Duration(maxTicks) * tick},
				threads: 1, began: math.MaxUint64}, true},
		{"longer than that", statLine(1, "x", "R", maxTicks+1, 0, 0, 0, 1, 1), stat{}, false},
		{"below 0", strings.Replace(plain, " 3 4 5 6 ", " -3 4 5 6 ", 1), stat{}, false},
		{"no number", strings.Replace(plain, " 3 4 5 6 ", " x 4 5 6 ", 1), stat{}, false},
		{"empty", "", stat{}, false},
		{"torn in the name", plain[:5], stat{}, false},
		{"torn behind it", plain[:40], stat{}, false},
		{"no state", "1 (x)", stat{}, false},
		{"a long state", strings.Replace(plain, " S ", " SS ", 1), stat{}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, ok := parseStat([]byte(test.in))
			if got != test.want || ok != test.ok {
				t.Errorf("got %+v, %t; want %+v, %t", got, ok, test.want, test.ok)
			}
		})
	}
}

func TestParseStatm(t *testing.T) {
	tests := []struct {
		name, in         string
		resident, shared uint64
		ok               bool
	}{
		{"plain", "1000 200 50 1 0 100 0\n", 200 * 4096, 50 * 4096, true},
		{"nothing", "0 0 0 0 0 0 0\n", 0, 0, true},
		{"empty", "", 0, 0, false},
		{"torn", "1000 200", 0, 0, false},
		{"too much", "1 99999999999999 0", 0, 0, false},
		{"no number", "1 2 x", 0, 0, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			resident, shared, ok := parseStatm([]byte(test.in), 4096)
			if ok != test.ok || ok && (resident != test.resident || shared != test.shared) {
				t.Errorf("got %d, %d, %t", resident, shared, ok)
			}
		})
	}
}

func TestParseIO(t *testing.T) {
	const head, tail = "rchar: 9\nwchar: 9\nsyscr: 9\nsyscw: 9\n", "cancelled_write_bytes: 9\n"
	tests := []struct {
		name, in string
		want     IO
		ok       bool
	}{
		{"plain", head + "read_bytes: 4096\nwrite_bytes: 8192\n" + tail, IO{4096, 8192}, true},
		{"empty", "", IO{}, false},
		{"one is missing", head + "read_bytes: 4096\n" + tail, IO{}, false},
		{"torn", head + "read_bytes: 4096\nwrite_byt", IO{}, false},
		{"too much", head + "read_bytes: 18446744073709551615\nwrite_bytes: 1\n", IO{}, false},
		{"below 0", head + "read_bytes: -1\nwrite_bytes: 1\n", IO{}, false},
		{"no number", head + "read_bytes:\nwrite_bytes: 1\n", IO{}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, ok := parseIO([]byte(test.in))
			if ok != test.ok || ok && got != test.want {
				t.Errorf("got %+v, %t; want %+v, %t", got, ok, test.want, test.ok)
			}
		})
	}
}

func TestParseChildren(t *testing.T) {
	tests := []struct {
		name, in string
		want     []int
		ok       bool
	}{
		{"none", "", nil, true},
		{"some", "12 13 4194303 ", []int{12, 13, 4194303}, true},
		{"among them what is none", "12 x -3 0 99999999 13", []int{12, 13}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, ok := parseChildren(nil, []byte(test.in))
			if !reflect.DeepEqual(got, test.want) || ok != test.ok {
				t.Errorf("got %v, %t; want %v, %t", got, ok, test.want, test.ok)
			}
		})
	}
}

func TestParsePeak(t *testing.T) {
	tests := []struct {
		name, in string
		want     uint64
		ok       bool
	}{
		{"plain", "Name:\tVmHWM: 1\nVmPeak:\t  900 kB\nVmHWM:\t    40 kB\nVmRSS:\t 30 kB\n", 40 << 10, true},
		{"a thread of the kernel", "Name:\tkthreadd\n", 0, false},
		{"another unit", "VmHWM:\t40 MB\n", 0, false},
		{"torn", "VmHWM:\t4", 0, false},
		{"too much", "VmHWM:\t18446744073709551615 kB\n", 0, false},
		{"empty", "", 0, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, ok := ParsePeak([]byte(test.in))
			if ok != test.ok || ok && got != test.want {
				t.Errorf("got %d, %t", got, ok)
			}
		})
	}
}

// FuzzProc: what is parsed makes sense, whatever is read.
func FuzzProc(f *testing.F) {
	f.Add([]byte(statLine(1, "a) (b", "S", 1, 2, 3, 4, 5, 6)))
	f.Add([]byte("1 2 3"))
	f.Add([]byte("read_bytes: 1\nwrite_bytes: 2\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, ok := parseStat(b); ok {
			if s.used.User < 0 || s.used.System < 0 || s.ended.User < 0 || s.ended.System < 0 {
				t.Errorf("parseStat(%q) = %+v", b, s)
			}
			if total := sum(s.used.User, s.used.System, s.ended.User, s.ended.System); total < s.used.User {
				t.Errorf("the sum of %+v is %d", s, total)
			}
		}
		if c, ok := parseIO(b); ok && (c.Read > 1<<50 || c.Written > 1<<50) {
			t.Errorf("parseIO(%q) = %+v", b, c)
		}
		if resident, _, ok := parseStatm(b, 1<<16); ok && resident > 1<<52 {
			t.Errorf("parseStatm(%q) = %d", b, resident)
		}
		if peak, ok := ParsePeak(b); ok && peak > 1<<48 {
			t.Errorf("parsePeak(%q) = %d", b, peak)
		}
		children, _ := parseChildren(nil, b)
		for _, c := range children {
			if c <= 0 || c >= 1<<22 {
				t.Errorf("parseChildren(%q) = %v", b, children)
			}
		}
	})
}

// fakeProc is a directory like /proc.
type fakeProc struct {
	t    *testing.T
	root string
}

// put writes a process; io may be empty.
func (f fakeProc) put(pid int, stat, statm, io string, children map[int]string) {
	f.t.Helper()
	files := map[string]string{"stat": stat, "statm": statm, "io": io}
	for thread, list := range children {
		files[fmt.Sprintf("task/%d/children", thread)] = list
	}
	for name, content := range files {
		path := filepath.Join(f.root, fmt.Sprint(pid), name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			f.t.Fatal(err)
		}
		if content == "" && name == "io" {
			continue
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f fakeProc) remove(pid int) {
	f.t.Helper()
	if err := os.RemoveAll(filepath.Join(f.root, fmt.Sprint(pid))); err != nil {
		f.t.Fatal(err)
	}
}

// ioText is /proc/PID/io.
func ioText(read, written int) string {
	return fmt.Sprintf("rchar: 1\nread_bytes: %d\nwrite_bytes: %d\ncancelled_write_bytes: 0\n", read, written)
}

// TestProcesses looks at trees of a made-up /proc one after the other.
func TestProcesses(t *testing.T) {
	page := uint64(os.Getpagesize())
	f := fakeProc{t, t.TempDir()}
	launcher := func(ended uint64, children string) {
		f.put(10, statLine(10, "hodei-worker", "S", 900, 900, ended, ended, 5, 77), "900 900 900", ioText(1000, 0),
			map[int]string{10: children, 11: ""})
	}
	launcher(0, "")
	p, err := Open(f.root, 10)
	if err != nil {
		t.Fatal(err)
	}
	expect := func(what string, want Look, there bool) {
		t.Helper()
		if got, ok := p.Look(); got != want || ok != there {
			t.Fatalf("%s:\ngot  %+v, %t\nwant %+v, %t", what, got, ok, want, there)
		}
	}
	expect("nothing runs", Look{Whole: true, HasIO: true}, true)

	launcher(0, "20 ")
	f.put(20, statLine(20, "sh", "S", 10, 20, 1, 2, 1, 80), "500 100 40", ioText(1, 2), map[int]string{20: "30 31 "})
	f.put(30, statLine(30, "a) b", "R", 100, 0, 0, 0, 3, 81), "500 200 50", ioText(10, 20), map[int]string{30: "", 33: "34"})
	f.put(31, statLine(31, "gone", "Z", 7, 0, 0, 0, 1, 81), "0 0 0", ioText(0, 0), map[int]string{31: ""})
	f.put(34, statLine(34, "late", "R", 1, 1, 0, 0, 1, 82), "10 10 0", ioText(0, 4096),
		map[int]string{34: "20"}) // in a circle, if that could be
	tree := Look{
		CPU: Spent{119 * tick, 23 * tick}, IO: IO{11, 4118}, HasIO: true, Whole: true,
		Processes: 3, Threads: 5, Resident: 310 * page, Anon: 220 * page,
	}
	expect("a tree with an ended process", tree, true)

	// 30 has ended and 20 has not waited for it yet: time does not go back.
	f.remove(30)
	tree.Processes, tree.Threads, tree.Resident, tree.Anon = 1, 1, 100*page, 60*page
	expect("a gap", tree, true)

	f.remove(31)
	f.remove(20)
	launcher(200, "34 ")
	expect("the launcher has waited for them", Look{
		CPU: Spent{201 * tick, 201 * tick}, IO: IO{11, 4118}, HasIO: true, Whole: true,
		Processes: 1, Threads: 1, Resident: 10 * page, Anon: 10 * page,
	}, true)

	p.reaped = &Spent{3 * time.Second, 3*time.Second + 1}
	f.remove(34)
	launcher(200, "")
	last := Look{CPU: Spent{3 * time.Second, 3*time.Second + 1}, IO: IO{11, 4118}, HasIO: true, Whole: true}
	expect("the launcher has told it exactly", last, true)

	f.put(10, statLine(10, "another", "R", 1, 1, 9999, 9999, 1, 78), "1 1 1", ioText(1, 1), map[int]string{10: ""})
	last.Whole = false
	expect("another process of its number", last, false)
	f.remove(10)
	expect("nobody", last, false)
}

// TestProcessesNotWhole: what is a part of the job is not told as the job.
func TestProcessesNotWhole(t *testing.T) {
	own := statLine(10, "hodei-worker", "S", 0, 0, 5, 0, 1, 1)
	many := make([]string, maxProcesses+10)
	for i := range many {
		many[i] = fmt.Sprint(1000 + i)
	}
	tests := []struct {
		name  string
		make  func(f fakeProc)
		whole bool
		hasIO bool
	}{
		{"no I/O of the launcher", func(f fakeProc) { f.put(10, own, "", "", map[int]string{10: ""}) }, true, false},
		{"no I/O of a process", func(f fakeProc) {
			f.put(10, own, "", ioText(0, 0), map[int]string{10: "20"})
			f.put(20, statLine(20, "x", "S", 0, 0, 0, 0, 1, 1), "1 1 1", "nonsense", map[int]string{20: ""})
		}, true, false},
		{"children that are nonsense", func(f fakeProc) { f.put(10, own, "", ioText(0, 0), map[int]string{10: "a b c"}) }, false, true},
		{"more than we look at", func(f fakeProc) {
			f.put(10, own, "", ioText(0, 0), map[int]string{10: strings.Join(many, " ")})
		}, false, true},
		{"a list that is cut", func(f fakeProc) {
			f.put(10, own, "", ioText(0, 0), map[int]string{10: strings.Repeat("20 ", maxChildrenBytes)})
		}, false, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := fakeProc{t, t.TempDir()}
			test.make(f)
			p, err := Open(f.root, 10)
			if err != nil {
				t.Fatal(err)
			}
			got, ok := p.Look()
			if !ok || got.Whole != test.whole || got.HasIO != test.hasIO || got.CPU.User != 5*tick {
				t.Errorf("got %+v, %t", got, ok)
			}
		})
	}
}

func TestOpenProcessesRefuses(t *testing.T) {
	f := fakeProc{t, t.TempDir()}
	f.put(10, "nonsense", "", "", map[int]string{10: ""})
	f.put(11, statLine(11, "x", "S", 0, 0, 0, 0, 1, 1), "", "", nil) // a kernel without lists of children
	for _, test := range []struct {
		name string
		pid  int
	}{{"another PID namespace", 0}, {"no process", 5}, {"nonsense", 10}, {"no lists of children", 11}} {
		t.Run(test.name, func(t *testing.T) {
			if p, err := Open(f.root, test.pid); err == nil {
				t.Errorf("opened %+v", p)
			}
		})
	}
}
