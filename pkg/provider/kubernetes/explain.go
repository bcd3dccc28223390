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
	"slices"
	"strings"
	"time"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
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
	f := &job.Failure{Cause: job.Unknown, Message: oneLine(err.Error()), Err: err}
	var (
		network net.Error
		request *url.Error
		file    *fs.PathError
	)
	switch {
	case clientcmd.IsEmptyConfig(err) || clientcmd.IsConfigurationInvalid(err) || clientcmd.IsContextNotFound(err) ||
		errors.As(err, &file) || kubeconfigPattern.MatchString(f.Message):
		f.Cause, f.Hint = job.ConfigError, "kubectl config get-contexts"
		if clientcmd.IsEmptyConfig(err) {
			f.Message = "no kubeconfig: there is no file at ~/.kube/config, and KUBECONFIG names none"
			f.Hint = "export KUBECONFIG=FILE, or run without a cluster: {hodei} run --provider local -- CMD"
		}
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota"):
		f.Cause, f.Hint = job.QuotaExceeded, "kubectl describe quota --all-namespaces"
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), uncountedQuota):
		f.Cause, f.Hint = job.QuotaExceeded, "try again; if it stays so: kubectl describe quota --all-namespaces"
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		f.Cause, f.Hint = job.ConfigError, "wait until it is gone, then: "+InstallCommand(namespaceOf(f.Message))+"; or name another namespace with -n"
	case rulePattern.MatchString(f.Message): // with any code, as the webhook likes
		f.Cause, f.Hint = job.Forbidden, ruleHint
	case webhookPattern.MatchString(f.Message):
		down := webhookDown(f.Message)
		down.Err = err
		return down
	case apierrors.IsForbidden(err):
		return forbidden(f)
	case apierrors.IsUnauthorized(err):
		f.Cause = job.Forbidden
		f.Message = "the cluster does not accept the credentials of this context: " + f.Message
		f.Hint = "log in anew, then: kubectl auth whoami"
	case apierrors.IsAlreadyExists(err):
		f.Cause, f.Hint = job.ConfigError, "choose another --name, or see what is there: {hodei} jobs"
	case apierrors.IsNotFound(err) && strings.HasPrefix(f.Message, "namespaces "):
		f.Cause, f.Hint = job.ConfigError, InstallCommand(namespaceOf(f.Message))+", or name another namespace with -n"
	case apierrors.IsServiceUnavailable(err), apierrors.IsInternalError(err), apierrors.IsTimeout(err),
		apierrors.IsServerTimeout(err), apierrors.IsTooManyRequests(err):
		f.Hint = "try again; if it stays so: kubectl get --raw '/readyz?verbose'"
	case noCredentials(err) != nil:
		f.Cause = job.Forbidden
		f.Message = "this context has no credentials: " + oneLine(noCredentials(err).Error())
		f.Hint = "log in anew, then: kubectl auth whoami"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &request), errors.As(err, &network):
		f.Cause = job.ConfigError
		f.Message = "Kubernetes cluster not available: " + f.Message
		f.Hint = "check with: kubectl cluster-info; choose another with --context, or run without one: --provider local"
	}
	return f
}

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
			if name := pod.Labels[LabelProvider]; name != "" && !strings.Contains(c.Message, "Insufficient ") {
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
			v.failure.Hint = cmp.Or(ClockHint(v.failure.Message, pod.Namespace, pod.Labels[LabelJob]), "kubectl describe nodes, or another worker's image: {hodei} provider set NAME --image IMAGE")
			v.grace = 0
		} else if s.Name == agentContainer {
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
	if f.Hint == ruleHint && p.settings.ebpf() != "" {
		f.Hint = "it may be about the agent's capabilities, without which: {hodei} provider set NAME --ebpf off; or: " + ruleHint
	}
	f.Hint = p.namedHint(f.Hint)
	v.failure = &f
	return v
}

func (p *Provider) namedHint(hint string) string {
	instead := "{hodei} provider add NAME"
	if p.settings.provider != "" {
		instead = "{hodei} provider set " + p.settings.provider
	}
	return strings.ReplaceAll(hint, "{hodei} provider set NAME", instead)
}

// doomed tells a Pod whose job's container the runtime could not start.
func doomed(pod *corev1.Pod) bool {
	for _, s := range pod.Status.ContainerStatuses {
		if t := s.State.Terminated; s.Name == jobContainer && t != nil && neverRan(t) {
			return true
		}
	}
	return false
}

