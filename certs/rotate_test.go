package certs

import (
	"bytes"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// generatedDir is a directory as "hodei certs generate" makes it.
func generatedDir(t *testing.T, opts GenerateOptions) string {
	t.Helper()
	if opts.Dir = t.TempDir(); len(opts.SANs) == 0 {
		opts.SANs = []string{testID.ServerName(), "192.0.2.7"}
	}
	if _, err := Generate(opts); err != nil {
		t.Fatal(err)
	}
	return opts.Dir
}

// inOrder wants a directory about which there is nothing to say.
func inOrder(t *testing.T, dir string) {
	t.Helper()
	facts, err := InspectDir(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range facts {
		if f.Problem != "" || f.SignedBy == "" || f.Key != KeyMatches && filepath.Ext(f.Source) == ".crt" {
			t.Errorf("%+v", f)
		}
	}
}

func TestRotate(t *testing.T) {
	dir := generatedDir(t, GenerateOptions{Validity: 48 * time.Hour})
	before := snapshot(t, dir)
	paths, err := Rotate(RotateOptions{Dir: dir})
	if err != nil || len(paths) != 4 {
		t.Fatalf("Rotate() = %q, %v", paths, err)
	}
	inOrder(t, dir)
	after := snapshot(t, dir)
	for name := range before {
		if kept := name == "ca.crt" || name == "ca.key" || name == markerFile; bytes.Equal(before[name], after[name]) != kept {
			t.Errorf("%s: replaced is %v, want %v", name, kept, !kept)
		}
	}
	old, renewed := parseCert(t, before["server.crt"]), parseCert(t, after["server.crt"])
	if !slices.Equal(serverNames(old), serverNames(renewed)) {
		t.Errorf("names are %q, were %q", serverNames(renewed), serverNames(old))
	}
	ca := parseCert(t, before["ca.crt"])
	if renewed.NotAfter.After(ca.NotAfter) || renewed.NotAfter.Before(ca.NotAfter.Add(-time.Minute)) {
		t.Errorf("ends at %v, want as long as before: about %v", renewed.NotAfter, ca.NotAfter)
	}
	if _, err := Rotate(RotateOptions{Dir: dir, Validity: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if end := parseCert(t, snapshot(t, dir)["client.crt"]).NotAfter; end.After(time.Now().Add(time.Hour)) {
		t.Errorf("ends at %v, want within the hour", end)
	}
}

// Who meets whom while a CA is replaced: a server that reads the directory's files,
// and workers that were made before, during and after.
func TestRotateCA(t *testing.T) {
	dir := generatedDir(t, GenerateOptions{})
	path := func(name string) string { return filepath.Join(dir, name) }
	server, err := ServerFiles{CA: path("ca.crt"), Cert: path("server.crt"), Key: path("server.key")}.ServerConfig()
	if err != nil {
		t.Fatal(err)
	}
	worker := func() Files {
		a, err := LoadAuthority(dir)
		if err != nil {
			t.Fatal(err)
		}
		return agentFiles(t, t.TempDir(), mustIssueJob(t, a, testID))
	}
	expect := func(step string, f Files, ok bool) {
		t.Helper()
		if r := handshake(t, server, mustClientConfig(t, f, testID.ServerName())); (r.client == nil && r.server == nil) != ok {
			t.Errorf("%s: server: %v, client: %v", step, r.server, r.client)
		}
	}
	before := worker()
	expect("before", before, true)

	paths, err := RotateCA(RotateOptions{Dir: dir})
	if err != nil || len(paths) != 6 {
		t.Fatalf("RotateCA() = %q, %v", paths, err)
	}
	inOrder(t, dir)
	during := worker()
	expect("overlap, worker of before", before, true)
	expect("overlap, worker of the new CA", during, true)
	outgoing, err := Outgoing(dir)
	if err != nil || len(outgoing) != 1 {
		t.Fatalf("Outgoing() = %d, %v", len(outgoing), err)
	}
	for name, f := range map[string]Files{"before": before, "during": during} {
		data, err := os.ReadFile(f.Cert)
		if err != nil {
			t.Fatal(err)
		}
		if old, err := IssuedBy(data, outgoing); err != nil || old != (name == "before") {
			t.Errorf("IssuedBy(%s) = %v, %v", name, old, err)
		}
	}
	for name, rotate := range map[string]func(RotateOptions) ([]string, error){"Rotate": Rotate, "RotateCA": RotateCA} {
		if _, err := rotate(RotateOptions{Dir: dir}); !errors.Is(err, ErrOverlap) {
			t.Errorf("%s in the overlap: %v, want ErrOverlap", name, err)
		}
	}

	if _, err := FinishCA(RotateOptions{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	inOrder(t, dir)
	expect("after, worker of before", before, false)
	expect("after, worker of the overlap", during, true)
	expect("after, new worker", worker(), true)
	if _, err := FinishCA(RotateOptions{Dir: dir}); !errors.Is(err, ErrNoOverlap) {
		t.Errorf("again: %v, want ErrNoOverlap", err)
	}
	if outgoing, err := Outgoing(dir); err != nil || len(outgoing) != 0 {
		t.Errorf("Outgoing() = %d, %v, want none", len(outgoing), err)
	}
}

// What the old CA's end has cut short does not stay so.
func TestRotateCANearItsEnd(t *testing.T) {
	day := 24 * time.Hour
	for _, tt := range []struct {
		name string
		made time.Duration // the server's certificate for
		want time.Duration
	}{
		{"cut short", 0, 3650 * day},
		{"short by choice", 10 * day, 10 * day},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			now := time.Now()
			a, err := newAuthority(caName, now.Add(-3630*day), now.Add(20*day))
			if err != nil {
				t.Fatal(err)
			}
			write := func(cert, key []byte, name string) {
				writeFile(t, filepath.Join(dir, name+".crt"), cert)
				writeFile(t, filepath.Join(dir, name+".key"), key)
			}
			key, err := encodeKey(a.key)
			if err != nil {
				t.Fatal(err)
			}
			write(a.CAPEM(), key, "ca")
			cert, key, err := a.IssueServer([]string{"x"}, tt.made)
			if err != nil {
				t.Fatal(err)
			}
			write(cert, key, "server")
			if cert, key, err = a.IssueClient("x", tt.made); err != nil {
				t.Fatal(err)
			}
			write(cert, key, "client")
			for _, rotate := range []func(RotateOptions) ([]string, error){RotateCA, FinishCA} {
				if _, err := rotate(RotateOptions{Dir: dir}); err != nil {
					t.Fatal(err)
				}
			}
			inOrder(t, dir)
			for _, name := range []string{"server.crt", "client.crt"} {
				if left := time.Until(parseCert(t, snapshot(t, dir)[name]).NotAfter); (left - tt.want).Abs() > time.Hour {
					t.Errorf("%s: %s left, want %s", name, left, tt.want)
				}
			}
		})
	}
}

func TestFinishCAClient(t *testing.T) {
	dir := generatedDir(t, GenerateOptions{})
	old := snapshot(t, dir)
	if _, err := RotateCA(RotateOptions{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"client.crt", "client.key"} {
		writeFile(t, filepath.Join(dir, name), old[name])
	}
	if paths, err := FinishCA(RotateOptions{Dir: dir}); err != nil || len(paths) != 5 {
		t.Fatalf("FinishCA() = %q, %v", paths, err)
	}
	inOrder(t, dir)
}

func TestRotateErrors(t *testing.T) {
	good := func() string { return generatedDir(t, GenerateOptions{}) }
	tests := []struct {
		name   string
		change func(dir string)
		want   error
	}{
		{"no CA key", func(dir string) { os.Remove(filepath.Join(dir, "ca.key")) }, fs.ErrNotExist},
		{"no server certificate", func(dir string) { os.Remove(filepath.Join(dir, "server.crt")) }, fs.ErrNotExist},
		{"torn client certificate", func(dir string) { writeFile(t, filepath.Join(dir, "client.crt"), []byte("-----BEGIN CERT")) },
			ErrMalformed},
		{"other CA key", func(dir string) {
			_, key, _ := mustAuthority(t).IssueServer([]string{"x"}, 0)
			writeFile(t, filepath.Join(dir, "ca.key"), key)
		}, ErrKeyMismatch},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := good()
			tt.change(dir)
			before := snapshot(t, dir)
			for name, rotate := range map[string]func(RotateOptions) ([]string, error){
				"Rotate": Rotate, "RotateCA": RotateCA, "FinishCA": FinishCA,
			} {
				if _, err := rotate(RotateOptions{Dir: dir}); !errors.Is(err, tt.want) {
					t.Errorf("%s: error is %v, want %v", name, err, tt.want)
				}
			}
			for name, data := range snapshot(t, dir) {
				if !bytes.Equal(before[name], data) {
					t.Errorf("%s was changed", name)
				}
			}
		})
	}
}

// Agents and coordinators of one job in every state in which they can meet, while
// its certificates are renewed.
func TestRenewJob(t *testing.T) {
	first, second := mustAuthority(t), mustAuthority(t)
	old := mustIssueJob(t, first, testID)
	meet := func(step string, coordinator, agent *JobCerts) {
		t.Helper()
		client := mustClientConfig(t, agentFiles(t, t.TempDir(), agent), testID.ServerName())
		if r := handshake(t, mustServerConfig(t, coordinator), client); r.client != nil || r.server != nil {
			t.Errorf("%s: server: %v, client: %v", step, r.server, r.client)
		}
	}
	t.Run("same CA", func(t *testing.T) {
		r, err := first.RenewJob(testID, old)
		if err != nil || r.Overlap != nil {
			t.Fatalf("%+v, %v", r, err)
		}
		if bytes.Equal(r.Final.ClientCert, old.ClientCert) || bytes.Equal(r.Final.ServerKey, old.ServerKey) {
			t.Error("not renewed")
		}
		meet("new coordinator, old agent", r.Final, old)
		meet("old coordinator, new agent", old, r.Final)
		meet("new, new", r.Final, r.Final)
	})
	t.Run("another CA", func(t *testing.T) {
		r, err := second.RenewJob(testID, old)
		if err != nil || r.Overlap == nil {
			t.Fatalf("%+v, %v", r, err)
		}
		meet("coordinator of the overlap, old agent", r.Overlap, old)
		meet("overlap, overlap", r.Overlap, r.Overlap)
		meet("final coordinator, agent of the overlap", r.Final, r.Overlap)
		meet("coordinator of the overlap, final agent", r.Overlap,
			&JobCerts{CA: r.Overlap.CA, ClientCert: r.Final.ClientCert, ClientKey: r.Final.ClientKey})
		meet("final, final", r.Final, r.Final)
		if bytes.Contains(r.Final.CA, first.CAPEM()) {
			t.Error("the old CA is trusted in the end")
		}
	})
	t.Run("interrupted, again", func(t *testing.T) {
		r, err := second.RenewJob(testID, old)
		if err != nil {
			t.Fatal(err)
		}
		halfway := r.Overlap // is in the Secret; whether the agent has it nobody knows
		if r, err = second.RenewJob(testID, halfway); err != nil || r.Overlap == nil {
			t.Fatalf("%+v, %v: the agents were not asked", r, err)
		}
		meet("coordinator, old agent", r.Overlap, old)
		meet("coordinator, agent of the first try", r.Overlap, halfway)
		meet("coordinator, agent of the second", r.Overlap, r.Overlap)
		meet("final coordinator, agent of the second", r.Final, r.Overlap)
		if r, err = second.RenewJob(testID, r.Final); err != nil || r.Overlap != nil {
			t.Errorf("once it is through: %+v, %v", r, err)
		}
	})
	t.Run("ended", func(t *testing.T) {
		ended := *old
		ended.ServerCert, ended.ServerKey = signed(t, first, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour),
			x509.ExtKeyUsageServerAuth)
		if r, err := second.RenewJob(testID, &ended); err != nil || r.Overlap != nil || r.Final == nil {
			t.Errorf("%+v, %v", r, err)
		}
	})
	t.Run("torn", func(t *testing.T) {
		for _, torn := range []*JobCerts{{CA: old.CA[:50], ServerCert: old.ServerCert}, {CA: old.CA, ServerCert: old.ServerCert[:50]}} {
			if _, err := second.RenewJob(testID, torn); !errors.Is(err, ErrMalformed) {
				t.Errorf("error is %v, want ErrMalformed", err)
			}
		}
	})
}

func TestJobServer(t *testing.T) {
	first, second := mustAuthority(t), mustAuthority(t)
	c1, c2 := mustIssueJob(t, first, testID), mustIssueJob(t, second, testID)
	s, err := NewJobServer(c1)
	if err != nil {
		t.Fatal(err)
	}
	config := s.Config()
	expect := func(step string, c *JobCerts, ok bool) {
		t.Helper()
		client := mustClientConfig(t, agentFiles(t, t.TempDir(), c), testID.ServerName())
		if r := handshake(t, config, client); (r.client == nil && r.server == nil) != ok {
			t.Errorf("%s: server: %v, client: %v", step, r.server, r.client)
		}
	}
	expect("first", c1, true)
	if err := s.Replace(&JobCerts{CA: c2.CA, ServerCert: c2.ServerCert, ServerKey: c1.ServerKey}); !errors.Is(err, ErrKeyMismatch) {
		t.Errorf("error is %v, want ErrKeyMismatch", err)
	}
	expect("after one that was refused", c1, true)
	if err := s.Replace(c2); err != nil {
		t.Fatal(err)
	}
	expect("second, old agent", c1, false)
	expect("second", c2, true)
	if !s.Certificate().Equal(parseCert(t, c2.ServerCert)) {
		t.Error("Certificate() is not the one shown")
	}
	if _, err := NewJobServer(&JobCerts{}); err == nil {
		t.Error("no certificates: no error")
	}
}

func TestGenerateWithCA(t *testing.T) {
	ca := generatedDir(t, GenerateOptions{})
	other := generatedDir(t, GenerateOptions{})
	opts := func(dir string) GenerateOptions {
		return GenerateOptions{Dir: dir, CACert: filepath.Join(ca, "ca.crt"), CAKey: filepath.Join(ca, "ca.key"), Force: true}
	}
	dir := t.TempDir()
	paths, err := Generate(opts(dir))
	if err != nil || len(paths) != 5 {
		t.Fatalf("Generate() = %q, %v", paths, err)
	}
	files := snapshot(t, dir)
	if _, ok := files["ca.key"]; ok || !bytes.Equal(files["ca.crt"], snapshot(t, ca)["ca.crt"]) {
		t.Error("want a copy of ca.crt, and none of ca.key")
	}
	facts, err := InspectDir(dir, time.Now())
	if err != nil || len(facts) != 3 {
		t.Fatalf("%+v, %v", facts, err)
	}
	for _, f := range facts {
		if f.Problem != "" {
			t.Errorf("%+v", f)
		}
	}
	if _, err := Generate(opts(ca)); err != nil { // new leaves beside the CA itself
		t.Error(err)
	}
	inOrder(t, ca)
	before := snapshot(t, other)
	if _, err := Generate(opts(other)); !errors.Is(err, ErrKeyMismatch) {
		t.Errorf("beside another CA's key: %v, want ErrKeyMismatch", err)
	}
	if !bytes.Equal(before["ca.crt"], snapshot(t, other)["ca.crt"]) {
		t.Error("ca.crt was replaced all the same")
	}
	missing := opts(t.TempDir())
	missing.CAKey = filepath.Join(ca, "nowhere.key")
	if _, err := Generate(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no key: %v, want ErrNotExist", err)
	}
}
