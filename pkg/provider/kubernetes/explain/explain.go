// Package explain says in words what keeps a job from starting, or hodei from its cluster, and what to
// type about it. Start with [Error], for errors of the API server and of the way to it, and with [Pod]
// and [Event], which give the [Verdict] on a start. All of it reads what it is given, and asks no
// cluster: a hint says {hodei} for the program's name and NAME for the provider's, which callers put in.
package explain

import (
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
)

// pullGrace is how long an image that can't be pulled is given: registries
// have bad seconds, and the kubelet tries again after 10 s and 20 s.
const pullGrace = 30 * time.Second

// Error turns an error of the API server, of the way to it, or of the
// kubeconfig into a Failure with a hint. It keeps kubectl's wording. A nil
// error gives nil; what it does not know keeps its text and gets no hint.
func Error(err error) *job.Failure {
	if err == nil {
		return nil
	}
	var known *job.Failure
	if errors.As(err, &known) {
		return known
	}
	message := OneLine(err.Error())
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
			Hint:    "export KUBECONFIG=FILE; without a cluster there is {hodei} run --provider local -- COMMAND"}
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
	return &job.Failure{Cause: job.Forbidden, Message: message, Hint: RuleHint}
}

func explainWebhook(_ error, message string) *job.Failure {
	if !webhookPattern.MatchString(message) {
		return nil
	}
	return WebhookDown(message)
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
	hint := "choose another --name, or see what is there: {hodei} jobs"
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Details != nil && status.Status().Details.Kind == "jobs" {
		hint = "delete that job first with --replace, or choose another --name; to see it: {hodei} describe " + status.Status().Details.Name
	}
	return &job.Failure{Cause: job.ConfigError, Message: message, Hint: hint}
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
	lack := LackingCredentials(err)
	if lack == nil {
		return nil
	}
	return &job.Failure{Cause: job.Forbidden, Message: "this context has no credentials: " + OneLine(lack.Error()), Hint: loginHint}
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
		Hint: "check with: kubectl cluster-info; choose another with --context"}
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

// OneLine keeps text of others on one line, with nothing in it that could do
// more to a terminal than show a character: no control characters, C1 among
// them, and no marks that change the direction of writing.
func OneLine(s string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)), " ")
}

// credentialsPattern matches what client-go says of a credential plugin, an OpenID Connect
// login and a token's file that give it no credentials.
var credentialsPattern = regexp.MustCompile(`^getting credentials: |^failed to refresh token: ` +
	`|^No valid id-token, |^failed to read token file `)

// LackingCredentials is why a request was not sent for lack of credentials; nil: that is not so.
func LackingCredentials(err error) error {
	if request, ok := errors.AsType[*url.Error](err); ok && credentialsPattern.MatchString(request.Err.Error()) {
		return request.Err
	}
	return nil
}
