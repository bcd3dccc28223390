package command

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/local"
	"github.com/hodei-jobs/hodei/pkg/selection"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// SelectionFlags are --selector and --all, with which a command that takes the names of several jobs chooses jobs
// without naming them.
type SelectionFlags struct {
	labels string
	all    bool
}

// Add gives cmd the flags; verb says in their help what is done to the jobs: Cancel.
func (f *SelectionFlags) Add(cmd *cobra.Command, verb string) {
	cmd.Flags().StringVarP(&f.labels, "selector", "l", "", verb+" the jobs with these labels: key=value,..., as in kubectl.")
	cmd.Flags().BoolVar(&f.all, "all", false, verb+" all jobs of the namespace.")
}

// Selection returns which jobs cmd is about, or a usage error: jobs are named, or chosen by one of the flags.
func (f *SelectionFlags) Selection(cmd *cobra.Command, names []string) (selection.Selection, error) {
	byLabels := cmd.Flags().Changed("selector")
	s := selection.Selection{Labels: f.labels, All: f.all}
	switch {
	case len(names) == 0 && !byLabels && !f.all:
		return s, Usagef(cmd, "no job: name it, or choose some with -l or --all")
	case len(names) > 0 && (byLabels || f.all):
		return s, Usagef(cmd, "jobs are named by NAME, or chosen by -l or --all, not both")
	case byLabels && f.all:
		return s, Usagef(cmd, "--all takes all jobs: leave -l out")
	case byLabels && strings.TrimSpace(f.labels) == "":
		return s, Usagef(cmd, "--selector %q: want key=value,...; --all is for all jobs", f.labels)
	}
	if _, err := labels.Parse(f.labels); err != nil {
		return s, Usagef(cmd, "--selector %q: %w", f.labels, err)
	}
	for _, name := range names {
		if name == "" {
			return s, Usagef(cmd, "an empty NAME is no job")
		}
		if !slices.Contains(s.Names, name) {
			s.Names = append(s.Names, name)
		}
	}
	return s, nil
}

// ActedOn is what a command does to jobs, in words for an error.
type ActedOn struct {
	Done string   // cancelled
	Here string   // instead, about a job of this machine that runs; PID stands for its process
	More []string // arguments behind the names
}

// JobsCluster returns the provider in whose cluster a command acts on jobs that are there. The provider of this machine
// is an error, because nobody else reaches a job that lives with its hodei run.
func (a *Env) JobsCluster(s selection.Selection, acted ActedOn) (*kubernetes.Provider, error) {
	name, c, err := a.ChooseProvider()
	switch {
	case err != nil:
		return nil, err
	case c.Type != provider.Local:
		return a.KubernetesProvider(name, c)
	}
	words := slices.Clone(s.Names)
	switch {
	case s.All:
		words = append(words, "--all")
	case s.Labels != "":
		words = append(words, "-l", s.Labels)
	}
	verb := "jobs"
	if a.cmd != nil {
		verb = a.cmd.Name()
	}
	elsewhere := fmt.Sprintf("{hodei} %s --context %s %s", verb, a.currentContext(), shell.Line(append(words, acted.More...)))
	return nil, a.actedHere(s.Names, acted, name, elsewhere)
}

// actedHere returns why a command can't act on jobs of this machine, of which the first that runs counts. elsewhere is
// the same for a cluster.
func (a *Env) actedHere(names []string, acted ActedOn, provider, elsewhere string) error {
	for _, name := range names {
		if pid := local.Running(name); pid != 0 {
			return &job.Hinted{
				Err: fmt.Errorf("job %s runs on this machine: it ends with its own \"%s run\", and can't be %s from elsewhere",
					name, a.Name, acted.Done),
				Hint: strings.NewReplacer("PID", strconv.Itoa(pid), "NAME", shell.Quote(name)).Replace(acted.Here),
			}
		}
	}
	if len(names) == 0 {
		return &job.Hinted{
			Err:  fmt.Errorf("provider %q is this machine, which keeps no list of jobs: none can be %s", provider, acted.Done),
			Hint: "for jobs in a cluster: " + elsewhere,
		}
	}
	return &job.Hinted{
		Err:  fmt.Errorf("no job %s runs on this machine: none can be %s", shell.Line(names), acted.Done),
		Hint: "for a job in a cluster: " + elsewhere,
	}
}

// ShowError shows err and its hint, if it has one, as the error that a command ends with is shown. It is for a command
// that goes on with other jobs, and ends with a [job.ExitError] that has no error in it.
func (a *Env) ShowError(err error) { a.show(err, job.HintOf(err)) }
