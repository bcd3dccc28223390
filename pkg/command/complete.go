package command

import (
	"slices"
	"time"

	"github.com/spf13/cobra"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientset "k8s.io/client-go/kubernetes"

	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// CompleteProvider completes the first argument to a provider's name. It is a cobra completion function.
func (a *Env) CompleteProvider(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	r, err := a.Home().Providers()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return r.Names(), cobra.ShellCompDirectiveNoFileComp
}

// completeWait bounds one request of a completion, because somebody waits at the prompt.
const completeWait = 3 * time.Second

// CompleteJob completes the first argument to the name of a job in the chosen namespace. A cluster that does not answer
// within 3 s has none. It is a cobra completion function.
func (a *Env) CompleteJob(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.CompleteJobs(cmd, args, toComplete)
}

// CompleteJobs is CompleteJob for every argument. It leaves out names that are there already.
func (a *Env) CompleteJobs(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.jobNames(cmd, args, func(*batchv1.Job) bool { return true }), cobra.ShellCompDirectiveNoFileComp
}

// CompleteLiveJobs is CompleteJobs for jobs that have not ended.
func (a *Env) CompleteLiveJobs(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.jobNames(cmd, args, isLive), cobra.ShellCompDirectiveNoFileComp
}

// CompleteLiveJob is CompleteLiveJobs for a command that takes one job.
func (a *Env) CompleteLiveJob(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.jobNames(cmd, args, isLive), cobra.ShellCompDirectiveNoFileComp
}

// isLive reports whether a job has not ended, by what its Job says.
func isLive(j *batchv1.Job) bool {
	ended := func(c batchv1.JobCondition) bool {
		return c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed)
	}
	return j.DeletionTimestamp == nil && !slices.ContainsFunc(j.Status.Conditions, ended)
}

// jobNames returns the names of the wanted jobs in the chosen namespace, without those in args.
func (a *Env) jobNames(cmd *cobra.Command, args []string, wanted func(*batchv1.Job) bool) []string {
	_, chosen, err := a.ChooseCluster()
	if err != nil {
		return nil
	}
	config, err := RESTConfig(a.Kube)
	if err != nil {
		return nil
	}
	config.Timeout = completeWait
	client, err := clientset.NewForConfig(config)
	if err != nil {
		return nil
	}
	ours := metav1.ListOptions{LabelSelector: kubernetes.LabelManagedBy + "=" + kubernetes.ManagedBy}
	list, err := client.BatchV1().Jobs(chosen.Namespace).List(cmd.Context(), ours)
	if err != nil {
		return nil
	}
	var names []string
	for i := range list.Items {
		if j := &list.Items[i]; wanted(j) && !slices.Contains(args, j.Name) {
			names = append(names, j.Name)
		}
	}
	return names
}
