package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// idleFor is how long an idle agent is watched, and idleBefore what is left to its
	// start: what is measured then is what goes on for ever.
	idleFor    = 60 * time.Second
	idleBefore = 10 * time.Second
)

// idle measures the CPU time of the agents of two jobs that sleep: one that is
// followed, whose agent sends a sample each second, and one that nobody looks at.
func idle() error {
	job := func(how string) string { return fmt.Sprintf("bench-%s-%d", how, os.Getpid()) }
	sleep := fmt.Sprint(int((idleBefore + idleFor + idleBefore) / time.Second))
	followed, detached := job("followed"), job("detached")
	if err := run("hodei", "run", "--quiet", "--detach", "--provider", "bench", "--name", detached, "--", "sleep", sleep); err != nil {
		return err
	}
	cmd := command("hodei", "run", "--quiet", "--provider", "bench", "--name", followed, "--", "sleep", sleep)
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	time.Sleep(idleBefore)
	before := map[string]time.Duration{followed: agentCPU(followed), detached: agentCPU(detached)}
	time.Sleep(idleFor)
	for _, j := range []struct{ how, name string }{{"followed", followed}, {"detached", detached}} {
		if before[j.name] == 0 {
			fmt.Printf("agent's CPU, idle and %s: not measured: its process is not on this machine, or another user's\n", j.how)
			continue
		}
		used := agentCPU(j.name) - before[j.name]
		fmt.Printf("agent's CPU, idle and %s  %6.4f %% of a core: %.1f ms in %s (aim: 0.05 or less)\n",
			j.how, 100*used.Seconds()/idleFor.Seconds(), used.Seconds()*1000, idleFor)
	}
	return errors.Join(<-ended, run("hodei", "attach", "--provider", "bench", detached)) // whose agent waits for somebody
}

// agentCPU is the CPU time of all threads of a job's agent, by the scheduler's own
// count in nanoseconds: /proc/PID/task/TID/schedstat, see
// Documentation/scheduler/sched-stats.rst. 0: it is not on this machine.
func agentCPU(job string) (sum time.Duration) {
	dir := agentDir(job)
	if dir == "" {
		return 0
	}
	paths, _ := filepath.Glob(filepath.Join(dir, "task/*/schedstat")) // the pattern is well-formed
	for _, path := range paths {
		text, _ := os.ReadFile(path) // a thread that has ended took what it used with it
		used, _, _ := strings.Cut(string(text), " ")
		n, _ := strconv.ParseInt(used, 10, 64)
		sum += time.Duration(n)
	}
	return sum
}
