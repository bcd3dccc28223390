package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/hodei-jobs/hodei/"

// anywhere are packages that every other may import: what hodei-worker and those who start it agree on,
// and words as a shell takes them. The first rules keep everything else out of them.
var anywhere = []string{"pkg/contract", "pkg/shell"}

// beyondStandard is all that is not the standard library's.
var beyondStandard = []string{"github.com", "golang.org", "google.golang.org", "k8s.io", "sigs.k8s.io", "go.yaml.in"}

// forbidden says what a package and all that it imports must keep out of the
// binary. Paths are prefixes, by whole elements; those without a dot in the
// first element are ours.
var forbidden = []struct {
	root    string
	imports []string
	why     string
}{
	{"pkg/contract", beyondStandard, "it has constants alone, so that everybody can import it"},
	{"pkg/shell", beyondStandard, "it writes words as a shell takes them, so that everybody can import it"},
	{"agent", []string{"k8s.io", "sigs.k8s.io"}, "it knows no Kubernetes: the wire is the whole contract"},
	{"agent", []string{"github.com/spf13"}, "the worker is configured by variables; a command line library is dead weight in every Pod"},
	{"agent", []string{"certs"}, "it takes a *tls.Config, so that who issues certificates is not its affair"},
	{"agent", []string{"pkg/cli", "pkg/coordinator", "pkg/provider", "pkg/job", "pkg/ui"}, "the wire is the whole contract"},
	{"agent/spool", []string{"agent", "certs", "pkg/contract"}, "it keeps output, whoever prints it and whoever reads it"},
	{"agent/handover", []string{"agent", "certs", "pkg", "google.golang.org"},
		"it is what two processes say to each other; each imports it, and it neither"},
	{"agent/launcher", []string{"agent/spool", "agent/meter", "agent/guard", "certs", "pkg/hodeipb", "google.golang.org"},
		"it is process 1 of the job's container: it speaks to the agent alone, and the job pays for its memory"},
	{"agent/guard", []string{"agent/spool", "agent/meter", "agent/launcher", "certs", "pkg", "google.golang.org"},
		"it knows whose a connection is; who is a coordinator is proved above"},
	{"agent/meter", []string{"agent/spool", "agent/guard", "agent/launcher", "certs"},
		"it measures; whom the agent tells of it is not its affair"},
	{"agent/proc", []string{"agent", "certs", "pkg", "google.golang.org"}, "it reads /proc, whatever the figures are for"},
	{"agent/ellipsis", beyondStandard, "it shortens text, whatever that says"},
	{"cmd/hodei-worker", []string{"k8s.io", "sigs.k8s.io", "github.com/spf13"}, "it is copied into every Pod: small, and quick to start"},
	{"pkg/coordinator", []string{"certs"}, "it takes a *tls.Config, so that who issues certificates is not its affair"},
	{"pkg/coordinator", []string{"k8s.io/client-go", "k8s.io/cli-runtime", "k8s.io/kubectl"}, "it serves agents of any provider"},
	{"pkg/coordinator", []string{"agent", "pkg/provider"}, "the wire is the whole contract"},
	{"pkg/coordinator/logstore", []string{"agent", "certs", "pkg/cli", "pkg/coordinator", "pkg/job", "pkg/provider", "pkg/ui", "k8s.io",
		"sigs.k8s.io"},
		"it keeps batches, whoever sent them"},
	{"certs", []string{"agent", "internal", "pkg", "k8s.io", "google.golang.org"}, "it is about certificates, whoever uses them"},
	{"pkg/hodeipb", []string{"agent", "certs", "pkg", "k8s.io"}, "the protocol stands on nothing of ours"},
	{"pkg/job", []string{"agent", "certs", "pkg", "k8s.io/client-go", "google.golang.org/grpc"}, "the vocabulary does no I/O"},
	{"internal/atomicfile", []string{"agent", "certs", "pkg", "k8s.io", "google.golang.org"}, "it writes bytes, whatever they mean"},
	{"internal/cork", beyondStandard, "it joins writes, whatever they are"},
	{"internal/httpserve", []string{"agent", "certs", "pkg/cli", "pkg/command", "pkg/coordinator", "pkg/exporter", "pkg/provider",
		"pkg/server", "k8s.io/client-go", "google.golang.org"},
		"it serves handlers, whatever they answer"},
	{"internal/xdg", []string{"agent", "certs", "pkg", "k8s.io", "google.golang.org"},
		"it makes names of directories, whatever is in them"},
	{"pkg/usage", []string{"agent", "certs", "pkg/cli", "pkg/coordinator", "pkg/provider", "pkg/report", "pkg/advice", "pkg/ui",
		"k8s.io/client-go", "google.golang.org"},
		"it is words and rules about figures, for whoever shows them or judges by them"},
	{"pkg/advice", []string{"agent", "certs", "pkg/cli", "pkg/coordinator", "pkg/provider", "pkg/ui", "k8s.io/client-go",
		"google.golang.org"},
		"it knows runs, wherever they are from"},
	{"pkg/report", []string{"agent", "certs", "pkg/cli", "pkg/coordinator", "pkg/provider", "k8s.io/client-go", "google.golang.org"},
		"it draws what it is given"},
	{"pkg/server", []string{"agent", "certs", "pkg/cli", "pkg/coordinator", "google.golang.org"},
		"it is HTTP about providers; who meets agents stands beside it"},
	{"pkg/server", []string{"k8s.io/client-go", "k8s.io/cli-runtime", "k8s.io/kubectl"}, "it asks no cluster"},
	{"pkg/follow", []string{"agent", "certs", "pkg/cli", "pkg/provider", "pkg/server", "pkg/ui", "k8s.io/client-go", "k8s.io/cli-runtime",
		"github.com/spf13"},
		"it meets the agents of a job of any provider, and tells values: who shows them, and how, is not its affair"},
	{"pkg/history", []string{"agent", "pkg/cli", "pkg/command", "pkg/joblog", "pkg/session", "pkg/output", "pkg/server", "pkg/ui"},
		"it tells what is known of jobs: who shows it, and how, is not its affair"},
	{"pkg/selection", []string{"agent", "pkg/cli", "pkg/command", "pkg/coordinator", "pkg/history", "pkg/follow", "pkg/output",
		"pkg/server", "pkg/ui", "github.com/spf13/cobra"},
		"it finds jobs in a cluster; what is typed, and what is done to them, is above it"},
	{"pkg/joblog", []string{"agent", "pkg/cli", "pkg/command", "pkg/session", "pkg/server"},
		"it shows output to the sinks that it is given: flags end above it, and sessions stand on it"},
	{"pkg/command", []string{"agent", "pkg/cli", "pkg/server"}, "it is what every command shares, whichever there are"},
	{"pkg/session", []string{"agent", "pkg/cli", "pkg/command", "pkg/check", "pkg/setup", "pkg/server", "github.com/spf13/cobra",
		"k8s.io/cli-runtime", "k8s.io/kubectl"},
		"it follows a job that somebody else has made or found: flags, and how a command ends, are above it"},
	{"pkg/submission", []string{"agent", "pkg/cli", "pkg/command", "pkg/check", "pkg/setup", "pkg/server", "github.com/spf13/cobra",
		"k8s.io/cli-runtime", "k8s.io/kubectl"},
		"it makes the job that it is given: what was typed, and how an object is printed, ends above it"},
	{"pkg/setup", []string{"agent", "pkg/cli", "pkg/server", "pkg/ui"},
		"it returns values and errors; who shows them, and how, is not its affair"},
	{"pkg/place", []string{"agent", "pkg/cli", "pkg/command", "pkg/server", "pkg/ui"},
		"it gets from settings to what a command works with; who shows it, and how, is not its affair"},
	{"pkg/check", []string{"agent", "pkg/cli", "pkg/command", "pkg/server"},
		"it looks, and tells results; who shows them, and how, is not its affair"},
	{"pkg/remedy", []string{"agent", "pkg/cli", "pkg/command", "pkg/session", "pkg/history", "pkg/joblog", "pkg/coordinator", "pkg/output",
		"pkg/place", "pkg/server", "github.com/spf13/cobra", "k8s.io/cli-runtime"},
		"it makes hints of how a job has ended, wherever that is known from"},
	{"pkg/signals", []string{"agent", "certs", "pkg/cli", "pkg/coordinator", "pkg/provider", "pkg/ui"},
		"it hears signals, whatever is done about them"},
	{"pkg/document", []string{"agent", "certs", "pkg", "k8s.io/client-go", "k8s.io/cli-runtime", "github.com/spf13", "google.golang.org"},
		"it prints data, whatever it is about"},
	{"pkg/output", []string{"agent", "certs", "pkg/cli", "pkg/provider", "pkg/setup", "pkg/server", "k8s.io/client-go",
		"k8s.io/cli-runtime", "github.com/spf13"},
		"it writes what it is given: flags end, and the cluster is asked, where it is used"},
	{"pkg/exporter", []string{"agent", "certs", "pkg/cli", "pkg/coordinator", "pkg/provider", "k8s.io/client-go"},
		"it shows figures, whoever took them"},
	{"pkg/provider/tunnel", beyondStandard, "it passes connections on, whoever dials and whoever serves them"},
	{"pkg/provider/local", []string{"pkg/coordinator"}, "it starts agents; who meets them stands above"},
	{"pkg/provider/kubernetes", []string{"pkg/coordinator"}, "it dials agents and hands over connections; who meets them stands above"},
	{"pkg/provider/kubernetes/manifest", []string{"pkg/provider/kubernetes", "k8s.io/client-go", "google.golang.org"},
		"it writes objects and reads them, with the same result wherever they come from; who asks the cluster for them stands above"},
	{"pkg/provider/kubernetes/explain", []string{"pkg/provider/local", "pkg/provider/tunnel", "k8s.io/client-go/kubernetes",
		"k8s.io/client-go/informers", "google.golang.org/grpc"},
		"it reads what the cluster has said; who asks the cluster stands above"},
	{"pkg/provider/kubernetes/forward", []string{"pkg/coordinator", "pkg/wire", "google.golang.org/grpc"},
		"it opens connections, whatever they carry"},
	{"pkg/wire", []string{"agent", "certs", "pkg/cli", "pkg/coordinator", "pkg/provider", "pkg/ui", "k8s.io/client-go"},
		"it judges messages, whoever received them"},
	{"pkg/provider/local", []string{"agent"}, "it runs hodei-worker as the kubelet would, as a program"},
	{"pkg/provider/kubernetes", []string{"agent"}, "the wire is the whole contract"},
}

