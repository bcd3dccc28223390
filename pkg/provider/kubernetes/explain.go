package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

// pullGrace is how long an image that can't be pulled is given: registries
// have bad seconds, and the kubelet tries again after 10 s and 20 s.
const pullGrace = 30 * time.Second

// Explain turns an error of the API server, of the way to it, or of the
// kubeconfig into a Failure with a hint. It keeps kubectl's wording. A nil
// error gives nil; what it does not know keeps its text and gets no hint.
func Explain(err error) *job.Failure {
	if err == nil {
		return nil
	}
	var known *job.Failure
	if errors.As(err, &known) {
		return known
	}
	message := oneLine(err.Error())
	for _, explain := range explainers {
		if f := explain(err, message); f != nil {
			f.Err = err
			return f
		}
	}
	return &job.Failure{Cause: job.Unknown, Message: message, Err: err}
}

// explainers each explain one kind of error, whose text on one line is message; nil: the error is of
// another kind. The first that knows an error explains it: the special refusals of the API server
// come before forbidden, which knows them all.
var explainers = []func(err error, message string) *job.Failure{
	explainKubeconfig, explainQuota, explainTerminating, explainRule, explainWebhook, explainForbidden,
	explainUnauthorized, explainExisting, explainNamespace, explainTrouble, explainCredentials, explainNetwork,
}

func explainKubeconfig(err error, message string) *job.Failure {
	var file *fs.PathError
	switch {
	case clientcmd.IsEmptyConfig(err):
		return &job.Failure{Cause: job.ConfigError,
			Message: "no kubeconfig: there is no file at ~/.kube/config, and KUBECONFIG names none",
			Hint:    "export KUBECONFIG=FILE, or run without a cluster: {hodei} run --provider local -- CMD"}
	case clientcmd.IsConfigurationInvalid(err), clientcmd.IsContextNotFound(err), errors.As(err, &file),
		kubeconfigPattern.MatchString(message):
		return &job.Failure{Cause: job.ConfigError, Message: message, Hint: "kubectl config get-contexts"}
	}
	return nil
}

func explainQuota(err error, message string) *job.Failure {
	switch {
	case !apierrors.IsForbidden(err):
	case strings.Contains(err.Error(), "exceeded quota"):
		return &job.Failure{Cause: job.QuotaExceeded, Message: message, Hint: "kubectl describe quota --all-namespaces"}
	case strings.Contains(err.Error(), uncountedQuota):
		return &job.Failure{Cause: job.QuotaExceeded, Message: message,
			Hint: "try again; if it stays so: kubectl describe quota --all-namespaces"}
	}
	return nil
}

func explainTerminating(err error, message string) *job.Failure {
	if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	return &job.Failure{Cause: job.ConfigError, Message: message,
		Hint: "wait until it is gone, then: " + InstallCommand(namespaceOf(message)) + "; or name another namespace with -n"}
}

// explainRule knows the refusal of an admission webhook, whose code is any that the webhook likes,
// and of a policy.
func explainRule(_ error, message string) *job.Failure {
	if !rulePattern.MatchString(message) {
		return nil
	}
	return &job.Failure{Cause: job.Forbidden, Message: message, Hint: ruleHint}
}

func explainWebhook(_ error, message string) *job.Failure {
	if !webhookPattern.MatchString(message) {
		return nil
	}
	return webhookDown(message)
}

func explainForbidden(err error, message string) *job.Failure {
	if !apierrors.IsForbidden(err) {
		return nil
	}
	return forbidden(message)
}

func explainUnauthorized(err error, message string) *job.Failure {
	if !apierrors.IsUnauthorized(err) {
		return nil
	}
	return &job.Failure{Cause: job.Forbidden, Message: "the cluster does not accept the credentials of this context: " + message,
		Hint: loginHint}
}

func explainExisting(err error, message string) *job.Failure {
	if !apierrors.IsAlreadyExists(err) {
		return nil
	}
	return &job.Failure{Cause: job.ConfigError, Message: message, Hint: "choose another --name, or see what is there: {hodei} jobs"}
}

