package kubernetes

import (
	"cmp"
	"context"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
)

// webhookLook bounds the search for the configuration that names a webhook.
const webhookLook = 2 * time.Second

// named puts the provider's name into a hint that changes one. The current context
// has none: then one is to be added.
func (p *Provider) named(v explain.Verdict) explain.Verdict {
	if v.Failure == nil {
		return v
	}
	f := *v.Failure
	if f.Hint == explain.RuleHint && p.settings.EBPF() != "" {
		f.Hint = "it may be about the agent's capabilities, without which: {hodei} provider set NAME --ebpf off; or: " + explain.RuleHint
	}
	f.Hint = p.namedHint(f.Hint)
	v.Failure = &f
	return v
}

func (p *Provider) namedHint(hint string) string {
	instead := "{hodei} provider add NAME"
	if p.settings.Provider != "" {
		instead = "{hodei} provider set " + p.settings.Provider
	}
	return strings.ReplaceAll(hint, "{hodei} provider set NAME", instead)
}

// nameWebhook adds to the failure of a webhook that does not answer which
// configuration it is from, if we may read that: the API server does not say.
func (p *Provider) nameWebhook(ctx context.Context, f *job.Failure) *job.Failure {
	webhook := explain.DownWebhook(f)
	if webhook == "" {
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, webhookLook)
	defer cancel()
	configuration := p.webhookConfiguration(ctx, webhook)
	if configuration == "" {
		return f
	}
	return explain.NameWebhook(f, configuration)
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
