package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// writerLines are written by themselves for each figure, as python -u, println! of Rust
// and log libraries write to stderr.
const writerLines = 3_000_000

// writeLines is the job of this measurement: n lines, a write(2) for each. It leaves
// its own wall time in the file, in nanoseconds.
func writeLines(n int64, file string) error {
	line := lines(1)
	began := time.Now()
	for range n {
		if _, err := os.Stdout.Write(line); err != nil {
			return err
		}
	}
	return os.WriteFile(file, strconv.AppendInt(nil, int64(time.Since(began)), 10), 0o600)
}

// writer compares how long a program takes to write line by line to another one that throws all away,
// to a file, and under hodei run: what being watched costs it.
func writer() error {
	dir, err := os.MkdirTemp("", "hodei-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ways := []struct {
		name string
		run  func(own, took string) error
	}{
		{"| cat >/dev/null", func(own, took string) error { return intoCat(own, "write", took) }},
		{"> file", func(own, took string) error { return intoFile(filepath.Join(dir, "out"), own, "write", took) }},
		{"hodei run --provider local", func(own, took string) error {
			return intoFile(os.DevNull, filepath.Join(*bin, "hodei"), "run", "--quiet", "--provider", "local", "--", own, "write", took)
		}},
	}
	times := make([][]time.Duration, len(ways))
	own, err := os.Executable()
	if err != nil {
		return err
	}
	for range rounds { // in turn
		for i, way := range ways {
			took := filepath.Join(dir, "took")
			if err := way.run(own, took); err != nil {
				return fmt.Errorf("%s: %w", way.name, err)
			}
			text, err := os.ReadFile(took)
			if err != nil {
				return err
			}
			ns, err := strconv.ParseInt(string(text), 10, 64)
			if err != nil {
				return err
			}
			times[i] = append(times[i], time.Duration(ns))
		}
	}
	fmt.Printf("%d lines of %d bytes, a write for each, median of %d: the writer's own time\n", writerLines, lineBytes, rounds)
	for i, way := range ways {
		fmt.Printf("  %-30s %6.2f s  %5.2f of | cat\n", way.name, median(times[i]).Seconds(),
			median(times[i]).Seconds()/median(times[0]).Seconds())
	}
	fmt.Println("  (aim for hodei run: 1.15 of | cat or less)")
	return nil
}

// intoFile runs a command with a file as its stdout.
func intoFile(path, name string, args ...string) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	return cmd.Run()
}

// intoCat runs a command with a pipe to cat as its stdout.
func intoCat(name string, args ...string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cat := exec.Command("cat")
	cat.Stdin = r
	if err := cat.Start(); err != nil {
		return errors.Join(err, r.Close(), w.Close())
	}
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	err = cmd.Run()
	return errors.Join(err, w.Close(), r.Close(), cat.Wait())
}
