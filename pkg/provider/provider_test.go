package provider

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"
)

const guide = `current: k8s-local
providers:
  k8s-local:
    type: kubernetes
    context: kind-hodei
    kubeconfig: /home/me/.kube/config
    namespace: hodei-jobs-workers
    image: hodei-jobs-worker:latest
    image_pull_policy: IfNotPresent
    image_pull_secrets: [one, two]
    service_account: hodei-jobs-worker
    container_logs: false
  here:
    type: local
`

func TestParse(t *testing.T) {
	r, err := parse([]byte(guide))
	if err != nil {
		t.Fatal(err)
	}
	want := &Registry{Current: "k8s-local", Providers: map[string]Config{
		"k8s-local": {
			Type: Kubernetes, Context: "kind-hodei", Kubeconfig: "/home/me/.kube/config",
			Namespace: "hodei-jobs-workers", Image: "hodei-jobs-worker:latest", ImagePullPolicy: "IfNotPresent",
			ImagePullSecrets: []string{"one", "two"}, ServiceAccount: "hodei-jobs-worker", ContainerLogs: new(bool),
		},
		"here": {Type: Local},
	}}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("got %+v, want %+v", r, want)
	}
	for _, empty := range []string{"", "# nothing\n", "providers:\n", "providers: {}\n"} {
		if r, err := parse([]byte(empty)); err != nil || r.Current != "" || len(r.Providers) != 0 {
			t.Errorf("%q: got %+v, %v", empty, r, err)
		}
	}
}

