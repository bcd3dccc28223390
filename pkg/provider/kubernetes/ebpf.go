package kubernetes

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

// The Pod Security labels of a namespace that are read, and the one level that takes
// Pods with any capability; k8s.io/pod-security-admission/api.
const (
	labelEnforce    = "pod-security.kubernetes.io/enforce"
	labelWarn       = "pod-security.kubernetes.io/warn"
	levelPrivileged = "privileged"
)

// PodSecurity is what can be known of the Pod Security level that a namespace keeps its
// Pods to.
type PodSecurity struct {
	// Namespace that it is about.
	Namespace string
	// Enforce is the level of the namespace's own label; "" where it has none. What
	// counts then is the API server's default, privileged if nobody has configured
	// another, which can't be read.
	Enforce string
	// Warn is the level of the label by which it only warns; "" where it has none.
	Warn string
	// Err is why the labels could not be read, and then both are ""; nil: they were.
	Err error
}

// Forbids says why the namespace is not known to take an agent with the capabilities that
// eBPF takes: its level, or that it can't be read. It is "" where the label allows them, or
// where there is none.
func (s PodSecurity) Forbids() string {
	switch {
	case s.Err != nil:
		return fmt.Sprintf("the Pod Security label of namespace %s can't be read: %s", s.Namespace, explain.Error(s.Err).Message)
	case s.Enforce == "", s.Enforce == levelPrivileged:
		return ""
	}
	return fmt.Sprintf("namespace %s enforces Pod Security %q, which forbids what the agent needs for it", s.Namespace,
		explain.OneLine(s.Enforce))
}

// String is the level that the label names, in words.
func (s PodSecurity) String() string {
	switch {
	case s.Err != nil:
		return s.Forbids()
	case s.Enforce == "":
		return fmt.Sprintf("namespace %s has no Pod Security label: the cluster's default counts, which can't be read", s.Namespace)
	}
	return fmt.Sprintf("namespace %s enforces Pod Security %q", s.Namespace, explain.OneLine(s.Enforce))
}

// PodSecurity reads the labels of the provider's namespace, within 30 s.
func (p *Provider) PodSecurity(ctx context.Context) PodSecurity {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s := PodSecurity{Namespace: p.settings.Namespace}
	namespace, err := p.client.CoreV1().Namespaces().Get(ctx, s.Namespace, metav1.GetOptions{})
	if err != nil {
		s.Err = err
		return s
	}
	s.Enforce, s.Warn = namespace.Labels[labelEnforce], namespace.Labels[labelWarn]
	return s
}

// EBPFCommand is what to type where a namespace does not let a provider's agents have the
// capabilities: for ebpf: auto, whose jobs run all the same, what makes a namespace that
// does; else what has its jobs run. What else can be done is in docs/providers.md.
func EBPFCommand(name string, c provider.Config) string {
	if c.EBPF == provider.EBPFAuto && c.User != job.UserImage {
		return "{hodei} install --workers-namespace=hodei-ebpf --profile=" + levelPrivileged
	}
	return "{hodei} provider set " + name + " --ebpf off"
}

// Plan is the Job that Submit makes of spec. It asks the cluster where the provider says
// ebpf: auto, and nowhere else; without is why the agent is left without it then, or "".
func (p *Provider) Plan(ctx context.Context, spec *job.Spec) (wanted *batchv1.Job, without string, err error) {
	s := p.withServerName(spec)
	if s.Config.EBPF == provider.EBPFAuto {
		s.WithoutEBPF = p.forbidsEBPF(ctx, spec, s)
	}
	wanted, err = manifest.Job(spec, s)
	return wanted, s.WithoutEBPF, err
}

// ebpfNote says why the agent of a job that was submitted measures without eBPF, where the
// provider says auto; else it is "".
func (r *Run) ebpfNote() string {
	if r.ebpf == "" {
		return ""
	}
	return "without eBPF: " + r.ebpf
}

// forbidsEBPF says why an agent with the capabilities is not to be tried; "": it is.
func (p *Provider) forbidsEBPF(ctx context.Context, spec *job.Spec, s manifest.Settings) string {
	if spec.User == job.UserImage {
		return "the user is left to the cluster (user: image), and the agent would have to be root for it"
	}
	if s.OwnUserNamespace() {
		return "the agent would be root of its Pod's user namespace alone (host_users: false)"
	}
	security := p.PodSecurity(ctx)
	if why := security.Forbids(); why != "" || security.Enforce != "" || security.Warn != "" {
		return why
	}
	// No label at all. Whoever gives the cluster a default to enforce mostly gives it the
	// same to warn of, and that warning comes with a Job.
	wanted, err := manifest.Job(spec, s)
	if err != nil {
		return "" // it is told when the Job is rendered to be made
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	warned := &warningLog{}
	_, err = p.client.BatchV1().Jobs(wanted.Namespace).Create(context.WithValue(ctx, warningsKey{}, warned), wanted,
		metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if text := warned.about("PodSecurity"); err == nil && explain.RefusesEBPF(text) {
		return fmt.Sprintf("the API server warns that Pod Security forbids in namespace %s what the agent needs for it: %s",
			security.Namespace, explain.OneLine(text))
	}
	return "" // a dry run that is refused says nothing of Pod Security: the Job itself will tell
}

// warningsKey is of the *warningLog in the context of a request.
type warningsKey struct{}

// warningLog holds what the API server warns of in answer to one request. Where nobody asks
// for that it is dropped: what it warns of, it refuses later with a better message.
type warningLog struct {
	mu   sync.Mutex
	text []string
}

// HandleWarningHeaderWithContext implements rest.WarningHandlerWithContext.
func (*warningLog) HandleWarningHeaderWithContext(ctx context.Context, _ int, _, text string) {
	w, ok := ctx.Value(warningsKey{}).(*warningLog)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, text)
}

// about is the first warning with word in it; "" if there is none.
func (w *warningLog) about(word string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.IndexFunc(w.text, func(s string) bool { return strings.Contains(s, word) }); i >= 0 {
		return w.text[i]
	}
	return ""
}

// EBPFHint is what helps where a job ended because eBPF is required; else it is "".
func (p *Provider) EBPFHint(o *job.Outcome) string {
	if o.Cause != job.ConfigError || !strings.HasPrefix(o.Message, ebpfMissingWords) {
		return ""
	}
	return p.namedHint("let its jobs run without what is missing: {hodei} provider set NAME --ebpf auto; " +
		"what there must be: docs/providers.md")
}

// ebpfMissingWords begin the message of an outcome by contract.ExitNoEBPF, whose agent's message says
// what is missing.
const ebpfMissingWords = "eBPF is required, and can't be had: "

func ebpfOutcome(said string) *job.Outcome {
	return &job.Outcome{Cause: job.ConfigError, Code: job.ExitFailed,
		Message: ebpfMissingWords + cmp.Or(said, "the agent has not said why")}
}
