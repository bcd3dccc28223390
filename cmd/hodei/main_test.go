package main

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/hodei-jobs/hodei/pkg/cli"
	"github.com/hodei-jobs/hodei/test/target"
)

var update = flag.Bool("update", false, "write the scripts' golden parts anew")

func TestMain(m *testing.M) {
	main := func() { os.Exit(cli.Main(os.Args, os.Stdin, os.Stdout, os.Stderr)) }
	testscript.Main(m, map[string]func(){"hodei": main, "kubectl-hodei": main, "kubectl_complete-hodei": main})
}

// TestScripts runs testdata/script against the real main, each in a directory
// and a home of its own. Scripts that need a cluster begin with
//
//	[!cluster] skip
//
// and run with HODEI_K8S_TEST=1, against the current context's cluster.
//
// Scripts that start hodei-worker run on Linux alone, as it does.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob(filepath.Join("..", "..", "testdata", "script", "*.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if runtime.GOOS == "linux" {
		bin = buildWorker(t)
	} else {
		scripts = slices.DeleteFunc(scripts, func(path string) bool { return startsWorker(t, path) })
	}
	cluster := os.Getenv("HODEI_K8S_TEST") == "1"
	if cluster {
		diff := exec.Command("hodei", "install", "--diff")
		diff.Env = append(os.Environ(), "HOME="+t.TempDir(), "XDG_CONFIG_HOME=", "XDG_STATE_HOME=",
			"KUBECONFIG="+cmp.Or(os.Getenv("KUBECONFIG"), clientcmd.RecommendedHomeFile))
		if err := target.Check(os.Stdout, diff); err != nil {
			t.Fatal(err)
		}
	}
	testscript.Run(t, testscript.Params{
		Files:               scripts,
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, "home")
			env.Setenv("HOME", home)
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(home, ".config"))
			env.Setenv("XDG_STATE_HOME", filepath.Join(home, ".local", "state"))
			env.Setenv("PATH", bin+string(filepath.ListSeparator)+env.Getenv("PATH"))
			if cluster {
				env.Setenv("KUBECONFIG", cmp.Or(os.Getenv("KUBECONFIG"), clientcmd.RecommendedHomeFile))
			}
			return os.MkdirAll(home, 0o700)
		},
		Condition: func(name string) (bool, error) {
			if name == "cluster" {
				return cluster, nil
			}
			return false, errors.New("unknown condition " + name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "freeport": freePort, "request": request, "jobcert": jobCert, "onscreen": onScreen,
		},
	})
}

// startsWorker reports whether a script runs hodei-worker, or a job of the provider that does.
func startsWorker(t *testing.T, script string) bool {
	t.Helper()
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(text, []byte("hodei-worker")) || bytes.Contains(text, []byte("--provider local"))
}

// exits CODE COMMAND ARG... runs a command, as exec does, that ends with the
// exit code CODE.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s: exit code %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// buildWorker returns a directory with hodei-worker in it, which the provider
// "local" runs.
func buildWorker(t *testing.T) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("hodei-worker is for Linux")
	}
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", dir, "../hodei-worker")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}
