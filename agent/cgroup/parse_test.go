package cgroup

import (
	"strconv"
	"testing"
)

func TestNumber(t *testing.T) {
	tests := []struct {
		name, in string
		want     Figure
	}{
		{"zero", "0", fig(0)},
		{"leading zeros", "007", fig(7)},
		{"largest", "18446744073709551615", fig(1<<64 - 1)},
		{"too large by one", "18446744073709551616", Figure{}},
		{"too large by a digit", "99999999999999999999", Figure{}},
		{"empty", "", Figure{}},
		{"negative", "-1", Figure{}},
		{"plus", "+1", Figure{}},
		{"max", "max", Figure{}},
		{"space", " 1", Figure{}},
		{"fraction", "1.5", Figure{}},
		{"above the digits", "1:", Figure{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := number([]byte(tt.in)); got != tt.want {
				t.Errorf("number(%q) = %v, want %v", tt.in, got, tt.want)
			}
		})
	}
}

func TestSingle(t *testing.T) {
	tests := []struct {
		name, in string
		want     Figure
	}{
		{"a line", "12\n", fig(12)},
		{"torn", "12", Figure{}},
		{"two lines", "12\n13\n", Figure{}},
		{"nothing", "", Figure{}},
		{"an empty line", "\n", Figure{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := single([]byte(tt.in)); got != tt.want {
				t.Errorf("single(%q) = %v, want %v", tt.in, got, tt.want)
			}
		})
	}
}

func TestFigures(t *testing.T) {
	tests := []struct {
		name      string
		got, want Figure
	}{
		{"plus", fig(1).plus(fig(2)), fig(3)},
		{"plus nothing", fig(1).plus(Figure{}), Figure{}},
		{"nothing plus", Figure{}.plus(fig(1)), Figure{}},
		{"plus too much", fig(1).plus(fig(1<<64 - 1)), Figure{}},
		{"times", fig(2).times(1000), fig(2000)},
		{"nothing times", Figure{}.times(1000), Figure{}},
		{"times too much", fig(1<<64 - 1).times(2), Figure{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.got != tt.want {
				t.Errorf("%v, want %v", tt.got, tt.want)
			}
		})
	}
}

func TestParseIOStat(t *testing.T) {
	zero := IO{fig(0), fig(0), fig(0), fig(0)}
	tests := []struct {
		name string
		in   []byte
		want IO
	}{
		{"not read", nil, IO{}},
		{"no operation yet", []byte{}, zero},
		{"one device", []byte("8:0 rbytes=90112 wbytes=4096 rios=3 wios=1 dbytes=50331648 dios=3021\n"),
			IO{fig(90112), fig(4096), fig(3), fig(1)}},
		{"two devices",
			[]byte("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n253:0 rbytes=10 wbytes=20 rios=30 wios=40 dbytes=0 dios=0\n"),
			IO{fig(11), fig(22), fig(33), fig(44)}},
		{"with io.cost", []byte("8:0 cost.vrate=100.00 rbytes=1 wbytes=2 rios=3 wios=4 cost.usage=7\n"),
			IO{fig(1), fig(2), fig(3), fig(4)}},
		{"unused devices in front, Linux 5.15", []byte("7:1 7:0 8:0 rbytes=1 wbytes=2 rios=3 wios=4\n"),
			IO{fig(1), fig(2), fig(3), fig(4)}},
		{"an unused device last, Linux 5.15", []byte("8:0 rbytes=1 wbytes=2 rios=3 wios=4\n7:0 "), IO{fig(1), fig(2), fig(3), fig(4)}},
		{"unused devices alone", []byte("7:1 7:0 "), zero},
		{"torn in a pair", []byte("8:0 rbytes=1 wbytes=2 rios=3 wios=4\n8:16 rby"), IO{fig(1), fig(2), fig(3), fig(4)}},
		{"torn in a number", []byte("8:0 rbytes=1 wbytes=2 rios=3 wios=4\n8:16 rbytes=1 wbytes=2"), IO{}},
		{"one figure is garbage", []byte("8:0 rbytes=-1 wbytes=2 rios=3 wios=4\n8:16 rbytes=1 wbytes=2 rios=3 wios=4\n"),
			IO{Figure{}, fig(4), fig(6), fig(8)}},
		{"one sum is too large", []byte("8:0 rbytes=1 wbytes=18446744073709551615 rios=3 wios=4\n8:16 rbytes=1 wbytes=2 rios=3 wios=4\n"),
			IO{fig(2), Figure{}, fig(6), fig(8)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s Sample
			if parseIOStat(tt.in, &s); s.IO != tt.want {
				t.Errorf("parseIOStat(%q) = %v, want %v", tt.in, s.IO, tt.want)
			}
		})
	}
}