// onlyIn says which packages may import a third-party package or one of ours
// themselves; "x/..." is x and all below it. Tests may import what they like.
var onlyIn = []struct {
	imports string
	in      []string
	why     string
}{
	{"pkg/cli", []string{"cmd/hodei", "pkg/cli"}, "what a command needs lives below it, where the server can use it too"},
	{"pkg/command", []string{"pkg/cli/...", "pkg/command/..."}, "it is flags and hints: what does its work without them stands below it"},
	{"pkg/coordinator/logstore", []string{"pkg/coordinator", "pkg/cli/...", "pkg/history", "pkg/history/historytest", "pkg/joblog",
		"pkg/place", "pkg/session", "pkg/output", "pkg/output/outputtest"},
		"a coordinator writes it, commands about logs look into it, and output is shown from it"},
	{"pkg/server", []string{"pkg/cli/..."}, "a command serves it"},
	{"pkg/session", []string{"pkg/cli/...", "pkg/command/runflags", "pkg/submission"},
		"commands follow jobs; what is below one does not end as it does"},
	{"pkg/submission", []string{"pkg/cli/...", "pkg/command/runflags"}, "commands make jobs to follow them"},
	{"agent", []string{"cmd/hodei-worker", "agent/..."}, "it is one end of the wire; the other side knows the wire"},
	{"agent/agenttest", nil, "it is for tests"},
	{"pkg/ui/uitest", []string{"test/bench"}, "it is for tests, and for what measures"},
	{"pkg/follow/followtest", nil, "it is for tests"},
	{"pkg/setup/setuptest", nil, "it is for tests"},
	{"pkg/usage/usagetest", nil, "it is for tests"},
	{"pkg/history/historytest", nil, "it is for tests"},
	{"pkg/provider/kubernetes/kubernetestest", nil, "it is for tests"},
	{"pkg/output/outputtest", nil, "it is for tests"},
	{"github.com/prometheus", []string{"pkg/exporter"}, "jobs are shown to Prometheus in one place"},
	{"golang.org/x/net/netutil", []string{"internal/httpserve"}, "connections are bounded in one place"},
	{"github.com/gofrs/flock", []string{"pkg/coordinator/logstore", "pkg/provider", "pkg/provider/local"},
		"files are locked beside the code that knows what the lock protects"},
	{"github.com/spf13", []string{"pkg/cli/...", "pkg/command/..."}, "flags end where options begin"},
	{"charm.land", []string{"pkg/ui", "pkg/ui/uitest"}, "what the terminal can do is decided once"},
	{"github.com/briandowns/spinner", []string{"pkg/ui"}, "what the terminal can do is decided once"},
	{"golang.org/x/term", []string{"pkg/ui", "pkg/terminal"},
		"what the terminal can do is decided once, and one package takes it for a command"},
	{"k8s.io/client-go", []string{"pkg/cli/...", "pkg/command", "pkg/check", "pkg/place", "pkg/setup", "pkg/provider/kubernetes",
		"pkg/provider/kubernetes/explain", "pkg/provider/kubernetes/kubernetestest", "pkg/provider/kubernetes/forward", "test/target"},
		"the cluster is reached where jobs are made and where hodei is installed, and by commands and tests about the cluster; explain " +
			"knows its errors about a kubeconfig"},
	{"k8s.io/cli-runtime", []string{"pkg/cli/...", "pkg/command/...", "pkg/provider/kubernetes"}, "it is about flags and printing"},
	{"k8s.io/kubectl", []string{"pkg/cli/...", "pkg/command/...", "pkg/provider/kubernetes"}, "it is about flags and printing"},
	{"go.yaml.in/yaml", []string{"deploy"},
		"it keeps comments, which are the reasons of the manifests' rules; all else is read as Kubernetes reads it"},
	{"google.golang.org/grpc", []string{"agent", "agent/spool", "pkg/coordinator", "pkg/coordinator/logstore", "pkg/hodeipb",
		"pkg/output/outputtest", "pkg/follow/followtest", "test/bench"},
		"the wire has two ends, and what keeps output gives and takes the buffers as they come"},
}

