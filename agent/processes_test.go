package agent

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/agent/proc"
)

// TestProcessesOfThisMachine compares with what the kernel tells a parent of a child
// that has ended.
func TestProcessesOfThisMachine(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	stdin, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	defer ours.Close()
	launcher := startWith(t, nil, stdin, w, nil, self("test-parent", "300ms")...)
	p, err := proc.Open("/proc", launcher.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	var used proc.Spent
	told := make(chan error, 1)
	go func() {
		_, err := fmt.Fscan(r, &used.User, &used.System)
		told <- err
	}()
	var running proc.Look
	for ended := false; !ended; {
		select {
		case err := <-told:
			if err != nil {
				t.Fatal(err)
			}
			ended = true
		default:
			l, there := p.Look()
			if !there {
				t.Fatal("the parent has gone")
			}
			if l.Processes > 0 && l.Anon > running.Anon {
				running = l
			}
		}
	}
	if running.Anon < burnBytes || running.Anon > running.Resident || running.Threads == 0 || !running.Whole {
		t.Errorf("while it ran: %+v", running)
	}
	last, there := p.Look()
	off := last.CPU.User + last.CPU.System - used.User - used.System
	if !there || last.Processes != 0 || used.User == 0 || off.Abs() > 20*time.Millisecond {
		t.Errorf("measured %+v, the kernel says %+v", last.CPU, used)
	}
	if err := launcher.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-launcher.ended
	if gone, there := p.Look(); there || gone.CPU != last.CPU {
		t.Errorf("after the end: %+v, %t; before: %+v", gone, there, last)
	}
}
