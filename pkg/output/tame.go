package output

import (
	"bytes"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// Tame returns a sink for the stored output of a terminal, to be shown on another one. It passes text, colours and
// movements on to s, and drops all that a terminal answers or remembers: a shell's ESC [6n would have the terminal
// type into whatever runs there now. It is for one attempt after the other.
func Tame(s Sink) Sink { return &tamed{Sink: s} }

type tamed struct {
	Sink
	filter tamer
	out    []byte
}

// Record implements [Sink].
func (s *tamed) Record(attempt string, offset uint64, r *hodeipb.Record, data []byte) error {
	s.out = s.filter.take(s.out[:0], data)
	if len(s.out) == 0 {
		return nil
	}
	return s.Sink.Record(attempt, offset, r, s.out)
}

// Control characters, by their names in ECMA-48.
const (
	bel, bs, can, sub, esc = 0x07, 0x08, 0x18, 0x1a, 0x1b
)

// maxSequence is longer than any sequence that is passed on: colours of some ten attributes.
const maxSequence = 64

// Sequences that are passed on, by their last byte: ESC 7, 8, D, E and M, and of those that begin with ESC [ and have
// nothing but numbers in them the ones that move, erase, insert, delete and colour.
const (
	tameEscapes  = "78DEM"
	tameControls = "@ABCDEFGHJKLMPX`adefm"
)

// tamer drops from a terminal's output what is not text, or a sequence that is passed on. It keeps what it has to
// know from one piece to the next.
type tamer struct {
	state tameState
	// sequence is what has come of one that may be passed on.
	sequence []byte
	// more is how many bytes of a character of UTF-8 are still to come; lead tells that 0xC2 has come, which begins
	// characters and C1 controls.
	more int
	lead bool
}

type tameState int

const (
	tameText   tameState = iota
	tameEscape           // behind ESC
	tameDesign           // behind ESC and a byte that another one follows
	tameCSI              // behind ESC [
	tameString           // within a string, up to ESC \ or BEL
	tameEnd              // behind ESC within a string
)

// take appends to out what of data is passed on.
func (t *tamer) take(out, data []byte) []byte {
	for _, b := range data {
		out = t.takeByte(out, b)
	}
	return out
}

func (t *tamer) takeByte(out []byte, b byte) []byte {
	switch t.state {
	case tameText:
		return t.text(out, b)
	case tameString, tameEnd:
		t.inString(b)
		return out
	}
	switch {
	case b == esc:
		t.begin()
		return out
	case b == can || b == sub:
		t.state = tameText
		return out
	case b < ' ' || b > '~': // a terminal acts on a control in a sequence; here it is dropped
		return out
	}
	if len(t.sequence) <= maxSequence {
		t.sequence = append(t.sequence, b)
	}
	switch t.state {
	case tameEscape:
		return t.escape(out, b)
	case tameDesign:
		if b >= '0' {
			t.state = tameText
		}
	case tameCSI:
		if b >= '@' {
			t.state = tameText
			if t.isTame() {
				out = append(out, t.sequence...)
			}
		}
	}
	return out
}

// begin begins a sequence.
func (t *tamer) begin() {
	t.state, t.sequence = tameEscape, append(t.sequence[:0], esc)
}

// escape takes the byte behind ESC.
func (t *tamer) escape(out []byte, b byte) []byte {
	switch {
	case b == '[':
		t.state = tameCSI
	case bytes.IndexByte([]byte("]PX^_"), b) >= 0:
		t.state = tameString
	case b < '0':
		t.state = tameDesign
	default:
		t.state = tameText
		if bytes.IndexByte([]byte(tameEscapes), b) >= 0 {
			return append(out, t.sequence...)
		}
	}
	return out
}

// isTame tells whether a whole sequence behind ESC [ is passed on.
func (t *tamer) isTame() bool {
	inside, last := t.sequence[2:len(t.sequence)-1], t.sequence[len(t.sequence)-1]
	for _, b := range inside {
		if (b < '0' || b > '9') && b != ';' && b != ':' {
			return false
		}
	}
	return len(t.sequence) <= maxSequence && bytes.IndexByte([]byte(tameControls), last) >= 0
}

// inString takes a byte of a string, of which nothing is passed on.
func (t *tamer) inString(b byte) {
	switch {
	case b == bel || b == can || b == sub || t.state == tameEnd && b == '\\':
		t.state = tameText
	case b == esc:
		t.state = tameEnd
	default:
		t.state = tameString
	}
}

// text takes a byte outside of sequences. The C1 controls, which some terminals know as bytes or as characters, are
// dropped.
func (t *tamer) text(out []byte, b byte) []byte {
	if t.lead {
		t.lead = false
		switch {
		case b >= 0xa0 && b < 0xc0:
			return append(out, 0xc2, b)
		case b >= 0x80 && b < 0xa0:
			return out
		}
	}
	switch {
	case b == esc:
		t.more = 0
		t.begin()
		return out
	case b >= 0x80 && b < 0xc0:
		if t.more == 0 {
			return out
		}
		t.more--
		return append(out, b)
	}
	t.more = 0
	switch {
	case b == 0xc2:
		t.lead = true
		return out
	case b >= 0xf0:
		t.more = 3
	case b >= 0xe0:
		t.more = 2
	case b >= 0xc0:
		t.more = 1
	case b < ' ' && b != bs && b != '\t' && b != '\n' && b != '\r' || b == 0x7f:
		return out
	}
	return append(out, b)
}