// TestImports holds the import graph of docs/architecture.md.
func TestImports(t *testing.T) {
	packages := listPackages(t)
	for _, rule := range forbidden {
		root := qualify(rule.root)
		if packages[root] == nil {
			t.Errorf("no package %s: the rule about it holds nothing", root)
			continue
		}
		var shortest []string // one chain tells all
		for _, dep := range packages[root].Deps {
			if dep == root || slices.Contains(anywhere, strings.TrimPrefix(dep, module)) || !underAny(dep, rule.imports) {
				continue
			}
			if c := chain(packages, root, dep); shortest == nil || len(c) < len(shortest) {
				shortest = c
			}
		}
		if shortest != nil {
			t.Errorf("%s: %s", strings.Join(shortest, " imports "), rule.why)
		}
	}
	for _, rule := range onlyIn {
		for path, p := range packages {
			name, ours := strings.CutPrefix(path, module)
			if !ours || slices.ContainsFunc(rule.in, func(in string) bool { return within(name, in) }) {
				continue
			}
			for _, imported := range p.Imports {
				if under(imported, qualify(rule.imports)) {
					t.Errorf("%s imports %s, which is for %s alone: %s", name, imported, strings.Join(rule.in, " and "), rule.why)
				}
			}
		}
	}
}

// listed is a package as go list prints it.
type listed struct {
	ImportPath    string
	Imports, Deps []string
}

