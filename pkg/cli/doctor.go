package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/local"
	"github.com/hodei-jobs/hodei/pkg/setup"
	"github.com/hodei-jobs/hodei/pkg/shell"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

const (
	// doctorWait bounds all of it: a cluster that takes longer is not well.
	doctorWait = time.Minute
	// pendingLong is when a Pod has waited longer than an autoscaler takes for a node.
	pendingLong = 5 * time.Minute
	// storeRoom is the free space below which a job's output may soon have no place: a
	// spool is as large by default.
	storeRoom = 1 << 30
)

func (a *app) newDoctor() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:                   "doctor [--provider NAME] [-o json|yaml]",
		DisableFlagsInUseLine: true,
		Short:                 "Check the cluster and this machine, and say what to do",
		Long: templates.LongDesc(`
			Check the cluster and your rights in it, what hodei install has made, certificates,
			clocks, the place for output, and jobs that wait. It changes nothing. It skips what
			your rights do not let it see. The last line counts the checks: ok, warnings,
			failed, not checked.

			The exit code is 1 if a check failed: jobs can't run then. A warning is something
			that you should know.`),
		Example: templates.Examples(`
			# Look at the provider in use
			hodei doctor

			# Look at another one
			hodei doctor --provider prod

			# Only what is wrong
			hodei doctor -o json | jq '.checks[] | select(.status == "error")'`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]string{"", "json", "yaml"}, output) {
				return usagef(cmd, "--output %q: want json or yaml", output)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), doctorWait)
			defer cancel()
			return a.doctor(ctx, output)
		},
	}
	a.addProviderFlag(cmd, cmd.Flags(), "What to look at")
	cmd.Flags().StringVarP(&output, "output", "o", "", "Output format: json or yaml (default: lines).")
	return cmd
}

func (a *app) doctor(ctx context.Context, output string) error {
	checks := a.examine(ctx)
	for i := range checks {
		checks[i].Hint = a.named(checks[i].Hint)
	}
	if output != "" {
		if err := a.printData(map[string][]check{"checks": checks}, output); err != nil {
			return err
		}
	} else {
		status := ui.NewStatus(a.Out, ui.Detect(a.stdout(), a.getenv))
		for _, c := range checks {
			status.Summary(checkMarks[c.Status], fmt.Sprintf("%-8s %-16s %s", c.Status, c.Name, c.Detail))
			if c.Hint != "" {
				fmt.Fprintf(a.Out, "%27s%s\n", "hint: ", ui.Printable(c.Hint))
			}
		}
		fmt.Fprintln(a.Out, countChecks(checks))
	}
	if worst(checks) != nil {
		return &job.ExitError{Code: exitFailed}
	}
	return nil
}

var checkMarks = map[checkStatus]ui.Mark{checkOK: ui.Good, checkWarning: ui.Warned, checkError: ui.Bad, checkSkipped: ui.Unchecked}

// countChecks says how many checks ended how.
func countChecks(checks []check) string {
	count := map[checkStatus]int{}
	for _, c := range checks {
		count[c.Status]++
	}
	warnings := "warnings"
	if count[checkWarning] == 1 {
		warnings = "warning"
	}
	return fmt.Sprintf("%d ok, %d %s, %d failed, %d not checked", count[checkOK], count[checkWarning], warnings, count[checkError], count[checkSkipped])
}

// examine makes all checks, those that need no cluster too if there is none.
func (a *app) examine(ctx context.Context) []check {
	name, c, err := a.chooseProvider()
	if err != nil {
		return append([]check{checked("provider", checkError, job.HintOf(err), "%v", err)}, a.checkMachine()...)
	}
	checks := []check{a.providerCheck(name, c)}
	if c.Type == provider.Local {
		return append(append(checks, checkWorker()), a.checkMachine()...)
	}
	there, k := a.checkCluster(ctx, name, c)
	checks = append(checks, there...)
	if k != nil {
		checks = append(checks, k.installed(ctx), k.waiting(ctx))
		checks = append(checks, k.secrets(ctx)...)
	}
	return append(checks, a.checkMachine()...)
}

// providerCheck says which provider it is about.
func (a *app) providerCheck(name string, c provider.Config) check {
	const title = "provider"
	switch {
	case c.Type == provider.Local:
		return checked(title, checkOK, "", "%s: processes of this machine", name)
	case name == "":
		name = "none"
	}
	where := "the kubeconfig's current context"
	switch {
	case c.Context != "":
		where = fmt.Sprintf("context %q", c.Context)
	case c.Kubeconfig == "" && a.home().PodNamespace() != "":
		where = "this Pod's own service account"
	}
	return checked(title, checkOK, "", "%s: %s, namespace %s", name, where, c.Namespace)
}

