package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOOMKills(t *testing.T) {
	tests := []struct {
		name, file, content string
		want                uint64
		ok                  bool
	}{
		{"v2", "memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 0\n", 2, true},
		{"v1", "memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", 1, true},
		{"v1 before Linux 4.13", "memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n", 0, false},
		{"garbage", "memory.events", "oom_kill many\n", 0, false},
		{"torn", "memory.events", "oom_ki", 0, false},
		{"empty", "memory.events", "", 0, false},
		{"nothing there", "", "", 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			if tt.file != "" {
				path := filepath.Join(root, tt.file)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(tt.content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			dir, err := os.Open(root)
			if err != nil {
				t.Fatal(err)
			}
			j, err := Open(dir)
			dir.Close()
			if err != nil {
				t.Fatal(err)
			}
			defer j.Close()
			if got, ok := j.OOMKills(); got != tt.want || ok != tt.ok {
				t.Errorf("OOMKills() = %d, %t, want %d, %t", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func FuzzParseOOMKills(f *testing.F) {
	f.Add([]byte("oom 1\noom_kill 2\n"))
	f.Add([]byte("oom_kill -1"))
	f.Fuzz(func(t *testing.T, b []byte) { parseOOMKills(b) })
}