func TestReadWrite(t *testing.T) {
	tests := []struct {
		name, in    string
		read, write Figure
	}{
		{"two devices",
			"8:0 Read 1\n8:0 Write 2\n8:0 Sync 3\n8:0 Async 0\n8:0 Discard 0\n8:0 Total 3\n8:16 Read 10\n8:16 Write 20\n8:16 Total " +
				"30\nTotal 33\n", fig(11), fig(22)},
		{"no device", "Total 0\n", Figure{}, Figure{}},
		{"torn before the total", "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\n", Figure{}, Figure{}},
		{"torn in the total", "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\nTotal 3", Figure{}, Figure{}},
		{"garbage", "8:0 Read x\n8:0 Write 2\nTotal 3\n", Figure{}, fig(2)},
		{"both garbage, then another", "8:0 Read x\n8:0 Write x\n8:16 Read 1\n8:16 Write 2\nTotal 3\n", Figure{}, Figure{}},
		{"empty", "", Figure{}, Figure{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if read, write := readWrite([]byte(tt.in)); read != tt.read || write != tt.write {
				t.Errorf("readWrite(%q) = %v, %v, want %v, %v", tt.in, read, write, tt.read, tt.write)
			}
		})
	}
}

func TestPressures(t *testing.T) {
	tests := []struct {
		name, in   string
		some, full Figure
	}{
		{"both", "some avg10=0.12 avg60=0.00 avg300=0.00 total=12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n", fig(12000),
			fig(3000)},
		{"some alone", "some avg10=0.12 avg60=0.00 avg300=0.00 total=12\n", fig(12000), Figure{}},
		{"without a total", "some avg10=0.12\nfull total=x\n", Figure{}, Figure{}},
		{"torn", "some avg10=0.12 avg60=0.00 avg300=0.00 total=12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3", fig(12000), Figure{}},
		{"empty", "", Figure{}, Figure{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if some, full := pressures([]byte(tt.in)); some != tt.some || full != tt.full {
				t.Errorf("pressures(%q) = %v, %v, want %v, %v", tt.in, some, full, tt.some, tt.full)
			}
		})
	}
}

// parsers are all of them, each once.
func parsers() map[string]func([]byte, *Sample) {
	all := map[string]func([]byte, *Sample){"hugetlb.": parseHugePages, "hugetlb.more": parseMoreHugePages}
	for _, f := range filesV2 {
		all[f.name] = f.parse
	}
	for controller, files := range filesV1 {
		for _, candidates := range files {
			for _, f := range candidates {
				all[controller+"/"+f.name] = f.parse
			}
		}
	}
	return all
}

// FuzzParse gives every parser everything: none may panic, an absent figure has
// no number, and what is torn before its first end of a line tells nothing.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"v1-linux-6.18", "v2-linux-6.1", "v2-linux-6.12"} {
		for _, content := range fixture(f, name) {
			f.Add([]byte(content))
		}
	}
	f.Add([]byte("8:0 rbytes=1 wbytes=2 rios=3 wios=4\n7:0 "))
	f.Add([]byte("8:0 Read 1\n8:0 Write 2\nTotal 3\n"))
	f.Add([]byte("max 18446744073709551615\n"))
	all := parsers()
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, parse := range all {
			var s Sample
			parse(b, &s)
			eachFigure(s, func(path string, f Figure) {
				if !f.Known && f.N != 0 {
					t.Errorf("%s: %s is absent and %d", name, path, f.N)
				}
			})
			if _, _, whole := cutLine(b); !whole && name != "io.stat" && s != (Sample{}) {
				t.Errorf("%s: %q tells %v", name, b, s)
			}
		}
	})
}

func FuzzNumber(f *testing.F) {
	f.Add([]byte("18446744073709551615"))
	f.Add([]byte("18446744073709551616"))
	f.Add([]byte("max"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got := number(b)
		want, err := strconv.ParseUint(string(b), 10, 64)
		if got.Known != (err == nil) || got.Known && got.N != want {
			t.Errorf("number(%q) = %v, want %d, %v", b, got, want, err)
		}
	})
}