// checkWorker looks for the program that the provider local runs.
func checkWorker() check {
	path, err := local.FindWorker()
	if err != nil {
		return checked("worker", checkError, job.HintOf(err), "%v", err)
	}
	return checked("worker", checkOK, "", "%s", path)
}

// installed compares what hodei install would make with what is there.
func (k *clusterChecks) installed(ctx context.Context) check {
	const name = "installed"
	choices := deploy.Options{WorkersNamespace: k.provider.Namespace}
	if _, err := deploy.Objects(choices); err != nil {
		return checked(name, checkSkipped, "", "%v", err)
	}
	line := installLine{given: strings.TrimPrefix(kubernetes.InstallCommand(k.provider.Namespace), "{hodei} install")}
	installer := &setup.Installer{Client: k.Client, Choices: choices, Hints: line.hints()}
	may, err := installer.MayPlan(ctx)
	switch {
	case err != nil:
		return failedCheck(name, err)
	case !may:
		return checked(name, checkSkipped, "", "only who may install can compare")
	}
	plan, err := installer.Plan(ctx)
	if err != nil {
		return checked(name, checkWarning, job.HintOf(err), "%v", err)
	}
	differ, err := plan.Differing()
	switch {
	case err != nil:
		return failedCheck(name, err)
	case len(differ) > 0:
		return checked(name, checkWarning, "compare, repeating your install flags: "+kubernetes.InstallCommand(k.provider.Namespace)+" --diff", "differs from what this version installs: %s", job.Words(differ))
	}
	return checked(name, checkOK, "", "as this version installs it")
}

// waiting looks for jobs whose Pod waits for too long.
func (k *clusterChecks) waiting(ctx context.Context) check {
	const name = "jobs"
	pods, err := k.CoreV1().Pods(k.provider.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: kubernetes.LabelManagedBy + "=" + kubernetes.ManagedBy, FieldSelector: "status.phase=" + string(corev1.PodPending),
	})
	if err != nil {
		return failedCheck(name, err)
	}
	var long []string
	for _, p := range pods.Items {
		if time.Since(p.CreationTimestamp.Time) >= pendingLong {
			long = append(long, p.Labels[kubernetes.LabelJob])
		}
	}
	if len(long) > 0 {
		return checked(name, checkWarning, "{hodei} jobs "+long[0]+" -o wide", "waiting for more than %s: %s", pendingLong, job.Words(long))
	}
	return checked(name, checkOK, "", "none waits for more than %s", pendingLong)
}

// secrets looks at the certificates in the cluster, as far as they can be read.
func (k *clusterChecks) secrets(ctx context.Context) []check {
	places := map[string][]certs.File{} // what belongs together, by namespace
	for _, s := range certSecrets(k.provider.Namespace) {
		// One that is not there no job minds; others may not be ours to see.
		if secret, err := getSecret(ctx, k.Interface, s.namespace, s.name); err == nil {
			places[s.namespace] = append(places[s.namespace], secretFiles(secret)...)
		}
	}
	const name = "secrets"
	if len(places) == 0 {
		return []check{checked(name, checkSkipped, "", "there are no certificates in the cluster, or they can't be read; each run makes its own")}
	}
	var facts []certs.Fact
	for _, namespace := range slices.Sorted(maps.Keys(places)) {
		facts = append(facts, certs.Inspect(places[namespace], time.Now())...)
	}
	inspect := "{hodei} certs inspect --secrets"
	if k.provider.Namespace != deploy.WorkersNamespace {
		inspect += " --workers-namespace " + k.provider.Namespace
	}
	return []check{checkFacts(name, facts, func(f certs.Fact) string {
		return remedy(f, inspect, " --dir DIR", "; then: {hodei} certs apply --dir DIR")
	})}
}

// checkFacts tells the worst of some certificates, and else which ends first.
func checkFacts(name string, facts []certs.Fact, hint func(certs.Fact) string) check {
	var first *certs.Fact
	for i, f := range facts {
		if f.Problem != "" {
			return checked(name, checkError, hint(f), "%s: %s", f.Source, f.Problem)
		}
		if first == nil || !f.NotAfter.IsZero() && f.NotAfter.Before(first.NotAfter) {
			first = &facts[i]
		}
	}
	if i := slices.IndexFunc(facts, func(f certs.Fact) bool { return f.Warning != "" }); i >= 0 {
		return checked(name, checkWarning, hint(facts[i]), "%s: %s", facts[i].Source, facts[i].Warning)
	}
	if first == nil {
		return checked(name, checkSkipped, "", "no certificates")
	}
	return checked(name, checkOK, "", "%d certificates; %s is the first to end, in %d days", len(facts), first.Source, first.DaysLeft)
}