// TestRoundTrip holds every key: the file is what is written of what was read of it.
func TestRoundTrip(t *testing.T) {
	want, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	name, c, err := ParseRequest(want)
	if err != nil || name != "" {
		t.Fatalf("%q, %v", name, err)
	}
	v := reflect.ValueOf(c)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("full.yaml leaves %s out", v.Type().Field(i).Name)
		}
	}
	// And its documentation has them all.
	docs, err := os.ReadFile("../../docs/providers.md")
	if err != nil {
		t.Fatal(err)
	}
	for i := range v.NumField() {
		key, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if !strings.Contains(string(docs), "\n| `"+key+"`") && !strings.Contains(string(docs), ", `"+key+"` |") {
			t.Errorf("docs/providers.md has no %s", key)
		}
	}
	sources := map[string]bool{}
	for _, volume := range c.Volumes {
		for v, i := reflect.ValueOf(volume), 0; i < v.NumField(); i++ {
			sources[v.Type().Field(i).Name] = sources[v.Type().Field(i).Name] || !v.Field(i).IsZero()
		}
	}
	for name, used := range sources {
		if !used {
			t.Errorf("full.yaml has no volume with %s", name)
		}
	}
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := Update(t.Context(), path, func(r *Registry) error { return r.Add("full", c) }); err != nil {
		t.Fatal(err)
	}
	r, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := yaml.Marshal(r.Providers["full"]); err != nil || string(got) != string(want) {
		t.Errorf("%v, got\n%s\nwant\n%s", err, got, want)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"not yaml", "current: [", "yaml"},
		{"a list", "- a\n", "want keys and values"},
		{"unknown top", "curent: x\n", "curent: unknown key; allowed are current, providers"},
		{"type of top", "current: 5\n", "current: 5: want a text"},
		{"providers a text", "providers: x\n", `providers: "x": want keys and values`},
		{"provider a text", "providers: {a: x}\n", `providers.a: "x": want keys and values`},
		{"provider empty", "providers: {a: }\n", `providers.a.type: "": want "kubernetes" or "local"`},
		{"unknown key", "providers: {a: {type: kubernetes, imagePullPolicy: Always}}\n",
			"providers.a.imagePullPolicy: unknown key; allowed are affinity, allow_host_path, annotations, container_logs, context, "},
		{"case", "providers: {a: {Type: kubernetes}}\n", "providers.a.Type: unknown key"},
		{"wrong type", "providers: {a: {type: kubernetes, image_pull_secrets: one}}\n",
			`providers.a.image_pull_secrets: "one": want a list of texts`},
		{"number", "providers: {a: {type: kubernetes, namespace: 7}}\n", "providers.a.namespace: 7: want a text"},
		{"unknown type", "providers: {a: {type: docker}}\n", `providers.a.type: "docker": want "kubernetes" or "local"`},
		{"pull policy", "providers: {a: {type: kubernetes, image_pull_policy: Sometimes}}\n",
			`providers.a.image_pull_policy: "Sometimes": want "Always", "IfNotPresent" or "Never"`},
		{"namespace", "providers: {a: {type: kubernetes, namespace: A/b}}\n", `providers.a.namespace: "A/b": want`},
		{"image", "providers: {a: {type: kubernetes, image: 'a b'}}\n", `providers.a.image: "a b": want`},
		{"service account", "providers: {a: {type: kubernetes, service_account: A}}\n", `providers.a.service_account: "A": want`},
		{"pull secret", "providers: {a: {type: kubernetes, image_pull_secrets: [A]}}\n", `providers.a.image_pull_secrets: "A": want`},
		{"container logs", "providers: {a: {type: kubernetes, container_logs: 'yes'}}\n",
			`providers.a.container_logs: "yes": want true or false`},
		{"local with container logs", "providers: {a: {type: local, container_logs: false}}\n", "providers.a.type: "},
		{"local with more", "providers: {a: {type: local, namespace: b}}\n", "providers.a.type: "},
		{"twice", "providers: {a: {type: local}, a: {type: local}}\n", `"a"`},
		{"local itself", "providers: {local: {type: kubernetes}}\n", "providers.local: "},
		{"bad name", "providers: {A_b: {type: local}}\n", `provider "A_b": want a name`},
		{"current unknown", "current: x\n", `current: provider "x" not found`},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := parse([]byte(test.in))
			if err == nil {
				t.Fatalf("got %+v, want an error", r)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q, want %q in it", err, test.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	full, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		f.Fatal(err)
	}
	whole := "providers:\n  full:\n    " + strings.ReplaceAll(strings.TrimSpace(string(full)), "\n", "\n    ")
	if r, err := parse([]byte(whole)); err != nil || r.Providers["full"].Volumes == nil {
		f.Fatal(err)
	}
	for _, seed := range []string{guide, whole, "", "current: local\n", "providers: {a: {type: local}}", "a: &a [*a]",
		"providers: {a: {type: kubernetes, image_pull_secrets: [null]}}",
		"providers: {a: {type: kubernetes, cpu: 1e3, memory: 0.5Gi, ttl: 90m, user: 7, ebpf: off, affinity: {}}}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parse(data)
		if err != nil {
			return
		}
		written, err := yaml.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parse(written)
		if err != nil {
			t.Fatalf("what was read can't be read again: %v\n%s", err, written)
		}
		if reread, _ := yaml.Marshal(again); string(reread) != string(written) {
			t.Errorf("got\n%s\nwant\n%s", reread, written)
		}
	})
}

func TestRegistry(t *testing.T) {
	r := &Registry{}
	kube := Config{Type: Kubernetes, Namespace: "a"}
	steps := []struct {
		name string
		do   func() error
		want error
	}{
		{"local is there", func() error { _, err := r.Get("local"); return err }, nil},
		{"local is taken", func() error { return r.Add("local", kube) }, ErrTaken},
		{"get unknown", func() error { _, err := r.Get("one"); return err }, ErrNotFound},
		{"use unknown", func() error { return r.Use("one") }, ErrNotFound},
		{"remove unknown", func() error { return r.Remove("one") }, ErrNotFound},
		{"add", func() error { return r.Add("one", kube) }, nil},
		{"add again", func() error { return r.Add("one", kube) }, ErrTaken},
		{"add another", func() error { return r.Add("two", kube) }, nil},
		{"set unknown", func() error { return r.Set("three", kube) }, ErrNotFound},
		{"set", func() error { return r.Set("two", Config{Type: Kubernetes, Namespace: "b"}) }, nil},
	}
	for _, step := range steps {
		if err := step.do(); !errors.Is(err, step.want) {
			t.Fatalf("%s: got %v, want %v", step.name, err, step.want)
		}
	}
	if got, want := fmt.Sprint(r.Names()), "[local one two]"; got != want {
		t.Errorf("names: got %s, want %s", got, want)
	}
	if c, err := r.Get("two"); err != nil || c.Namespace != "b" {
		t.Errorf("got %+v, %v", c, err)
	}
	if err := r.Set("local", kube); err == nil {
		t.Error("local was changed")
	}
	if err := r.Set("two", Config{}); err == nil {
		t.Error("a provider has lost its type")
	}
	if r.Current != "one" {
		t.Errorf("the first one is not in use: %q", r.Current)
	}
	if err := r.Remove("one"); err != nil || r.Current != "" {
		t.Errorf("got %v, %q in use", err, r.Current)
	}
	if err := r.Use("local"); err != nil || r.Current != "local" {
		t.Errorf("got %v, %q in use", err, r.Current)
	}
	if err := r.Remove("local"); err == nil {
		t.Error("local was removed")
	}
	if err := r.Add("Bad_Name", kube); err == nil {
		t.Error("a bad name was taken")
	}
	if err := r.Add("three", Config{}); err == nil {
		t.Error("a provider without type was taken")
	}
}

