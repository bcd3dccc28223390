package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestLeave(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"cgroup.controllers": "", "cgroup.events": "",
		"memory.current": "1\n", "memory.events": "oom_kill 2\n", "pids.current": "3\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	r.Leave("memory.current", "no.such.file")
	if got := r.Files(); !slices.Equal(got, []string{"memory.events", "pids.current"}) {
		t.Errorf("%q are left", got)
	}
	r.Leave("memory.events")
	var s Sample
	r.Read(&s)
	if s.Memory != (Memory{}) || s.Pids.Current != (Figure{3, true}) {
		t.Errorf("read %+v", s)
	}
	r.Leave("pids.current")
	r.Read(&s)
	if s.Pids.Current.Known || r.Gone() {
		t.Errorf("read %+v of nothing", s)
	}
	(*Reader)(nil).Leave("pids.current")
}
