package report

import (
	"bytes"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/yaml"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output/outputtest"
	"github.com/hodei-jobs/hodei/pkg/usage/usagetest"
)

// Nothing in data commands a terminal, and all of it is still there.
func TestDataHostile(t *testing.T) {
	const hostile = "a\x1b\x7f\u009b2J\u202eb\u2066ü✓"
	for _, format := range []string{"json", "yaml"} {
		var out bytes.Buffer
		a := &command.Env{IOStreams: genericiooptions.IOStreams{Out: &out}}
		if err := a.PrintData(job.OOMVictim{Name: hostile}, format); err != nil || outputtest.CommandsTerminal(out.String()) {
			t.Errorf("%s: %q, %v", format, out.String(), err)
		}
		var v job.OOMVictim
		if err := yaml.Unmarshal(out.Bytes(), &v); err != nil || v.Name != hostile {
			t.Errorf("%s: read back %q, %v", format, v.Name, err)
		}
	}
	o := &Options{format: "json"}
	b, err := o.render(&history.PastRun{Run: job.Run{Attempt: hostile}}, usagetest.Began)
	if err != nil || outputtest.CommandsTerminal(string(b)) {
		t.Errorf("report %q, %v", b, err)
	}
}