// explainNamespace knows a namespace that does not exist.
func explainNamespace(err error, message string) *job.Failure {
	if !apierrors.IsNotFound(err) || !strings.HasPrefix(message, "namespaces ") {
		return nil
	}
	return &job.Failure{Cause: job.ConfigError, Message: message,
		Hint: InstallCommand(namespaceOf(message)) + ", or name another namespace with -n"}
}

// explainTrouble knows the answers of an API server that is in trouble.
func explainTrouble(err error, message string) *job.Failure {
	switch {
	case apierrors.IsServiceUnavailable(err), apierrors.IsInternalError(err), apierrors.IsTimeout(err),
		apierrors.IsServerTimeout(err), apierrors.IsTooManyRequests(err):
		return &job.Failure{Cause: job.Unknown, Message: message,
			Hint: "try again; if it stays so: kubectl get --raw '/readyz?verbose'"}
	}
	return nil
}

// explainCredentials knows a request that was not sent for lack of credentials.
func explainCredentials(err error, _ string) *job.Failure {
	lack := noCredentials(err)
	if lack == nil {
		return nil
	}
	return &job.Failure{Cause: job.Forbidden, Message: "this context has no credentials: " + oneLine(lack.Error()), Hint: loginHint}
}

// explainNetwork knows an API server that does not answer.
func explainNetwork(err error, message string) *job.Failure {
	var (
		network net.Error
		request *url.Error
	)
	if !errors.Is(err, context.DeadlineExceeded) && !errors.As(err, &request) && !errors.As(err, &network) {
		return nil
	}
	return &job.Failure{Cause: job.ConfigError, Message: "Kubernetes cluster not available: " + message,
		Hint: "check with: kubectl cluster-info; choose another with --context, or run without one: --provider local"}
}

// loginHint is for credentials that are missing or no longer good.
const loginHint = "log in anew, then: kubectl auth whoami"

// kubeconfigPattern matches what client-go says in words alone: of a context
// that the kubeconfig does not have, and of a file that is no kubeconfig.
var kubeconfigPattern = regexp.MustCompile(`^context ".*" does not exist$|^error loading config file `)

// namespacePattern matches the API server's sentences about a namespace that is not
// there, or not for long.
var namespacePattern = regexp.MustCompile(`^namespaces "([^"]+)" not found|content in namespace (\S+) because`)

// namespaceOf is the namespace that such a sentence is about; "" if it is another.
func namespaceOf(message string) string {
	if m := namespacePattern.FindStringSubmatch(message); m != nil {
		return m[1] + m[2]
	}
	return ""
}

// InstallCommand is what makes a workers' namespace, and what is in it, for a hint.
// One that install refuses to touch is left out.
func InstallCommand(namespace string) string {
	if namespace == "" || namespace == provider.DefaultNamespace || isKubernetesOwn(namespace) {
		return "{hodei} install"
	}
	return "{hodei} install --workers-namespace=" + namespace
}

// AccountHint is what makes a service account that jobs need: install makes the
// default one alone.
func AccountHint(namespace, account string) string {
	if account == provider.DefaultServiceAccount && !isKubernetesOwn(namespace) {
		return InstallCommand(namespace)
	}
	return fmt.Sprintf("kubectl create serviceaccount %s -n %s", account, namespace)
}

func isKubernetesOwn(namespace string) bool {
	return namespace == corev1.NamespaceDefault || strings.HasPrefix(namespace, "kube-")
}

// verdict is what a Pod, or an event about it, says of a start.
type verdict struct {
	// waiting is why nothing happens yet; empty: nothing is wrong.
	waiting string
	// failure ends the job: at once, or after the grace.
	failure *job.Failure
	grace   time.Duration
	// after is how long it lasts before hodei says so; 0 is sayAfter.
	after time.Duration
	// node is the one that has not taken up the Pod.
	node string
}

