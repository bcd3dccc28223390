package usage_test

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/hodei-jobs/hodei/pkg/advice"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/report"
	"github.com/hodei-jobs/hodei/pkg/usage"
)

// What the summary of a run tells, its report marks and an advice acts on is the same: by one rule
// the CPU limit has hurt, or has not.
func TestThrottled(t *testing.T) {
	periods := func(throttled, all uint64, cost time.Duration) job.CPUUsage {
		return job.CPUUsage{Throttled: &cost, Periods: &all, ThrottledPeriods: &throttled}
	}
	for _, test := range []struct {
		name  string
		cpu   job.CPUUsage
		share float64
		hurt  bool
	}{
		{"nothing is known", job.CPUUsage{}, 0, false},
		{"no quota", periods(0, 0, 0), 0, false},
		{"never", periods(0, 600, 0), 0, false},
		{"now and then", periods(59, 600, time.Minute), 59. / 600, false},
		{"in a tenth of the periods", periods(60, 600, time.Second), 0.1, true},
		{"in 15 % of the periods", periods(90, 600, 4*time.Second), 0.15, true},
		{"in a quarter of the periods", periods(150, 600, 10*time.Second), 0.25, true},
		{"in all of them", periods(600, 600, time.Minute), 1, true},
		{"in more than all, which were read later", periods(601, 600, time.Minute), 1, true},
		{"for a moment", periods(3, 3, time.Second-1), 1, false},
		{"nobody knows how long", job.CPUUsage{Periods: new(uint64(600)), ThrottledPeriods: new(uint64(600))}, 0, false},
		{"nobody knows how often", job.CPUUsage{Throttled: new(time.Minute)}, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			share, hurt := usage.Throttled(&test.cpu)
			if share != test.share || hurt != test.hurt {
				t.Errorf("share %g, hurt %t, want %g, %t", share, hurt, test.share, test.hurt)
			}
			run := throttledRun(test.cpu)
			for who, says := range map[string]bool{
				"the summary tells of it":     summaryTells(run),
				"the report marks it":         reportMarks(t, run),
				"the advice raises the limit": adviceRaises(t, run),
			} {
				if says != test.hurt {
					t.Errorf("%s: %t, want %t", who, says, test.hurt)
				}
			}
		})
	}
}

// throttledRun is one of a minute with a limit of a core, of which it has used half.
func throttledRun(cpu job.CPUUsage) *job.Run {
	start := time.Date(2025, 2, 3, 4, 5, 6, 0, time.UTC)
	cpu.Total, cpu.LimitMillis = new(30*time.Second), new(uint64(1000))
	return &job.Run{
		Attempt: "hodei-make-k3x9z-abcde",
		Spec:    &job.Spec{Name: "hodei-make-k3x9z", Command: []string{"make"}, CPU: new(resource.MustParse("1"))},
		Outcome: &job.Outcome{Cause: job.Completed, Started: start, Finished: start.Add(time.Minute),
			Usage: &job.Usage{Source: "cgroup2", CPU: cpu}},
	}
}

func summaryTells(run *job.Run) bool {
	return strings.Contains(strings.Join(usage.Parts(run.Outcome.Usage, run.Outcome.Wall(), usage.Plain()), ", "), "throttled")
}

func reportMarks(t *testing.T, run *job.Run) bool {
	t.Helper()
	var page strings.Builder
	if err := (&report.Report{Run: *run}).HTML(&page); err != nil {
		t.Fatal(err)
	}
	return strings.Contains(page.String(), `<div class="bad"><dt>throttled</dt>`)
}

func adviceRaises(t *testing.T, run *job.Run) bool {
	t.Helper()
	a := advice.From(run.Spec, []job.Run{*run})
	if a == nil || a.CPU == nil || a.CPU.Limit == nil {
		t.Fatalf("no advice on the CPU limit: %+v", a)
	}
	raised := a.CPU.Limit.Cmp(*a.CPU.AskedLimit) > 0
	if raised != (a.CPU.LimitReason != "") {
		t.Errorf("raised %t, because: %q", raised, a.CPU.LimitReason)
	}
	return raised
}
