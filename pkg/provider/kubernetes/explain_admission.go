package kubernetes

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/job"
)

const (
	// webhookGrace is how long an admission webhook that can't be reached is given: one
	// that is being replaced is back within some seconds.
	webhookGrace = 30 * time.Second
	// quotaGrace is how long a quota is given whose use is not counted yet: that of a new
	// one is within seconds, unless it bounds a kind that the cluster does not have.
	quotaGrace = 30 * time.Second
	// webhookLook bounds the search for the configuration that names a webhook.
	webhookLook = 2 * time.Second
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

// ruleHint is for refusals of which nothing is known but their words.
const ruleHint = "this is a rule of the cluster; to see the Job that it refuses: {hodei} run --dry-run=client -o yaml -- CMD; " +
	"or run in another namespace, -n"

// explainAdmission says from the job controller's event what it means that it could not make
// the Pod. The controller goes on trying, with a back-off. Some reasons may pass by themselves
// and are waited for: a full quota, a quota that is not counted yet, a webhook that is away.
// All others end the start at once.
func explainAdmission(namespace, message string) verdict {
	said := refusedPattern.ReplaceAllString(message, "")
	if m := refusedPattern.FindStringSubmatch(message); m != nil && m[1] != "" {
		said = "the Pod is " + m[1] + ": " + said
	}
	for _, explain := range []func(namespace, said string) verdict{
		refusedReference, refusedByQuota, refusedByLimits, refusedByRule, refusedOtherwise,
	} {
		if v := explain(namespace, said); v.failure != nil {
			return v
		}
	}
	return verdict{waiting: said}
}

// final is the verdict of a refusal that does not pass by itself.
func final(cause job.Cause, said, hint string) verdict {
	return verdict{failure: &job.Failure{Cause: cause, Message: said, Hint: hint}}
}

// refusedReference explains a Pod that names an object that does not exist.
func refusedReference(namespace, said string) verdict {
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
	return verdict{}
}

// refusedByQuota explains what a ResourceQuota refuses.
func refusedByQuota(namespace, said string) verdict {
	describe := "kubectl describe quota -n " + namespace
	switch {
	case strings.Contains(said, uncountedQuota):
		v := final(job.QuotaExceeded, said, describe)
		v.waiting, v.grace = said, quotaGrace
		return v
	case strings.Contains(said, "exceeded quota"):
		if beyond := beyondQuota(said); beyond != "" {
			return final(job.QuotaExceeded, said+"; the quota has room for no such job: "+beyond,
				"ask for less with --cpu and --memory; what there is: "+describe)
		}
		v := final(job.QuotaExceeded, said, describe)
		v.waiting, v.grace = said, forever
		return v
	case strings.Contains(said, "failed quota"): // no amount of waiting adds the limit that it asks for
		return final(job.QuotaExceeded, said, "say how much with --cpu and --memory, and give the agent a default with a LimitRange: "+
			"kubectl describe quota,limitrange -n "+namespace)
	}
	return verdict{}
}

// refusedByLimits explains what a LimitRange refuses, or brings about.
func refusedByLimits(namespace, said string) verdict {
	describe := "kubectl describe limitrange -n " + namespace
	switch {
	case limitPattern.MatchString(said):
		return final(job.QuotaExceeded, "a LimitRange refuses the Pod: "+strings.TrimPrefix(said, "the Pod is forbidden: "), describe)
	case defaultPattern.MatchString(said):
		return final(job.QuotaExceeded, said+"; that limit is a LimitRange's default", describe)
	}
	return verdict{}
}

// refusedByRule explains what Pod Security, a security context constraint, a policy or a webhook
// refuses.
func refusedByRule(_, said string) verdict {
	switch {
	case RefusesEBPF(said): // whatever else is wrong, it would not be without
		return verdict{failure: ebpfRefused(said)}
	case strings.Contains(said, "violates PodSecurity"):
		return final(job.Forbidden, said, "run it again as another user than root, --user 65532, or in another namespace, -n")
	case uidPattern.MatchString(said):
		return final(job.Forbidden, said,
			"leave the user to the cluster: --user image; for all jobs: {hodei} provider set NAME --user image")
	case rulePattern.MatchString(said):
		return final(job.Forbidden, said, ruleHint)
	case webhookPattern.MatchString(said):
		f := webhookDown(said)
		return verdict{waiting: f.Message, failure: f, grace: webhookGrace}
	}
	return verdict{}
}

// refusedOtherwise explains refusals of which little is known.
func refusedOtherwise(namespace, said string) verdict {
	switch {
	case strings.Contains(said, "is being terminated"):
		return final(job.ConfigError, said, "run it in another namespace, -n; when this one is gone: "+InstallCommand(namespace))
	case strings.HasPrefix(said, "the Pod is invalid"):
		return final(job.ConfigError, said, "{hodei} run --dry-run=client -o yaml -- CMD")
	case strings.Contains(said, "forbidden") || strings.Contains(said, "denied"):
		return final(job.Forbidden, said, "kubectl get events -n "+namespace)
	}
	return verdict{}
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

// webhookDown is the failure of a webhook that does not answer, by a message that
// webhookPattern matches.
func webhookDown(message string) *job.Failure {
	m := webhookPattern.FindStringSubmatch(message)
	return &job.Failure{Cause: job.ConfigError, Message: fmt.Sprintf("admission webhook %q does not answer: %s", m[1], m[2]),
		Hint: "an administrator has to mend or remove it: kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations"}
}

// downPattern matches the beginning of webhookDown's message.
var downPattern = regexp.MustCompile(`^admission webhook "([^"]*)" does not answer`)

// nameWebhook adds to the failure of a webhook that does not answer which
// configuration it is from, if we may read that: the API server does not say.
func (p *Provider) nameWebhook(ctx context.Context, f *job.Failure) *job.Failure {
	m := downPattern.FindStringSubmatch(f.Message)
	if m == nil {
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, webhookLook)
	defer cancel()
	object := p.webhookConfiguration(ctx, m[1])
	if object == "" {
		return f
	}
	named := *f
	named.Message = strings.Replace(f.Message, m[0], fmt.Sprintf("admission webhook %q of %s does not answer", m[1], object), 1)
	named.Hint = "an administrator has to mend or remove it: kubectl describe " + object
	return &named
}

// webhookConfiguration is the object that a webhook of that name stands in, as kubectl
// takes it; "": none that we may see.
func (p *Provider) webhookConfiguration(ctx context.Context, webhook string) string {
	registered := p.client.AdmissionregistrationV1()
	found := ""
	if list, err := registered.ValidatingWebhookConfigurations().List(ctx, metav1.ListOptions{}); err == nil {
		for _, c := range list.Items {
			for _, w := range c.Webhooks {
				if w.Name == webhook {
					found = cmp.Or(found, "validatingwebhookconfiguration/"+c.Name)
				}
			}
		}
	}
	if list, err := registered.MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{}); err == nil && found == "" {
		for _, c := range list.Items {
			for _, w := range c.Webhooks {
				if w.Name == webhook {
					found = cmp.Or(found, "mutatingwebhookconfiguration/"+c.Name)
				}
			}
		}
	}
	return found
}
