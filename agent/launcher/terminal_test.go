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
