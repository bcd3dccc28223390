package command

import (
	"time"

	"github.com/spf13/cobra"
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
	none := cobra.ShellCompDirectiveNoFileComp
	_, chosen, err := a.ChooseCluster()
	if err != nil || len(args) > 0 {
		return nil, none
	}
	config, err := RESTConfig(a.Kube)
	if err != nil {
		return nil, none
	}
	config.Timeout = completeWait
	client, err := clientset.NewForConfig(config)
	if err != nil {
		return nil, none
	}
	ours := metav1.ListOptions{LabelSelector: kubernetes.LabelManagedBy + "=" + kubernetes.ManagedBy}
	list, err := client.BatchV1().Jobs(chosen.Namespace).List(cmd.Context(), ours)
	if err != nil {
		return nil, none
	}
	var names []string
	for _, j := range list.Items {
		names = append(names, j.Name)
	}
	return names, none
}
