package explain

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

// explainContainer says why a container does not start.
func explainContainer(pod *corev1.Pod, s corev1.ContainerStatus) Verdict {
	switch {
	case s.State.Terminated != nil:
		return explainTerminated(pod, s.Name, s.State.Terminated)
	case s.State.Waiting != nil:
		return explainWaiting(pod, s, s.State.Waiting)
	}
	return Verdict{}
}

// explainTerminated explains a container that has ended; nothing is wrong with one that has run.
func explainTerminated(pod *corev1.Pod, name string, t *corev1.ContainerStateTerminated) Verdict {
	if !NeverRan(t) {
		return Verdict{}
	}
	if f := unfit(pod, name, t.Message); f != nil {
		return Verdict{Failure: f}
	}
	if name == manifest.AgentContainer {
		return Verdict{}
	}
	f := &job.Failure{Cause: job.AgentLost, Message: "the job's container could not be started: " + StartError(t.Message),
		Hint: "check that the worker's image is the one of this version: {hodei} version"}
	switch {
	case strings.Contains(t.Message, "OOM-killed"), strings.Contains(t.Message, "unable to set memory limit"):
		f.Cause, f.Hint = job.OOMKilled, "run it again with more memory: --memory SIZE"
		return Verdict{Failure: f}
	case !strings.Contains(t.Message, manifest.LauncherPath): // then it is the user's choice that the runtime can't do
		f.Cause, f.Hint = job.ConfigError, "check the image's WORKDIR and --user, and see: kubectl get events -n "+pod.Namespace
		return Verdict{Failure: f}
	}
	return Verdict{Waiting: "the job's container did not start", Failure: f, Grace: agentGrace}
}

// explainWaiting explains a container that the kubelet can't start, or not yet.
func explainWaiting(pod *corev1.Pod, s corev1.ContainerStatus, w *corev1.ContainerStateWaiting) Verdict {
	switch w.Reason {
	case "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable":
		return explainPull(pod, s, w)
	case "InvalidImageName":
		return invalidImage(s.Image, "image names look like registry.example/name:tag")
	case "CreateContainerConfigError":
		return explainConfig(pod.Namespace, s.Image, w.Message)
	case "CreateContainerError", "RunContainerError", "PostStartHookError":
		if f := unfit(pod, s.Name, w.Message); f != nil {
			return Verdict{Failure: f}
		}
		said := idPattern.ReplaceAllString(OneLine(w.Message), " …")
		return Verdict{Waiting: said, Grace: pullGrace, Failure: &job.Failure{Cause: job.AgentLost,
			Message: fmt.Sprintf("container %s could not be started: %s", s.Name, said),
			Hint:    "kubectl describe pods -l hodei.io/job -n " + pod.Namespace}}
	}
	return Verdict{}
}

// explainPull explains an image that can't be pulled.
func explainPull(pod *corev1.Pod, s corev1.ContainerStatus, w *corev1.ContainerStateWaiting) Verdict {
	if strings.Contains(w.Message, "failed to parse image reference") || strings.Contains(w.Message, "invalid reference format") {
		return invalidImage(s.Image, "image names look like registry.example/name:tag, in lower case")
	}
	reason := fmt.Sprintf("image %q can't be pulled: %s", s.Image, pullError(w.Message))
	f := &job.Failure{Cause: job.ImagePull, Message: reason,
		Hint: "check the tag, or add a pull secret: {hodei} provider set NAME --image-pull-secret SECRET"}
	if s.Name == manifest.AgentContainer {
		f.Message = "the worker's " + f.Message
		f.Hint = fmt.Sprintf("build it: docker build -f Dockerfile.worker -t %[1]s . && "+
			"kind load docker-image %[1]s (or: minikube image load %[1]s)", s.Image)
		if alwaysPulled(pod, s.Name) {
			f.Hint += "; then {hodei} provider set NAME --image-pull-policy IfNotPresent"
		}
	}
	grace := pullGrace
	if w.Reason == "ErrImageNeverPull" {
		grace = 0
	}
	return Verdict{Waiting: reason, Failure: f, Grace: grace}
}

func invalidImage(image, hint string) Verdict {
	return Verdict{Failure: &job.Failure{
		Cause: job.InvalidImage, Message: fmt.Sprintf("image %q is not a valid image name", image), Hint: hint,
	}}
}

// explainConfig explains what the kubelet says of a container's settings.
func explainConfig(namespace, image, said string) Verdict {
	f := &job.Failure{Cause: job.ConfigError, Message: OneLine(said), Hint: "kubectl get secrets,configmaps -n " + namespace}
	if strings.Contains(said, "runAsNonRoot") || strings.Contains(said, "non-numeric user") {
		f.Message = fmt.Sprintf("image %q: %s", image, OneLine(said))
		f.Hint = "run it again with a user id: --user 65532"
	}
	if strings.Contains(said, "timed out waiting") { // the kubelet's cache is late
		return Verdict{Waiting: f.Message, Failure: f, Grace: pullGrace}
	}
	return Verdict{Failure: f}
}

// unfit explains a container that can't run as its user, or with its variables; nil: said is about
// something else.
func unfit(pod *corev1.Pod, name, said string) *job.Failure {
	if noUserPattern.MatchString(said) {
		return noUser(pod, name, said)
	}
	return badVariable(pod, name, said)
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
	return &job.Failure{Cause: job.ConfigError,
		Message: fmt.Sprintf("the node can't run container %s as %s: %s", name, as, StartError(said)),
		Hint: fmt.Sprintf("run it again as one that every node has: --user %d; "+
			"all jobs: {hodei} provider set NAME --user %[1]d", manifest.AgentUser)}
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
	return slices.ContainsFunc(pod.Spec.Containers,
		func(c corev1.Container) bool { return c.Name == name && c.ImagePullPolicy == corev1.PullAlways })
}

// pullError cuts a runtime's message to what the registry said: the runtime
// wraps it in its own words, and repeats the image at every level.
func pullError(message string) string {
	message = OneLine(message)
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

// StartError cuts the runtime's long story of a container that did not start to its last part, on one line.
func StartError(message string) string {
	message = OneLine(message)
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
