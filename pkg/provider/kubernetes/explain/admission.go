package explain

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

const (
	// webhookGrace is how long an admission webhook that can't be reached is given: one
	// that is being replaced is back within some seconds.
	webhookGrace = 30 * time.Second
	// quotaGrace is how long a quota is given whose use is not counted yet: that of a new
	// one is within seconds, unless it bounds a kind that the cluster does not have.
	quotaGrace = 30 * time.Second
)

// refusedPattern matches what the job controller puts before a refusal: the Pod's name
// is another one with every try, and says nothing.
var refusedPattern = regexp.MustCompile(`^Error creating: (?:[Pp]ods? "[^"]*" is (forbidden|invalid): )?`)

// limitPattern matches a LimitRange's refusal.
var limitPattern = regexp.MustCompile(`(?:usage|ratio) per (?:Container|Pod) is`)

// defaultPattern matches a request above a limit. hodei makes no such container: the
// limit is a LimitRange's default.
var defaultPattern = regexp.MustCompile(`must be less than or equal to \S+ limit`)

// quotaPattern matches a ResourceQuota's refusal.
var quotaPattern = regexp.MustCompile(`exceeded quota: \S+, requested: (\S+), used: \S+, limited: (\S+)`)

// uidPattern matches a refusal of a fixed user: OpenShift's, whose security context
// constraints give every namespace a range of its own, and what is worded like it.
// What else such constraints refuse is matched by rulePattern.
var uidPattern = regexp.MustCompile(`runAsUser: Invalid value: \d+: must be in the range`)

// rulePattern matches what admission webhooks, policies and OpenShift put before their words.
var rulePattern = regexp.MustCompile(`unable to validate against any security context constraint` +
	`|admission webhook ".*" denied the request|ValidatingAdmissionPolicy '.*' with binding '.*' denied request`)

// webhookPattern matches what the API server says of a webhook that does not answer.
var webhookPattern = regexp.MustCompile(`failed calling webhook "([^"]*)": (?:failed to call webhook: )?(.*)`)

// accountPattern matches a service account that is not there.
var accountPattern = regexp.MustCompile(`serviceaccount "([^"]+)" not found`)

// uncountedQuota is in the refusal of a quota whose use is not counted yet.
const uncountedQuota = "status unknown for quota"

// priorityPattern and runtimePattern match the refusals of a class that is not there.
var (
	priorityPattern = regexp.MustCompile(`(?i)no PriorityClass with name (\S+) was found`)
	runtimePattern  = regexp.MustCompile(`RuntimeClass "([^"]+)" not found`)
)

// RuleHint is for refusals of which nothing is known but their words.
const RuleHint = "this is a rule of the cluster; to see the Job that it refuses: {hodei} run --dry-run=client -o yaml -- CMD; " +
	"or run in another namespace, -n"

// explainAdmission says from the job controller's event what it means that it could not make
// the Pod. The controller goes on trying, with a back-off. Some reasons may pass by themselves
// and are waited for: a full quota, a quota that is not counted yet, a webhook that is away.
// All others end the start at once.
func explainAdmission(namespace, message string) Verdict {
	said := refusedPattern.ReplaceAllString(message, "")
	if m := refusedPattern.FindStringSubmatch(message); m != nil && m[1] != "" {
		said = "the Pod is " + m[1] + ": " + said
	}
	for _, explain := range []func(namespace, said string) Verdict{
		refusedReference, refusedByQuota, refusedByLimits, refusedByRule, refusedOtherwise,
	} {
		if v := explain(namespace, said); v.Failure != nil {
			return v
		}
	}
	return Verdict{Waiting: said}
}

// final is the verdict of a refusal that does not pass by itself.
func final(cause job.Cause, said, hint string) Verdict {
	return Verdict{Failure: &job.Failure{Cause: cause, Message: said, Hint: hint}}
}

// refusedReference explains a Pod that names an object that does not exist.
func refusedReference(namespace, said string) Verdict {
	switch {
	case accountPattern.MatchString(said):
		m := accountPattern.FindStringSubmatch(said)
		return final(job.ConfigError, fmt.Sprintf("%s in namespace %q", m[0], namespace),
			AccountHint(namespace, m[1])+", or name another: {hodei} provider set NAME --service-account ACCOUNT")
	case priorityPattern.MatchString(said):
		return final(job.ConfigError, said,
			"name one that is there: {hodei} provider set NAME --priority-class CLASS; which are: kubectl get priorityclasses")
	case runtimePattern.MatchString(said):
		return final(job.ConfigError, said,
			"name one that is there: {hodei} provider set NAME --runtime-class CLASS; which are: kubectl get runtimeclasses")
	}
	return Verdict{}
}

// refusedByQuota explains what a ResourceQuota refuses.
func refusedByQuota(namespace, said string) Verdict {
	describe := "kubectl describe quota -n " + namespace
	switch {
	case strings.Contains(said, uncountedQuota):
		v := final(job.QuotaExceeded, said, describe)
		v.Waiting, v.Grace = said, quotaGrace
		return v
	case strings.Contains(said, "exceeded quota"):
		if beyond := beyondQuota(said); beyond != "" {
			return final(job.QuotaExceeded, said+"; the quota has room for no such job: "+beyond,
				"ask for less with --cpu and --memory; what there is: "+describe)
		}
		v := final(job.QuotaExceeded, said, describe)
		v.Waiting, v.Grace = said, forever
		return v
	case strings.Contains(said, "failed quota"): // no amount of waiting adds the limit that it asks for
		return final(job.QuotaExceeded, said, "say how much with --cpu and --memory, and give the agent a default with a LimitRange: "+
			"kubectl describe quota,limitrange -n "+namespace)
	}
	return Verdict{}
}

