package command

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestActionFlags(t *testing.T) {
	for _, test := range []struct {
		line string
		want string // the output, or the beginning of the error
		err  bool
	}{
		{line: "", want: "job.batch/x cancelled, 100% of it\n"},
		{line: "--dry-run", want: "job.batch/x cancelled, 100% of it (dry run)\n"},
		{line: "--dry-run=server", want: "job.batch/x cancelled, 100% of it (server dry run)\n"},
		{line: "-o name", want: "job.batch/x\n"},
		{line: "-o jsonpath={.metadata.name}", want: "x"},
		{line: "-o yaml", want: "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: x\n"},
		{line: "-q", want: ""},
		{line: "-q -o name", want: "-q writes no objects", err: true},
		{line: "-o nonsense", want: "unable to match a printer", err: true},
		{line: "--dry-run=maybe", want: `--dry-run "maybe"`, err: true},
	} {
		t.Run(test.line, func(t *testing.T) {
			var f ActionFlags
			var out bytes.Buffer
			cmd := &cobra.Command{Use: "cancel", SilenceErrors: true, SilenceUsage: true}
			cmd.RunE = func(cmd *cobra.Command, _ []string) error {
				printer, err := f.Printer(cmd, &out)
				if err != nil {
					return err
				}
				return printer(&batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, ", 100% of it")
			}
			f.Add(cmd, "cancelled")
			f.AddDryRun(cmd)
			cmd.SetArgs(strings.Fields(test.line))
			err := cmd.Execute()
			got := out.String()
			if err != nil {
				got = err.Error()
			}
			if (err != nil) != test.err || !strings.HasPrefix(got, test.want) || test.want == "" && got != "" {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
