package certs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOwn(t *testing.T) {
	remove := func(names ...string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			for _, name := range names {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, test := range []struct {
		name   string
		change func(t *testing.T, dir string)
		own    bool
		why    string // begins with
	}{
		{"as it was made", func(*testing.T, string) {}, true, ""},
		{"without the authority's key", remove("ca.key"), true, ""}, // half of one: for whoever reads it to say
		{"without its certificate", remove("ca.crt"), true, ""},
		{"without an authority", remove("ca.crt", "ca.key"), false, ""},
		{"made by an earlier version", remove(markerFile), false, "it has no file .hodei"},
		{"another project's", remove(markerFile, "client.crt", "client.key"), false, ""},
		{"an authority and its key", remove(markerFile, "client.crt", "client.key", "server.crt", "server.key"), false, ""},
		{"everybody may write to it", func(t *testing.T, dir string) {
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
		}, false, "everybody may write to it"},
		{"somebody else's", func(t *testing.T, dir string) {
			if os.Geteuid() != 0 {
				t.Skip("not root")
			}
			if err := os.Chown(dir, 65534, 65534); err != nil {
				t.Fatal(err)
			}
		}, false, "it belongs to user 65534, and this is user 0"},
		{"with somebody else's marker", func(t *testing.T, dir string) {
			if os.Geteuid() != 0 {
				t.Skip("not root")
			}
			if err := os.Chown(filepath.Join(dir, markerFile), 65534, 65534); err != nil {
				t.Fatal(err)
			}
		}, false, "it belongs to user 65534"},
		{"a file", func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			writeFile(t, dir, nil)
		}, false, ""},
		{"a directory that can't be searched", func(t *testing.T, dir string) {
			if os.Geteuid() == 0 {
				t.Skip("root can")
			}
			if err := os.Chmod(dir, 0); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
		}, false, ""},
		{"nothing", func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}, false, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := generatedDir(t, GenerateOptions{})
			test.change(t, dir)
			own, why := Own(dir)
			if own != test.own || !strings.HasPrefix(why, test.why) || test.why == "" && why != "" {
				t.Errorf("Own() = %t, %q", own, why)
			}
		})
	}
}

// A rotation makes a directory of an earlier version hodei's own; a Generate that refuses
// to replace files does not.
func TestOwnAdopted(t *testing.T) {
	dir := generatedDir(t, GenerateOptions{})
	if err := os.Remove(filepath.Join(dir, markerFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Generate(GenerateOptions{Dir: dir}); err == nil {
		t.Fatal("it replaced them")
	}
	if own, _ := Own(dir); own {
		t.Error("adopted by a refusal")
	}
	if _, err := Rotate(RotateOptions{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	if own, why := Own(dir); !own {
		t.Error(why)
	}
}
