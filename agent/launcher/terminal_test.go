package launcher

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

func TestOpenTerminal(t *testing.T) {
	absent := filepath.Join(t.TempDir(), "ptmx")
	if _, _, err := openTerminal([]string{"/dev/null/ptmx", absent + "2"}); err == nil || !strings.Contains(err.Error(), "/dev/null/ptmx") {
		t.Errorf("error %v", err)
	}
	_, _, err := openTerminal([]string{absent})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "no terminal can be had in this container: "+absent) {
		t.Errorf("error %v", err)
	}
	master, slave, err := openTerminal(append([]string{absent}, ptmx...))
	if err != nil {
		t.Fatal(err)
	}
	master.Close()
	slave.Close()
}

func TestParseSession(t *testing.T) {
	for stat, want := range map[string]int{
		"12 (sh) S 1 12 11 34816 12 4194304": 11,
		"12 (a) S 1 (b) 3) S 1 12 11 0":      11,
		"12 (sh) S 1 12":                     0,
		"":                                   0,
	} {
		if got := parseSession([]byte(stat)); got != want {
			t.Errorf("session %d of %q, want %d", got, stat, want)
		}
	}
}