func TestSave(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config", "hodei", "config.yaml")
	r := &Registry{}
	if err := r.Add("one", Config{Type: Kubernetes, Namespace: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := r.save(path); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: got %v, %v", name, info.Mode(), err)
		}
	}
	again, err := Load(path)
	if err != nil || !reflect.DeepEqual(again, r) {
		t.Errorf("got %+v, %v, want %+v", again, err, r)
	}

	// A link is followed, not replaced.
	link := filepath.Join(dir, "link.yaml")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := Update(t.Context(), link, func(r *Registry) error { return r.Use("local") }); err != nil {
		t.Fatal(err)
	}
	if r, err := Load(path); err != nil || r.Current != "local" {
		t.Errorf("got %+v, %v", r, err)
	}

	// What fails changes nothing, and nothing is left beside the file and its lock.
	before, _ := os.ReadFile(path)
	if err := Update(t.Context(), path, func(r *Registry) error { r.Current = ""; return ErrTaken }); !errors.Is(err, ErrTaken) {
		t.Error(err)
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) > 2 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestUpdateConcurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			name := fmt.Sprintf("p%d", i)
			// flock is held by the open file, so goroutines exclude each other as processes do.
			if err := Update(t.Context(), path, func(r *Registry) error { return r.Add(name, Config{Type: Local}) }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	r, err := Load(path)
	if err != nil || len(r.Providers) != 20 {
		t.Errorf("got %d of 20, %v", len(r.Providers), err)
	}
}

// TestUpdateBusy: who holds the file for ever does not hold up the others for ever.
func TestUpdateBusy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	lock, err := os.Create(path + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	change := func(*Registry) error { t.Error("changed under another's hands"); return nil }
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err := Update(t.Context(), path, change)
		busy, ok := errors.AsType[*BusyError](err)
		if !ok || busy.Path != path || busy.Lock != lock.Name() || time.Since(began) != lockWait {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if err := Update(ctx, path, change); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	})
	lock.Close()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Update(gone, path, change); !errors.Is(err, context.Canceled) {
		t.Errorf("with the lock free, for nobody: %v", err)
	}
	if err := Update(t.Context(), path, func(*Registry) error { return nil }); err != nil {
		t.Error(err)
	}
}

func TestPath(t *testing.T) {
	for _, test := range []struct {
		name string
		env  map[string]string
		want string
	}{
		{"home", map[string]string{"HOME": "/home/me"}, "/home/me/.config/hodei/config.yaml"},
		{"xdg", map[string]string{"HOME": "/home/me", "XDG_CONFIG_HOME": "/etc/me"}, "/etc/me/hodei/config.yaml"},
		{"relative xdg", map[string]string{"HOME": "/home/me", "XDG_CONFIG_HOME": "me"}, "/home/me/.config/hodei/config.yaml"},
		{"nothing", nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := Path(func(name string) string { return test.env[name] })
			if got != test.want || (err == nil) != (test.want != "") {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}