// refusedByLimits explains what a LimitRange refuses, or brings about.
func refusedByLimits(namespace, said string) Verdict {
	describe := "kubectl describe limitrange -n " + namespace
	switch {
	case limitPattern.MatchString(said):
		return final(job.QuotaExceeded, "a LimitRange refuses the Pod: "+strings.TrimPrefix(said, "the Pod is forbidden: "), describe)
	case defaultPattern.MatchString(said):
		return final(job.QuotaExceeded, said+"; that limit is a LimitRange's default", describe)
	}
	return Verdict{}
}

// refusedByRule explains what Pod Security, a security context constraint, a policy or a webhook
// refuses.
func refusedByRule(_, said string) Verdict {
	switch {
	case RefusesEBPF(said): // whatever else is wrong, it would not be without
		return Verdict{Failure: ebpfRefused(said)}
	case strings.Contains(said, "violates PodSecurity"):
		return final(job.Forbidden, said, "run it again as another user than root, --user 65532, or in another namespace, -n")
	case uidPattern.MatchString(said):
		return final(job.Forbidden, said,
			"leave the user to the cluster: --user image; for all jobs: {hodei} provider set NAME --user image")
	case rulePattern.MatchString(said):
		return final(job.Forbidden, said, RuleHint)
	case webhookPattern.MatchString(said):
		f := WebhookDown(said)
		return Verdict{Waiting: f.Message, Failure: f, Grace: webhookGrace}
	}
	return Verdict{}
}

// refusedOtherwise explains refusals of which little is known.
func refusedOtherwise(namespace, said string) Verdict {
	switch {
	case strings.Contains(said, "is being terminated"):
		return final(job.ConfigError, said, "run it in another namespace, -n; when this one is gone: "+InstallCommand(namespace))
	case strings.HasPrefix(said, "the Pod is invalid"):
		return final(job.ConfigError, said, "{hodei} run --dry-run=client -o yaml -- CMD")
	case strings.Contains(said, "forbidden") || strings.Contains(said, "denied"):
		return final(job.Forbidden, said, "kubectl get events -n "+namespace)
	}
	return Verdict{}
}

// beyondQuota names the requests of a job that, by a quota's refusal, exceed the whole quota;
// "": none.
func beyondQuota(refusal string) string {
	m := quotaPattern.FindStringSubmatch(refusal)
	if m == nil {
		return ""
	}
	limits := quantities(m[2])
	var beyond []string
	for name, asked := range quantities(m[1]) {
		if limit, ok := limits[name]; ok && asked.Cmp(limit) > 0 {
			beyond = append(beyond, fmt.Sprintf("%s %s of %s", name, asked.String(), limit.String()))
		}
	}
	slices.Sort(beyond)
	return strings.Join(beyond, ", ")
}

// quantities reads a list such as "limits.memory=1Gi,pods=2".
func quantities(list string) map[string]resource.Quantity {
	all := map[string]resource.Quantity{}
	for item := range strings.SplitSeq(list, ",") {
		name, value, _ := strings.Cut(item, "=")
		if q, err := resource.ParseQuantity(value); err == nil {
			all[name] = q
		}
	}
	return all
}

// WebhookDown is the failure of a webhook that does not answer, by the API server's message, which
// webhookPattern must match.
func WebhookDown(message string) *job.Failure {
	m := webhookPattern.FindStringSubmatch(message)
	return &job.Failure{Cause: job.ConfigError, Message: fmt.Sprintf("admission webhook %q does not answer: %s", m[1], m[2]),
		Hint: "an administrator has to mend or remove it: kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations"}
}

// downPattern matches the beginning of WebhookDown's message.
var downPattern = regexp.MustCompile(`^admission webhook "([^"]*)" does not answer`)

// DownWebhook is the name of the webhook that f says does not answer; "": f is about something else.
func DownWebhook(f *job.Failure) string {
	if m := downPattern.FindStringSubmatch(f.Message); m != nil {
		return m[1]
	}
	return ""
}

// NameWebhook returns f, of a webhook that does not answer, with the configuration that the webhook is from,
// as kubectl takes it. It changes a copy.
func NameWebhook(f *job.Failure, configuration string) *job.Failure {
	named := *f
	named.Message = downPattern.ReplaceAllString(f.Message, `admission webhook "$1" of `+configuration+` does not answer`)
	named.Hint = "an administrator has to mend or remove it: kubectl describe " + configuration
	return &named
}

// ebpfPattern matches a refusal of the agent's capabilities: Pod Security's, and that of
// OpenShift's security context constraints. No other container is ever given them.
var ebpfPattern = regexp.MustCompile(`container "` + manifest.AgentContainer + `" must not include "BPF"` +
	`|capabilities\.add: Invalid value: "(?:BPF|PERFMON|NET_ADMIN)"`)

// RefusesEBPF says whether a refusal, or a warning, is about the agent's capabilities.
func RefusesEBPF(message string) bool { return ebpfPattern.MatchString(message) }

// ebpfRefused explains why a Pod was not made, if it is for the agent's capabilities.
func ebpfRefused(message string) *job.Failure {
	return &job.Failure{Cause: job.Forbidden, Message: message, Hint: "let its jobs run without eBPF: {hodei} provider set NAME --ebpf off"}
}
