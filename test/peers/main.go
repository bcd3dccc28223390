// Command peers measures a sample of a cgroup by agent/cgroup beside the two
// libraries that are most used for it, and beside the kernel's own share: the
// same files read and not parsed. It makes a cgroup of each version that this
// machine has mounted, lets a job in it use memory, CPU and disk, and has all of them
// read that one cgroup in turns. Making it needs root. "make bench" runs it.
//
// The libraries would be dependencies of hodei for nothing, so this is a module of
// its own.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"
)

var (
	rounds = flag.Int("rounds", 15, "how often each reader is measured; the table shows the medians")
	each   = flag.Duration("each", 100*time.Millisecond, "how long each measurement takes")
)

func main() {
	testing.Init() // its flag tells Benchmark how long
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run() error {
	if err := flag.Set("test.benchtime", each.String()); err != nil {
		return err
	}
	for _, layout := range []string{"cgroup1", "cgroup2"} {
		job, err := startJob(layout)
		if errors.Is(err, errNotMounted) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
			fmt.Printf("%s: not measured: %v\n\n", layout, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("start a job in %s: %w", layout, err)
		}
		err = compare(job)
		if err := errors.Join(err, job.stop()); err != nil {
			return fmt.Errorf("%s: %w", layout, err)
		}
	}
	return nil
}

// compare measures the readers in turns, so that whatever else the machine does
// meets all of them, and prints the table.
func compare(j *job) error {
	readers, err := openReaders(j)
	if err != nil {
		return err
	}
	results := make([][]testing.BenchmarkResult, len(readers))
	for range *rounds {
		for i, r := range readers {
			var failed error
			results[i] = append(results[i], testing.Benchmark(func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := r.read(); err != nil {
						failed = err
						b.FailNow()
					}
				}
			}))
			if failed != nil {
				return fmt.Errorf("%s: %w", r.name, failed)
			}
		}
	}
	fmt.Printf("%s, %s (medians of %d)\n", j.layout, j.note, *rounds)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "reader\tns/sample\tB/sample\tallocations\ttimes ours\treads")
	ours := median(results[1])
	for i, r := range readers {
		m := median(results[i])
		fmt.Fprintf(w, "%s\t%.0f\t%d\t%d\t%.2f\t%s\n", r.name, perOp(m), m.AllocedBytesPerOp(), m.AllocsPerOp(),
			perOp(m)/perOp(ours), r.reads)
	}
	w.Flush()
	better := min(perOp(median(results[2])), perOp(median(results[3])))
	fmt.Printf("ours / the better library = 1/%.1f (aim: at most 1/5); the kernel alone / the better library = 1/%.1f\n\n",
		better/perOp(ours), better/perOp(median(results[0])))
	return nil
}

func perOp(r testing.BenchmarkResult) float64 { return float64(r.T.Nanoseconds()) / float64(r.N) }

func median(r []testing.BenchmarkResult) testing.BenchmarkResult {
	sorted := slices.SortedFunc(slices.Values(r), func(a, b testing.BenchmarkResult) int { return cmp.Compare(perOp(a), perOp(b)) })
	return sorted[len(sorted)/2]
}
