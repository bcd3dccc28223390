package kubernetes

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

// TestNameWebhook: the configuration of a webhook that does not answer is named to who
// may read it.
func TestNameWebhook(t *testing.T) {
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }
	validating := &admissionregistrationv1.ValidatingWebhookConfigurationList{}
	validating.Items = []admissionregistrationv1.ValidatingWebhookConfiguration{
		{ObjectMeta: named("others"), Webhooks: []admissionregistrationv1.ValidatingWebhook{{Name: "o.example"}, {Name: "v.example"}}},
	}
	mutating := &admissionregistrationv1.MutatingWebhookConfigurationList{Items: []admissionregistrationv1.MutatingWebhookConfiguration{
		{ObjectMeta: named("injector"), Webhooks: []admissionregistrationv1.MutatingWebhook{{Name: "m.example"}}},
	}}
	for _, test := range []struct {
		name, webhook, message, hint string
		denied                       bool
	}{
		{name: "validating", webhook: "v.example",
			message: `admission webhook "v.example" of validatingwebhookconfiguration/others does not answer: refused`,
			hint:    "kubectl describe validatingwebhookconfiguration/others"},
		{name: "mutating", webhook: "m.example",
			message: `admission webhook "m.example" of mutatingwebhookconfiguration/injector does not answer: refused`,
			hint:    "kubectl describe mutatingwebhookconfiguration/injector"},
		{name: "unknown", webhook: "x.example", message: `admission webhook "x.example" does not answer: refused`,
			hint: "kubectl get validatingwebhookconfigurations,"},
		{name: "no right", webhook: "v.example", denied: true, message: `admission webhook "v.example" does not answer: refused`,
			hint: "kubectl get validatingwebhookconfigurations,"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case test.denied:
					refuse(w, http.StatusForbidden, metav1.StatusReasonForbidden, "no")
				case strings.HasSuffix(r.URL.Path, "/validatingwebhookconfigurations"):
					respond(w, http.StatusOK, validating)
				default:
					respond(w, http.StatusOK, mutating)
				}
			}))
			defer server.Close()
			p, err := New(Options{Config: configOf(server)})
			if err != nil {
				t.Fatal(err)
			}
			f := p.nameWebhook(t.Context(),
				explain.WebhookDown(`failed calling webhook "`+test.webhook+`": failed to call webhook: refused`))
			if f.Cause != job.ConfigError || f.Message != test.message || !strings.Contains(f.Hint, test.hint) {
				t.Errorf("got %s: %s\n%s", f.Cause, f.Message, f.Hint)
			}
		})
	}
}

// A hint that changes the provider names it, and one of no provider adds one.
func TestNamed(t *testing.T) {
	for _, test := range []struct{ name, provider, hint, want string }{
		{"set", "prod", "one, or {hodei} provider set NAME --user image", "one, or {hodei} provider set prod --user image"},
		{"none", "", "{hodei} provider set NAME --user image", "{hodei} provider add NAME --user image"},
		{"another hint", "prod", "kubectl get events", "kubectl get events"},
	} {
		t.Run(test.name, func(t *testing.T) {
			given := &job.Failure{Hint: test.hint}
			p := &Provider{settings: manifest.Settings{Provider: test.provider}}
			if got := p.named(explain.Verdict{Failure: given}).Failure; got.Hint != test.want || given.Hint != test.hint {
				t.Errorf("got %q, want %q; what was given: %q", got.Hint, test.want, given.Hint)
			}
			if got := p.named(explain.Verdict{Waiting: "x"}); got.Failure != nil || got.Waiting != "x" {
				t.Errorf("without a failure: %+v", got)
			}
		})
	}
}
