package certs

import (
	"bytes"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fact is that of a source among facts.
func fact(t *testing.T, facts []Fact, source string) Fact {
	t.Helper()
	for _, f := range facts {
		if f.Source == source {
			return f
		}
	}
	t.Fatalf("no fact of %s in %+v", source, facts)
	return Fact{}
}

func TestInspectDir(t *testing.T) {
	dir := generatedDir(t, GenerateOptions{})
	facts, err := InspectDir(dir, time.Now())
	if err != nil || len(facts) != 3 {
		t.Fatalf("%+v, %v", facts, err)
	}
	inOrder(t, dir)
	ca, server := facts[0], fact(t, facts, filepath.Join(dir, "server.crt"))
	if !ca.CA || ca.Subject != "hodei CA" || ca.DaysLeft != 3649 && ca.DaysLeft != 3650 {
		t.Errorf("%+v", ca)
	}
	if server.CA || server.Issuer != "hodei CA" || server.SignedBy != filepath.Join(dir, "ca.crt") ||
		strings.Join(server.Names, " ") != testID.ServerName()+" 192.0.2.7" {
		t.Errorf("%+v", server)
	}
	if _, err := RotateCA(RotateOptions{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	facts, err = InspectDir(dir, time.Now())
	if err != nil || len(facts) != 4 {
		t.Fatalf("%+v, %v", facts, err)
	}
	if got := fact(t, facts, filepath.Join(dir, "server.crt")).SignedBy; got != filepath.Join(dir, "ca.crt#2") {
		t.Errorf("the server's certificate is said to be signed by %s", got)
	}
	for _, source := range []string{"ca.crt", "ca.crt#2"} { // each by itself
		if got := fact(t, facts, filepath.Join(dir, source)).SignedBy; got != filepath.Join(dir, source) {
			t.Errorf("%s is said to be signed by %s", source, got)
		}
	}
}

// A key that others may read is a warning, beside what else there is.
func TestInspectExposedKey(t *testing.T) {
	dir := generatedDir(t, GenerateOptions{Validity: time.Hour})
	for _, name := range []string{"server.key", "ca.key"} {
		if err := os.Chmod(filepath.Join(dir, name), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	want := "server.key is not its owner's alone: mode 0640"
	for name, tt := range map[string]struct {
		at   time.Time
		want string
	}{"now": {time.Now(), ""}, "soon": {time.Now().Add(50 * time.Minute), "it ends at "}} {
		facts, err := InspectDir(dir, tt.at)
		if err != nil {
			t.Fatal(err)
		}
		f := fact(t, facts, filepath.Join(dir, "server.crt"))
		if f.KeyMode != "0640" || f.Problem != "" || !strings.HasPrefix(f.Warning, tt.want) || !strings.HasSuffix(f.Warning, want) {
			t.Errorf("%s: %+v", name, f)
		}
		if f := fact(t, facts, filepath.Join(dir, "client.crt")); f.KeyMode != "" || strings.Contains(f.Warning, "mode") {
			t.Errorf("%s: %+v", name, f)
		}
	}
	a, err := LoadAuthority(dir)
	if err != nil || a.Exposed() != filepath.Join(dir, "ca.key")+" is not its owner's alone: mode 0640" {
		t.Errorf("Exposed() = %q, %v", a.Exposed(), err)
	}
	if err := os.Chmod(filepath.Join(dir, "ca.key"), 0o400); err != nil {
		t.Fatal(err)
	}
	if a, err = LoadAuthority(dir); err != nil || a.Exposed() != "" {
		t.Errorf("Exposed() = %q, %v", a.Exposed(), err)
	}
}

func TestInMemory(t *testing.T) {
	dir := generatedDir(t, GenerateOptions{})
	onDisk := snapshot(t, dir)["ca.crt"]
	for _, tt := range []struct {
		name  string
		caPEM []byte
		want  bool
	}{
		{"in memory", mustAuthority(t).CAPEM(), true},
		{"of a directory", onDisk, false},
		{"one of memory after one of a directory", append(onDisk, mustAuthority(t).CAPEM()...), false},
	} {
		if got, err := InMemory(tt.caPEM); err != nil || got != tt.want {
			t.Errorf("%s: %v, %v", tt.name, got, err)
		}
	}
	if _, err := InMemory(nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("error is %v, want ErrMalformed", err)
	}
}

func TestInspectTimes(t *testing.T) {
	day := 24 * time.Hour
	dir := generatedDir(t, GenerateOptions{Validity: 100 * day})
	for _, tt := range []struct {
		name             string
		after            time.Duration
		problem, warning string
		daysLeft         int
	}{
		{"now", 0, "", "", 99},
		{"soon", 80 * day, "", "it ends at ", 19},
		{"the last hours", 100*day - 90*time.Minute, "", "in 1h30m0s", 0},
		{"past", 101 * day, "certificate expired: it ended at ", "", -2},
		{"ahead", -day, "certificate is not valid yet: it begins at ", "", 100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			facts, err := InspectDir(dir, time.Now().Add(tt.after))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range facts {
				if !strings.HasPrefix(f.Problem, tt.problem) || (f.Problem == "") != (tt.problem == "") ||
					!strings.Contains(f.Warning, tt.warning) || (f.Warning == "") != (tt.warning == "") || f.DaysLeft != tt.daysLeft {
					t.Errorf("%+v", f)
				}
			}
		})
	}
	cert := parseCert(t, snapshot(t, dir)["ca.crt"])
	if got := EndsSoon(cert, time.Now()); got != "" {
		t.Errorf("EndsSoon() = %q", got)
	}
	short := generatedDir(t, GenerateOptions{Validity: 3 * day})
	if got := EndsSoon(parseCert(t, snapshot(t, short)["ca.crt"]), time.Now().Add(day)); got != "" {
		t.Errorf("one that is made for 3 days: EndsSoon() = %q after one", got)
	}
	if got := EndsSoon(cert, cert.NotAfter.Add(-25*time.Hour)); !strings.HasSuffix(got, ", in 1 day") {
		t.Errorf("EndsSoon() = %q", got)
	}
}

func TestInspectProblems(t *testing.T) {
	a := mustAuthority(t)
	now := time.Now()
	leaf, leafKey := signed(t, a, now.Add(-time.Hour), now.Add(time.Hour), x509.ExtKeyUsageClientAuth)
	tests := []struct {
		name   string
		change func(dir string)
		source string // of the fact that tells
		want   string
	}{
		{"torn", func(dir string) { os.Truncate(filepath.Join(dir, "server.crt"), 200) }, "server.crt",
			"malformed: 0 of its 1 PEM blocks can be read"},
		{"empty", func(dir string) { os.Truncate(filepath.Join(dir, "client.crt"), 0) }, "client.crt", "malformed: it is not PEM"},
		{"garbage", func(dir string) { writeFile(t, filepath.Join(dir, "x.crt"), bytes.Repeat([]byte{0, 0xff}, 1000)) }, "x.crt",
			"malformed: it is not PEM"},
		{"key as certificate", func(dir string) { writeFile(t, filepath.Join(dir, "x.crt"), leafKey) }, "x.crt",
			"malformed: it holds no certificate but private key"},
		{"too long", func(dir string) { os.Truncate(filepath.Join(dir, "server.crt"), 1<<40) }, "server.crt",
			"malformed: it is longer than 1 MiB"},
		{"a pipe", func(dir string) {
			if err := syscall.Mkfifo(filepath.Join(dir, "x.crt"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "x.crt", "malformed: not a regular file"},
		{"a directory", func(dir string) { os.Mkdir(filepath.Join(dir, "x.crt"), 0o700) }, "x.crt", "malformed: not a regular file"},
		{"dangling link", func(dir string) { os.Symlink("nowhere", filepath.Join(dir, "x.crt")) }, "x.crt", "no such file or directory"},
		{"another's key", func(dir string) { writeFile(t, filepath.Join(dir, "server.key"), leafKey) }, "server.crt",
			"server.key is another certificate's key"},
		{"torn key", func(dir string) { os.Truncate(filepath.Join(dir, "server.key"), 50) }, "server.crt",
			"server.key: malformed: 0 of its 1 PEM blocks can be read"},
		{"key without certificate", func(dir string) { os.Remove(filepath.Join(dir, "server.crt")) }, "server.key",
			"there is no certificate for this key"},
		{"another CA's", func(dir string) { writeFile(t, filepath.Join(dir, "x.crt"), leaf) }, "x.crt", "it is not signed by ca.crt"},
		{"leaf as CA", func(dir string) {
			writeFile(t, filepath.Join(dir, "ca.crt"), leaf)
			os.Remove(filepath.Join(dir, "ca.key"))
		}, "ca.crt", "not a CA certificate"},
		{"client's in place of the server's", func(dir string) {
			for _, ext := range []string{".crt", ".key"} {
				data, err := os.ReadFile(filepath.Join(dir, "client"+ext))
				if err != nil {
					t.Fatal(err)
				}
				writeFile(t, filepath.Join(dir, "server"+ext), data)
			}
		}, "server.crt", "it is not for server authentication"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := generatedDir(t, GenerateOptions{})
			tt.change(dir)
			facts, err := InspectDir(dir, now)
			if err != nil {
				t.Fatal(err)
			}
			got := fact(t, facts, filepath.Join(dir, tt.source)).Problem
			if got = strings.ReplaceAll(got, dir+"/", ""); got != tt.want {
				t.Errorf("problem is %q, want %q", got, tt.want)
			}
		})
	}
}

func TestReadFile(t *testing.T) {
	dir := generatedDir(t, GenerateOptions{})
	facts := Inspect(ReadFile(filepath.Join(dir, "server.crt")), time.Now())
	server := fact(t, facts, filepath.Join(dir, "server.crt"))
	if server.Key != KeyMatches || server.SignedBy == "" || server.Problem != "" {
		t.Errorf("%+v", server)
	}
	if files := ReadFile(filepath.Join(dir, "server.key")); files[0].Name != "server.crt" {
		t.Errorf("in place of a key: %s", files[0].Source)
	}
	for _, name := range []string{"ca.crt", "ca.key", "server.key"} {
		os.Remove(filepath.Join(dir, name))
	}
	facts = Inspect(ReadFile(filepath.Join(dir, "server.crt")), time.Now())
	if len(facts) != 1 || facts[0].Problem != "" || facts[0].Key != "" || facts[0].SignedBy != "" {
		t.Errorf("alone: %+v", facts)
	}
}

func TestInspectDirErrors(t *testing.T) {
	for name, dir := range map[string]string{"empty": t.TempDir(), "missing": filepath.Join(t.TempDir(), "none")} {
		_, err := InspectDir(dir, time.Now())
		fe, ok := errors.AsType[*FileError](err)
		if !ok || fe.Path != dir || errors.Is(err, fs.ErrNotExist) != (name == "missing") {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

// Whatever a file holds, it is told of, and each of its facts names it.
func FuzzInspect(f *testing.F) {
	dir := f.TempDir()
	if _, err := Generate(GenerateOptions{Dir: dir}); err != nil {
		f.Fatal(err)
	}
	var good [][]byte
	for _, name := range generated {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			f.Fatal(err)
		}
		good = append(good, data)
	}
	f.Add(good[0], good[2], good[3])
	f.Add(good[2], good[0], good[1])
	f.Add(append(good[0], good[2]...), []byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), good[5])
	f.Fuzz(func(t *testing.T, ca, cert, key []byte) {
		files := []File{{Name: "ca.crt", Source: "ca.crt", Data: ca}, {Name: "server.crt", Source: "server.crt", Data: cert},
			{Name: "server.key", Source: "server.key", Data: key}}
		told := map[string]bool{}
		for _, fact := range Inspect(files, time.Now()) {
			source, _, _ := strings.Cut(fact.Source, "#")
			told[source] = true
			if fact.NotAfter.IsZero() && fact.Problem == "" {
				t.Errorf("no certificate and no problem: %+v", fact)
			}
		}
		if len(told) != 2 {
			t.Errorf("told of %v", told)
		}
	})
}
