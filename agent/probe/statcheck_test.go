package probe

import (
	"os"
	"path/filepath"
	"testing"
)

func TestStatField(t *testing.T) {
	const text = "anon 4096\nfile 0\nkernel 12345\nanon_thp 8\n"
	tests := []struct {
		name, text, field string
		want              uint64
		ok                bool
	}{
		{"first", text, "anon", 4096, true},
		{"zero", text, "file", 0, true},
		{"longer names are others", text, "anon_th", 0, false},
		{"last", text, "anon_thp", 8, true},
		{"absent", text, "swap", 0, false},
		{"empty", "", "anon", 0, false},
		{"torn", "anon 40", "anon", 0, false},
		{"no number", "anon \n", "anon", 0, false},
		{"negative", "anon -1\n", "anon", 0, false},
		{"garbage", "anon 1x\n", "anon", 0, false},
		{"too large", "anon 99999999999999999999\n", "anon", 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, ok := statField([]byte(tt.text), tt.field); got != tt.want || ok != tt.ok {
				t.Errorf("statField() = %d, %t, want %d, %t", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func FuzzStatField(f *testing.F) {
	f.Add([]byte("anon 4096\nfile 0\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if n, ok := statField(text, "anon"); !ok && n != 0 {
			t.Errorf("%d with nothing found", n)
		}
	})
}

func TestStatCheck(t *testing.T) {
	const text = "anon 1048576\nfile 2097152\nkernel 65536\n"
	right := record{Anon: 1 << 20, File: 2 << 20, Kernel: 64 << 10}
	tests := []struct {
		name, text string
		r          record
		want       bool
	}{
		{"agrees", text, right, true},
		{"has moved a little", text, record{Anon: 1<<20 + 4096, File: 2 << 20, Kernel: 64 << 10}, true},
		{"another place", text, record{Anon: 2 << 20, File: 1 << 20, Kernel: 64 << 10}, false},
		{"nothing yet", "anon 0\nfile 0\nkernel 0\n", record{}, false},
		{"one is missing", "anon 1048576\nkernel 65536\n", right, false},
		{"garbage", "\x00\xff", right, false},
		{"empty", "", right, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "memory.stat")
			if err := os.WriteFile(name, []byte(tt.text), 0o644); err != nil {
				t.Fatal(err)
			}
			dir, err := os.Open(filepath.Dir(name))
			if err != nil {
				t.Fatal(err)
			}
			defer dir.Close()
			c := openStatCheck(dir)
			defer c.close()
			if got := c.against(&tt.r); got != tt.want {
				t.Errorf("against() = %t, want %t", got, tt.want)
			}
			if tt.want && !c.against(&record{}) {
				t.Error("looked again after they had agreed")
			}
		})
	}
	t.Run("no file", func(t *testing.T) {
		dir, err := os.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		c := openStatCheck(dir)
		defer c.close()
		if c.against(&right) {
			t.Error("agreed with nothing")
		}
	})
}
