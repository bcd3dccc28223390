// Command bench measures what docs/benchmarks.md tells: how fast output passes,
// how long a command that does nothing takes from the prompt to the prompt, by
// hodei run and by kubectl run, and what the worker weighs. It runs bin/hodei against the cluster of the
// kubeconfig's current context, where "hodei install" was run; start it with
// "make bench".
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	runs       = flag.Int("runs", 15, "how often each command is timed")
	image      = flag.String("image", "hodei-jobs-worker:latest", "image of the worker, and of kubectl's Pod; present on the nodes")
	shellImage = flag.String("shell-image", "registry.local/busybox:1",
		"image with sh, awk, cat, nc, touch and stat, for the Pods that print; present on the nodes")
	only = flag.String("only", "",
		"measure only these, with commas between: loopback, messages, writer, stalled, size, start, memory, idle, tunnel, latency, "+
			"input, keys, cancel, exec")
	bin = flag.String("bin", "bin", "directory of hodei and hodei-worker")
)

func main() {
	flag.Parse()
	if err := role(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// role is what this process is: the benchmark, or one of the programs that it
// measures.
func role(args []string) error {
	switch {
	case len(args) >= 2 && args[0] == "print":
		var n [2]int64 // bytes, lines a second
		for i, arg := range args[1:] {
			var err error
			if n[i], err = strconv.ParseInt(arg, 10, 64); err != nil {
				return err
			}
		}
		return printLines(os.Stdout, n[0], n[1])
	case len(args) == 2 && args[0] == "write":
		return writeLines(writerLines, args[1])
	case len(args) == 5 && args[0] == "copy-tls":
		return childCopyTLS(args[1], args[2], args[3], args[4])
	case len(args) > 0:
		return fmt.Errorf("unknown argument %q", args[0])
	}
	return bench()
}

// measurements in their order. Those before "size" need no cluster.
var measurements = []struct {
	name    string
	measure func() error
}{
	{"loopback", loopback},
	{"messages", messages},
	{"writer", writer},
	{"stalled", stalled},
	{"size", size},
	{"start", start},
	{"memory", func() error { return errors.Join(memory("cluster", "bench"), memory("local", "local")) }},
	{"idle", idle},
	{"tunnel", tunnel},
	{"latency", latency},
	{"input", input},
	{"keys", keys},
	{"cancel", cancels},
	{"exec", execs},
}

func bench() error {
	config, err := os.MkdirTemp("", "hodei-bench-") // the user's own providers and logs are left alone
	if err != nil {
		return err
	}
	defer os.RemoveAll(config)
	for _, name := range []string{"XDG_CONFIG_HOME", "XDG_STATE_HOME"} {
		if err := os.Setenv(name, config); err != nil {
			return err
		}
	}
	if err := run("hodei", "provider", "add", "bench", "--image", *image, "--image-pull-policy", "IfNotPresent"); err != nil {
		return err
	}
	var errs []error
	for _, m := range measurements {
		if *only == "" || slices.Contains(strings.Split(*only, ","), m.name) {
			errs = append(errs, m.measure())
		}
	}
	return errors.Join(errs...)
}

// start times the two commands in turn, after random pauses: the kubelet looks
// at its Pods once a second, and a fixed rhythm would always meet it at the same
// moment of that second.
func start() error {
	var hodei, kubectl []time.Duration
	for i := -1; i < *runs; i++ { // the first of each warms the caches and is not counted
		h, err := timed("hodei", "run", "--quiet", "--", "true")
		if err != nil {
			return err
		}
		k, err := timed("kubectl", "run", "--rm", "-i", "--quiet", "--restart=Never", "--namespace=default",
			"--image="+*image, "--image-pull-policy=IfNotPresent", fmt.Sprintf("bench-%d-%d", os.Getpid(), i+1), "--command", "--", "true")
		if err != nil {
			return err
		}
		if i >= 0 {
			hodei, kubectl = append(hodei, h), append(kubectl, k)
		}
	}
	fmt.Printf("%d runs of each, in turn   median     min     max\n", *runs)
	show("hodei run -- true", hodei)
	show("kubectl run -- true", kubectl)
	fmt.Printf("ratio of the medians     %6.2f     (aim: 0.5 or less)\n", median(hodei).Seconds()/median(kubectl).Seconds())
	return nil
}

func show(what string, d []time.Duration) {
	fmt.Printf("%-22s %7.2fs %6.2fs %6.2fs\n", what, median(d).Seconds(), slices.Min(d).Seconds(), slices.Max(d).Seconds())
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return (d[(len(d)-1)/2] + d[len(d)/2]) / 2
}

// timed runs a command after a pause of up to a second.
func timed(name string, args ...string) (time.Duration, error) {
	time.Sleep(rand.N(time.Second))
	start := time.Now()
	err := run(name, args...)
	return time.Since(start), err
}

func run(name string, args ...string) error {
	if out, err := command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

func command(name string, args ...string) *exec.Cmd {
	if name == "hodei" {
		name = filepath.Join(*bin, name)
	}
	return exec.Command(name, args...)
}

func size() error {
	info, err := os.Stat(filepath.Join(*bin, "hodei-worker"))
	if err != nil {
		return err
	}
	fmt.Printf("hodei-worker             %6.1f MiB (aim: under 16)\n", float64(info.Size())/(1<<20))
	return nil
}

// memory reads the agent's resident memory every 100 ms while its job sleeps,
// and shows the most.
func memory(where, provider string) error {
	name := fmt.Sprintf("bench-%s-%d", where, os.Getpid())
	var output bytes.Buffer
	cmd := command("hodei", "run", "--quiet", "--provider", provider, "--name", name, "--", "sleep", "5")
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var resident, anonymous int
	for tick := time.NewTicker(100 * time.Millisecond); ; {
		select {
		case err := <-ended:
			tick.Stop()
			if err != nil {
				return fmt.Errorf("%s: %w\n%s", cmd, err, &output)
			}
			if resident == 0 {
				fmt.Printf("agent's memory, %s: not measured: its process is not on this machine, or another user's\n", where)
				return nil
			}
			fmt.Printf("agent's memory, %-7s  %6.1f MiB resident, %.1f of them its own (aim: under 20)\n",
				where, float64(resident)/1024, float64(anonymous)/1024)
			return nil
		case <-tick.C:
			status := agentStatus(name)
			resident = max(resident, kibibytes(status, "VmRSS:"))
			anonymous = max(anonymous, kibibytes(status, "RssAnon:"))
		}
	}
}

// agentStatus is /proc/PID/status (see proc(5)) of the job's agent, if it runs
// on this machine.
func agentStatus(job string) string {
	dir := agentDir(job)
	if dir == "" {
		return ""
	}
	status, _ := os.ReadFile(filepath.Join(dir, "status"))
	return string(status)
}

// agentDir is /proc/PID of the job's agent, if it runs on this machine; Pods of
// test/cluster do.
func agentDir(job string) string {
	paths, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well-formed
	for _, dir := range paths {
		cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		if !bytes.HasSuffix(cmdline, []byte("hodei-worker\x00agent\x00")) {
			continue
		}
		environ, _ := os.ReadFile(filepath.Join(dir, "environ"))
		if !bytes.Contains(environ, []byte("HODEI_JOB="+job+"\x00")) {
			continue
		}
		return dir
	}
	return ""
}

// kibibytes finds a figure of /proc/PID/status; 0: not there.
func kibibytes(status, field string) int {
	_, rest, _ := strings.Cut(status, field)
	words := strings.Fields(rest)
	if len(words) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(words[0])
	return n
}