// explainPod says what keeps a Pod from running its command.
func explainPod(pod *corev1.Pod) verdict {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			hint := "ask for less with --cpu and --memory, or see: kubectl describe nodes"
			if name := pod.Labels[manifest.LabelProvider]; name != "" && !strings.Contains(c.Message, "Insufficient ") {
				// a node selector, a taint, a volume: the provider's, not the job's
				hint = "see what the provider asks for: {hodei} provider get " + name + ", and what there is: kubectl describe nodes"
			}
			return verdict{
				waiting: "no node takes it: " + oneLine(c.Message),
				failure: &job.Failure{Cause: job.Unschedulable, Message: "no node takes the job: " + oneLine(c.Message), Hint: hint},
				grace:   forever,
			}
		}
	}
	if untaken(pod) {
		return untakenVerdict(pod.Spec.NodeName, "")
	}
	for _, s := range pod.Status.ContainerStatuses {
		v := explainContainer(pod, s)
		if v.failure == nil {
			continue
		}
		if !doomed(pod) {
			return v
		}
		// The job's container was started without a launcher in place, and won't be
		// again. Why, the agent's container knows: its image can't be pulled, or its
		// hook, whose own words the kubelet drops, has left one in its message.
		if agent := agentEnd(pod); agent != nil && agent.Message != "" {
			v.failure.Message = "the launcher was not put in place: " + oneLine(agent.Message)
			v.failure.Hint = cmp.Or(ClockHint(v.failure.Message, pod.Namespace, pod.Labels[manifest.LabelJob]),
				"kubectl describe nodes, or another worker's image: {hodei} provider set NAME --image IMAGE")
			v.grace = 0
		} else if s.Name == manifest.AgentContainer {
			v.grace = 0
		}
		return v
	}
	return verdict{}
}

// named puts the provider's name into a hint that changes one. The current context
// has none: then one is to be added.
func (p *Provider) named(v verdict) verdict {
	if v.failure == nil {
		return v
	}
	f := *v.failure
	if f.Hint == ruleHint && p.settings.EBPF() != "" {
		f.Hint = "it may be about the agent's capabilities, without which: {hodei} provider set NAME --ebpf off; or: " + ruleHint
	}
	f.Hint = p.namedHint(f.Hint)
	v.failure = &f
	return v
}

func (p *Provider) namedHint(hint string) string {
	instead := "{hodei} provider add NAME"
	if p.settings.Provider != "" {
		instead = "{hodei} provider set " + p.settings.Provider
	}
	return strings.ReplaceAll(hint, "{hodei} provider set NAME", instead)
}

// doomed tells a Pod whose job's container the runtime could not start.
func doomed(pod *corev1.Pod) bool {
	for _, s := range pod.Status.ContainerStatuses {
		if t := s.State.Terminated; s.Name == manifest.JobContainer && t != nil && neverRan(t) {
			return true
		}
	}
	return false
}

// agentEnd is how the agent's container ended; nil: it has not.
func agentEnd(pod *corev1.Pod) *corev1.ContainerStateTerminated {
	for _, s := range pod.Status.ContainerStatuses {
		if s.Name == manifest.AgentContainer {
			return s.State.Terminated
		}
	}
	return nil
}

// neverRan tells a container that the runtime could not start.
func neverRan(t *corev1.ContainerStateTerminated) bool {
	return t.Reason == "StartError" || t.Reason == "ContainerCannotRun"
}

// agentGrace is how long the agent's container is given to say why the job's
// did not start; its status comes a relist of the kubelet later.
const agentGrace = 5 * time.Second

// forever is a grace that only the start timeout ends.
const forever = time.Duration(1<<63 - 1)

// explainEvent says what an event about a Job or a Pod means for the start.
func explainEvent(e *corev1.Event) verdict {
	message := oneLine(e.Message)
	switch e.Reason {
	case "FailedCreate": // the job controller could not make the Pod
		return explainAdmission(e.Namespace, message)
	case "FailedPostStartHook":
		return verdict{waiting: "the launcher is not in place: " + message}
	case "FailedCreatePodSandBox":
		if strings.Contains(message, "user namespaces") {
			return verdict{failure: &job.Failure{Cause: job.ConfigError,
				Message: "the node can't give the Pod a user namespace: " + strings.TrimPrefix(message, "Failed to create pod sandbox: "),
				Hint:    "{hodei} provider set NAME --host-users"}}
		}
		return verdict{waiting: idPattern.ReplaceAllString(message, " …")}
	case "FailedMount", "FailedAttachVolume":
		return verdict{waiting: message}
	}
	return verdict{}
}

// oneLine keeps text of others on one line, with nothing in it that could do
// more to a terminal than show a character: no control characters, C1 among
// them, and no marks that change the direction of writing.
func oneLine(s string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)), " ")
}
