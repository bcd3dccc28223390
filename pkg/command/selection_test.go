package command

import (
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestSelectionFlags(t *testing.T) {
	for _, test := range []struct {
		line string
		want string // the selection, as words
		err  string
	}{
		{line: "a", want: "a"},
		{line: "b a b", want: "b a"},
		{line: "-l team=build", want: "-l team=build"},
		{line: "--all", want: "--all"},
		{line: "", err: "no job: name it, or choose some with -l or --all"},
		{line: "--all=false", err: "no job: name it, or choose some with -l or --all"},
		{line: "a --all", err: "jobs are named by NAME, or chosen by -l or --all, not both"},
		{line: "a -l b=c", err: "jobs are named by NAME, or chosen by -l or --all, not both"},
		{line: "--all -l b=c", err: "--all takes all jobs: leave -l out"},
		{line: "-l b=(", err: `--selector "b=(": `},
		{line: "--selector=", err: `--selector "": want key=value,...; --all is for all jobs`}, // an unset variable is not all jobs
	} {
		t.Run(test.line, func(t *testing.T) {
			var f SelectionFlags
			var got string
			cmd := &cobra.Command{Use: "cancel", SilenceErrors: true, SilenceUsage: true}
			cmd.RunE = func(cmd *cobra.Command, args []string) error {
				s, err := f.Selection(cmd, args)
				words := s.Names
				if s.Labels != "" {
					words = append(words, "-l", s.Labels)
				}
				if s.All {
					words = append(words, "--all")
				}
				got = strings.Join(words, " ")
				return err
			}
			f.Add(cmd, "Cancel")
			cmd.SetArgs(strings.Fields(test.line))
			switch err := cmd.Execute(); {
			case test.err == "" && (err != nil || got != test.want):
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			case test.err != "":
				if _, usage := errors.AsType[*UsageError](err); !usage || !strings.HasPrefix(err.Error(), test.err) {
					t.Errorf("got %v, want the usage error %q", err, test.err)
				}
			}
		})
	}
}

func TestIsLive(t *testing.T) {
	job := func(kind batchv1.JobConditionType, status corev1.ConditionStatus) *batchv1.Job {
		return &batchv1.Job{Status: batchv1.JobStatus{Conditions: []batchv1.JobCondition{{Type: kind, Status: status}}}}
	}
	deleted := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{}}}
	for _, test := range []struct {
		name string
		job  *batchv1.Job
		want bool
	}{
		{"new", &batchv1.Job{}, true},
		{"suspended", job(batchv1.JobSuspended, corev1.ConditionTrue), true},
		{"complete", job(batchv1.JobComplete, corev1.ConditionTrue), false},
		{"failed", job(batchv1.JobFailed, corev1.ConditionTrue), false},
		{"not failed", job(batchv1.JobFailed, corev1.ConditionFalse), true},
		{"being deleted", deleted, false},
	} {
		if got := isLive(test.job); got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
}
