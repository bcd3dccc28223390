package handover

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/agent/agenttest"
)

// TestExecCommand: a command longer than a packet, of any bytes, comes back as it was, whatever the file's offset is.
func TestExecCommand(t *testing.T) {
	want := &ExecCommand{
		Command:     [][]byte{[]byte("sh"), []byte("\xff\xfe"), []byte(strings.Repeat("x", 3*MaxPacket))},
		Environment: [][]byte{[]byte("X=\xff\n")}, Directory: []byte("/\xfe"),
	}
	f, err := want.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadExecCommand(fd)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := (&ExecCommand{Command: [][]byte{make([]byte, MaxExecBytes)}}).File(); err == nil {
		t.Error("a command that is too long is taken")
	}
}

// FuzzReadExecCommand: whatever the file has, it is a command with a program, or an error.
func FuzzReadExecCommand(f *testing.F) {
	for _, seed := range []string{
		`{"command":["c2g="]}`, `{"command":[]}`, `{"command":[""]}`, `{}`, ``, `{"command":["c2g="],"environment":["WA=="]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		file := os.NewFile(uintptr(fd), "test")
		defer file.Close()
		if _, err := file.Write(text); err != nil {
			t.Fatal(err)
		}
		other, err := unix.Dup(fd)
		if err != nil {
			t.Fatal(err)
		}
		c, err := ReadExecCommand(other)
		if err == nil && (len(c.Command) == 0 || len(c.Command[0]) == 0) {
			t.Errorf("%q: no program", text)
		}
		if err == nil && bytes.IndexByte(text, '{') < 0 {
			t.Errorf("%q is taken for a command", text)
		}
	})
}

// TestExecFiles: descriptors become files that wait, and are closed where names and descriptors don't fit.
func TestExecFiles(t *testing.T) {
	before := agenttest.OpenFiles(t)
	for names, ok := range map[string]bool{FDStdout: true, FDStdout + " " + FDStderr: false, "": false} {
		r, w, err := MakePipe()
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Dup(int(r.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		files, err := ExecFiles(&ExecStarted{FDs: strings.Fields(names)}, []int{fd})
		if (err == nil) != ok {
			t.Errorf("%q: error %v", names, err)
		}
		if ok {
			if _, err := w.WriteString("x"); err != nil {
				t.Fatal(err)
			}
			if n, err := files[FDStdout].Read(make([]byte, 2)); n != 1 || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
		}
		files.Close()
		w.Close()
	}
	if after := agenttest.OpenFiles(t); after != before {
		t.Errorf("%d files are open, %d before", after, before)
	}
}
