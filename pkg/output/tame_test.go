package output

import (
	"bytes"
	"regexp"
	"testing"
)

func TestTamer(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"text", "hello\tworld\r\n\b", "hello\tworld\r\n\b"},
		{"UTF-8", "äöü € 𝄞 \u00a0", "äöü € 𝄞 \u00a0"},
		{"colours", "\x1b[1;31mred\x1b[m \x1b[38:2:1:2:3mx", "\x1b[1;31mred\x1b[m \x1b[38:2:1:2:3mx"},
		{"movements", "\x1b[2J\x1b[1;1H\x1b[K\x1b7\x1bM\x1b8", "\x1b[2J\x1b[1;1H\x1b[K\x1b7\x1bM\x1b8"},
		{"where is the cursor", "$ \x1b[6nx\x1b[?6nx", "$ xx"},
		{"who are you", "\x1b[cx\x1b[>cx\x1b[=cx\x1bZx\x05x\x1b[>qx", "xxxxxx"},
		{"what is your size", "\x1b[18tx\x1b[21tx", "xx"},
		{"what are your modes", "\x1b[?25$px\x1b[?1mx\x1b[>4;2mx", "xxx"},
		{"modes", "\x1b[?1049hx\x1b[?2004hx\x1b[4hx\x1b[?1000lx\x1b=x\x1bcx", "xxxxxx"},
		{"titles and clipboards", "\x1b]0;title\ax\x1b]52;c;aGk=\x1b\\x\x1b]4;1;?\ax", "xxx"},
		{"a string with ESC in it", "\x1b]0;a\x1bb\x1b[6n\ax", "x"},
		{"device control", "\x1bP$qm\x1b\\x\x1b_G\x1b\\x\x1b^p\x1b\\x\x1bXs\x1b\\x", "xxxx"},
		{"character sets", "\x1b(0x\x1b%Gx\x0ex", "xxx"},
		{"C1 controls", "\xc2\x9b6nx\x9b6nx\xc2\x85", "6nx6nx"},
		{"ESC within a sequence", "\x1b[1\x1b[6nx\x1b[3\x18mx", "xmx"},
		{"a bell", "\ax", "x"},
		{"too long", "\x1b[1" + string(bytes.Repeat([]byte("1"), 100)) + "mx", "x"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var whole, bytewise tamer
			if got := whole.take(nil, []byte(test.in)); string(got) != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
			var got []byte
			for i := range len(test.in) {
				got = bytewise.take(got, []byte(test.in[i:i+1]))
			}
			if string(got) != test.want {
				t.Errorf("byte by byte: %q, want %q", got, test.want)
			}
		})
	}
}

// passed are the only sequences that the filter lets through.
var passed = regexp.MustCompile("\x1b(\\[[0-9;:]*[@ABCDEFGHJKLMPX`adefm]|[78DEM])")

func FuzzTamer(f *testing.F) {
	f.Add([]byte("\x1b[6n\x1b]0;t\ax\xc2\x9b"), []byte("6n\x1b[1m"))
	f.Add([]byte("\x1b[\x1b\x1b[6"), []byte("n"))
	f.Add([]byte("\xe2\x82"), []byte("\xac\xc2"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var pieces, whole, again tamer
		got := pieces.take(pieces.take(nil, first), second)
		if all := whole.take(nil, append(bytes.Clone(first), second...)); !bytes.Equal(got, all) {
			t.Errorf("%q in two pieces, %q in one", got, all)
		}
		if twice := again.take(nil, got); !bytes.Equal(twice, got) {
			t.Errorf("%q is not passed on as it is: %q", got, twice)
		}
		for _, b := range passed.ReplaceAll(got, nil) {
			if b < ' ' && b != bs && b != '\t' && b != '\n' && b != '\r' || b == 0x7f {
				t.Errorf("%q has %#x in it", got, b)
			}
		}
	})
}