// remedy is what helps against the problem or the warning of a certificate, in a
// directory that dir names to the commands of certs; inspect shows all that is there,
// and then follows what changes it.
func remedy(f certs.Fact, inspect, dir, then string) string {
	ended := f.DaysLeft < 0 && !f.NotAfter.IsZero()
	switch {
	case strings.Contains(f.Source, "#"): // only handed on as trusted
		return inspect
	case f.Problem != "" && f.CA && ended:
		return "{hodei} certs generate --force" + dir + then
	case f.Problem != "" && ended && f.Key != certs.KeyDiffers && f.SignedBy != "":
		return "{hodei} certs rotate" + dir + then
	case f.Problem != "":
		return inspect
	case f.KeyMode != "":
		return "chmod 600 " + shell.Quote(strings.TrimSuffix(f.Source, ".crt")+".key")
	case f.CA:
		return "{hodei} certs rotate --ca" + dir + then
	}
	return "{hodei} certs rotate" + dir + then
}

// checkMachine looks at what is here.
func (a *app) checkMachine() []check {
	return []check{a.checkCerts(), a.checkStore()}
}

// checkCerts looks at the directory of certificates that a run would find.
func (a *app) checkCerts() check {
	const name = "certificates"
	dir, passed := a.home().FoundCerts()
	switch {
	case dir == "" && len(passed) > 0:
		return checked(name, checkWarning, "{hodei} run --certs "+shell.Quote(passed[0].Dir)+" -- COMMAND", "%s; each run makes its own", passed[0])
	case dir == "":
		return checked(name, checkOK, "", "none in %s: each run makes its own", strings.Join(a.home().CertsDirs(), " or "))
	}
	inspect := "{hodei} certs inspect " + shell.Quote(dir)
	facts, err := certs.InspectDir(dir, time.Now())
	if err != nil {
		return checked(name, checkError, inspect, "%v", err)
	}
	c := checkFacts(name, facts, func(f certs.Fact) string { return remedy(f, inspect, place.DirFlag(dir), "") })
	if c.Status == checkOK || c.Status == checkWarning { // all of it is good, and is it enough for a run?
		if _, err := certs.LoadAuthority(dir); err != nil {
			return checked(name, checkError, place.AuthorityHint(err, dir), "%v", err)
		}
	}
	return c
}

// checkStore looks whether output can be kept on this machine.
func (a *app) checkStore() check {
	const name = "output"
	limits, err := a.home().StoreLimits()
	if err != nil {
		return checked(name, checkError, "unset HODEI_LOG_MAX_BYTES HODEI_LOG_MAX_AGE", "%v", err)
	}
	dir, err := a.home().StoreDir()
	if err != nil {
		return checked(name, checkWarning, "export HOME=DIR", "output is not kept on this machine: %v", err)
	}
	// The store is made when it is needed; what is there of its path tells the rest.
	there := dir
	for _, err = os.Stat(there); errors.Is(err, fs.ErrNotExist) && there != filepath.Dir(there); _, err = os.Stat(there) {
		there = filepath.Dir(there)
	}
	if err == nil {
		err = place.Writable(there)
	}
	if err != nil {
		return checked(name, checkWarning, "set XDG_STATE_HOME to a directory that can be written to", "output is not kept on this machine: %v", err)
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(there, &disk); err != nil {
		return checked(name, checkWarning, "", "statfs %s: %v", there, err)
	}
	free := int64(disk.Bavail) * int64(disk.Bsize) //nolint:unconvert // their types differ between systems
	if limits.MaxBytes == 0 {
		limits.MaxBytes = logstore.DefaultMaxBytes
	}
	detail := fmt.Sprintf("%s: %s free, at most %s are kept", dir, binary(free), binary(limits.MaxBytes))
	if free < storeRoom {
		return checked(name, checkWarning, "make room, or set XDG_STATE_HOME to a larger disk", "%s", detail)
	}
	return checked(name, checkOK, "", "%s", detail)
}

// binary writes bytes as a person reads them: 12.3Gi.
func binary(n int64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.1fGi", float64(n)/(1<<30))
	}
	return resource.NewQuantity(n>>20<<20, resource.BinarySI).String()
}