// listPackages reads the graph of the whole module as it is built for Linux,
// tests left out.
func listPackages(t *testing.T) map[string]*listed {
	t.Helper()
	list := exec.Command("go", "list", "-deps", "-json=ImportPath,Imports,Deps", "./...")
	list.Dir = "../.."
	list.Env = append(list.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	var stderr strings.Builder
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	packages := map[string]*listed{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		p := &listed{}
		if err := d.Decode(p); err == io.EOF {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages[p.ImportPath] = p
	}
}

// chain is the shortest way from one package to another.
func chain(packages map[string]*listed, from, to string) []string {
	via := map[string]string{from: ""}
	for next := []string{from}; len(next) > 0; next = next[1:] {
		if next[0] == to {
			break
		}
		for _, imported := range packages[next[0]].Imports {
			if _, seen := via[imported]; !seen && packages[imported] != nil {
				via[imported] = next[0]
				next = append(next, imported)
			}
		}
	}
	var path []string
	for p := to; p != ""; p = via[p] {
		path = append(path, strings.TrimPrefix(p, module))
	}
	slices.Reverse(path)
	return path
}

// qualify makes an import path of a name of ours.
func qualify(name string) string {
	if first, _, _ := strings.Cut(name, "/"); strings.Contains(first, ".") {
		return name
	}
	return module + name
}

// TestCommandsApart: a command that imported another would tie the two together.
func TestCommandsApart(t *testing.T) {
	packages := listPackages(t)
	command := func(path string) string {
		rest, ok := strings.CutPrefix(path, qualify("pkg/cli")+"/")
		if !ok {
			return ""
		}
		name, _, _ := strings.Cut(rest, "/")
		return name
	}
	found := 0
	for path, p := range packages {
		of := command(path)
		if of == "" {
			continue
		}
		found++
		for _, imported := range p.Imports {
			if other := command(imported); other != "" && other != of {
				t.Errorf("%s imports the command %s: what two commands share lies in pkg/command or below it", path, other)
			}
		}
	}
	if found == 0 {
		t.Error("there are no commands below pkg/cli: the rule holds nothing")
	}
}

// hearSignals are the packages that may ask the system for signals: what hodei, or its worker, does at one is
// decided in one place each. pkg/ui hears only that the terminal's size has changed.
var hearSignals = []string{"pkg/signals", "pkg/ui", "cmd/hodei-worker"}

// TestSignals: a package that listened for signals by itself would take them from the command that runs.
func TestSignals(t *testing.T) {
	for path, p := range listPackages(t) {
		name, ours := strings.CutPrefix(path, module)
		if ours && slices.Contains(p.Imports, "os/signal") && !slices.Contains(hearSignals, name) {
			t.Errorf("%s imports os/signal, which is for %s alone", name, strings.Join(hearSignals, " and "))
		}
	}
}

// within tells that a package is the one that is named, or with "x/..." one of x and all below it.
func within(name, in string) bool {
	tree, all := strings.CutSuffix(in, "/...")
	return name == in || all && under(name, tree)
}

func under(path, prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }

func underAny(path string, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return under(path, qualify(name)) })
}