// agentEnd is how the agent's container ended; nil: it has not.
func agentEnd(pod *corev1.Pod) *corev1.ContainerStateTerminated {
	for _, s := range pod.Status.ContainerStatuses {
		if s.Name == agentContainer {
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

// explainContainer says why a container does not start.
func explainContainer(pod *corev1.Pod, s corev1.ContainerStatus) verdict {
	namespace := pod.Namespace
	isAgent := s.Name == agentContainer
	if t := s.State.Terminated; t != nil {
		if neverRan(t) && noUserPattern.MatchString(t.Message) {
			return verdict{failure: noUser(pod, s.Name, t.Message)}
		}
		if f := badVariable(pod, s.Name, t.Message); neverRan(t) && f != nil {
			return verdict{failure: f}
		}
		if !isAgent && neverRan(t) {
			f := &job.Failure{Cause: job.AgentLost, Message: "the job's container could not be started: " + startError(t.Message),
				Hint: "check that the worker's image is the one of this version: {hodei} version"}
			switch {
			case strings.Contains(t.Message, "OOM-killed"), strings.Contains(t.Message, "unable to set memory limit"):
				f.Cause, f.Hint = job.OOMKilled, "run it again with more memory: --memory SIZE"
				return verdict{failure: f}
			case !strings.Contains(t.Message, LauncherPath): // then it is the user's choice that the runtime can't do
				f.Cause, f.Hint = job.ConfigError, "check the image's WORKDIR and --user, and see: kubectl get events -n "+namespace
				return verdict{failure: f}
			}
			return verdict{waiting: "the job's container did not start", failure: f, grace: agentGrace}
		}
		return verdict{}
	}
	w := s.State.Waiting
	if w == nil {
		return verdict{}
	}
	reason := fmt.Sprintf("image %q can't be pulled: %s", s.Image, pullError(w.Message))
	switch w.Reason {
	case "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable":
		if strings.Contains(w.Message, "failed to parse image reference") || strings.Contains(w.Message, "invalid reference format") {
			return verdict{failure: &job.Failure{Cause: job.InvalidImage, Message: fmt.Sprintf("image %q is not a valid image name", s.Image),
				Hint: "image names look like registry.example/name:tag, in lower case"}}
		}
		f := &job.Failure{Cause: job.ImagePull, Message: reason,
			Hint: "check the tag, or add a pull secret: {hodei} provider set NAME --image-pull-secret SECRET"}
		if isAgent {
			f.Message = "the worker's " + f.Message
			f.Hint = fmt.Sprintf("build it: docker build -f Dockerfile.worker -t %[1]s . && kind load docker-image %[1]s (or: minikube image load %[1]s)", s.Image)
			if alwaysPulled(pod, s.Name) {
				f.Hint += "; then {hodei} provider set NAME --image-pull-policy IfNotPresent"
			}
		}
		grace := pullGrace
		if w.Reason == "ErrImageNeverPull" {
			grace = 0
		}
		return verdict{waiting: reason, failure: f, grace: grace}
	case "InvalidImageName":
		return verdict{failure: &job.Failure{Cause: job.InvalidImage, Message: fmt.Sprintf("image %q is not a valid image name", s.Image),
			Hint: "image names look like registry.example/name:tag"}}
	case "CreateContainerConfigError":
		f := &job.Failure{Cause: job.ConfigError, Message: oneLine(w.Message), Hint: "kubectl get secrets,configmaps -n " + namespace}
		if strings.Contains(w.Message, "runAsNonRoot") || strings.Contains(w.Message, "non-numeric user") {
			f.Message = fmt.Sprintf("image %q: %s", s.Image, oneLine(w.Message))
			f.Hint = "run it again with a user id: --user 65532"
		}
		if strings.Contains(w.Message, "timed out waiting") { // the kubelet's cache is late
			return verdict{waiting: f.Message, failure: f, grace: pullGrace}
		}
		return verdict{failure: f}
	case "CreateContainerError", "RunContainerError", "PostStartHookError":
		if noUserPattern.MatchString(w.Message) {
			return verdict{failure: noUser(pod, s.Name, w.Message)}
		}
		if f := badVariable(pod, s.Name, w.Message); f != nil {
			return verdict{failure: f}
		}
		said := idPattern.ReplaceAllString(oneLine(w.Message), " …")
		return verdict{waiting: said, grace: pullGrace, failure: &job.Failure{Cause: job.AgentLost,
			Message: fmt.Sprintf("container %s could not be started: %s", s.Name, said), Hint: "kubectl describe pods -l hodei.io/job -n " + namespace}}
	}
	return verdict{}
}

// noUserPattern matches what runc and crun say of a uid that the node does not have. A node
// whose kubelet itself runs in a user namespace usually has 65536 uids.
var noUserPattern = regexp.MustCompile(`unable to setup user: |setres[ug]id|unmapped (?:user|[ug]id)`)

// noUser explains a container that can't run as its user.
func noUser(pod *corev1.Pod, name, said string) *job.Failure {
	as := "its user"
	for _, c := range pod.Spec.Containers {
		if c.Name == name && c.SecurityContext != nil && c.SecurityContext.RunAsUser != nil {
			as = fmt.Sprintf("uid %d", *c.SecurityContext.RunAsUser)
		}
	}
	return &job.Failure{Cause: job.ConfigError, Message: fmt.Sprintf("the node can't run container %s as %s: %s", name, as, startError(said)),
		Hint: fmt.Sprintf("run it again as one that every node has: --user %d; all jobs: {hodei} provider set NAME --user %[1]d", agentUser)}
}

// badVariable explains a container that can't start because of a variable's value; nil: the
// reason is another one. The value is of --env-from, since run checks all others. The runtime
// quotes it, and it may be a Secret's, so it is not shown.
func badVariable(pod *corev1.Pod, name, said string) *job.Failure {
	var what string
	switch {
	case strings.Contains(said, "string field contains invalid UTF-8"): // gRPC, between kubelet and runtime
		what = "a value that is not UTF-8"
	case strings.Contains(said, "can't contain null") || strings.Contains(said, "NulError"): // runc, crun and youki
		what = "a value with a NUL byte"
	default:
		return nil
	}
	source := "a variable of container " + name
	for _, c := range pod.Spec.Containers {
		var from []string
		for _, e := range c.EnvFrom {
			switch {
			case e.SecretRef != nil:
				from = append(from, "secret/"+e.SecretRef.Name)
			case e.ConfigMapRef != nil:
				from = append(from, "configmap/"+e.ConfigMapRef.Name)
			}
		}
		if c.Name == name && len(from) > 0 {
			source = "--env-from " + strings.Join(from, ", ")
		}
	}
	return &job.Failure{Cause: job.ConfigError, Message: fmt.Sprintf("%s has %s, which no variable can carry", source, what),
		Hint: "mount it as a file: docs/providers.md#volumes"}
}

// alwaysPulled tells whether a node that has a container's image asks the registry for it all the same.
func alwaysPulled(pod *corev1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == name && c.ImagePullPolicy == corev1.PullAlways })
}

// pullError cuts a runtime's message to what the registry said: the runtime
// wraps it in its own words, and repeats the image at every level.
func pullError(message string) string {
	message = oneLine(message)
	if _, rest, ok := strings.Cut(message, "ErrImagePull: "); ok {
		message = rest
	}
	if rest := message[len(pullPrefix.FindString(message)):]; rest != "" {
		return rest
	}
	return message
}

// pullPrefix matches what the kubelet and containerd put before a registry's words.
var pullPrefix = regexp.MustCompile(`^(?:rpc error: code = \w+ desc = )?(?:failed to pull and unpack image "[^"]*": )?` +
	`(?:failed to (?:resolve reference|copy|extract layer)(?: "[^"]*")?: )?(?:failed to do request: )?`)

// startError cuts the runtime's long story to its last part.
func startError(message string) string {
	message = oneLine(message)
	if i := strings.LastIndex(message, "exec: "); i >= 0 {
		message = message[i:]
	} else if _, rest, ok := strings.Cut(message, "error during container init: "); ok {
		message = rest
	} else if _, rest, ok := strings.Cut(message, "unable to start container process: "); ok {
		message = rest
	}
	return strings.TrimSuffix(message, ": unknown")
}

// idPattern matches the runtime's name for a sandbox or a container, which is another one
// with every try, and says nothing.
var idPattern = regexp.MustCompile(` "[0-9a-f]{64}"`)

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
			return verdict{failure: &job.Failure{Cause: job.ConfigError, Message: "the node can't give the Pod a user namespace: " + strings.TrimPrefix(message, "Failed to create pod sandbox: "),
				Hint: "{hodei} provider set NAME --host-users"}}
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
