package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// checkPodSecurity stops before a namespace of somebody else begins to enforce what
// Pods in it do not meet: those would be refused when they are made anew.
func (o *installOptions) checkPodSecurity(plan *installPlan) error {
	enforce := deploy.PodSecurityLabels[0]
	for _, step := range plan.steps {
		if step.live == nil || step.object.GetKind() != "Namespace" || madeByHodei(step.live) {
			continue
		}
		profile := step.object.GetLabels()[enforce]
		if step.live.GetLabels()[enforce] == profile {
			continue
		}
		err := fmt.Errorf("%s was there before hodei, and would begin to enforce Pod Security %q, which Pods in it do not meet: %s", describe(step.object), profile, strings.Join(step.warned, "; "))
		switch {
		case profile == deploy.ProfilePrivileged:
			fmt.Fprintf(o.ErrOut, "%s was there before hodei: with it, Pod Security keeps no Pod out of it\n", describe(step.object))
		case len(step.warned) == 0:
			fmt.Fprintf(o.ErrOut, "%s was there before hodei: with it, everybody's Pods there have to meet Pod Security %q\n", describe(step.object), profile)
		case o.forcePodSecurity:
			fmt.Fprintln(o.ErrOut, "forced:", err)
		case o.dry():
			fmt.Fprintln(o.ErrOut, "it would be refused without --force-pod-security:", err)
		default:
			hint := "to go on all the same: " + o.command(" --force-pod-security")
			if step.object.GetName() != deploy.SystemNamespace {
				choice := "choose a namespace of its own with --workers-namespace"
				if profile == deploy.ProfileRestricted {
					choice += ", or what they may meet with --profile=baseline"
				}
				hint = choice + "; " + hint
			}
			return &job.Hinted{Err: err, Hint: hint}
		}
	}
	return nil
}

// explain says what can't be applied, and what to do about it. All conflicts are
// told, as they are mended together; of other problems the first is.
func (o *installOptions) explain(ctx context.Context, c *manifestClient, problems []problem) error {
	var conflicts []string
	for _, p := range problems {
		if !apierrors.IsConflict(p.err) {
			return o.explainOne(ctx, c, p)
		}
		conflicts = append(conflicts, describeConflict(p))
	}
	err := fmt.Errorf("somebody else has set what would be applied: %s", strings.Join(conflicts, "; "))
	var hints []string
	if strings.Contains(err.Error(), "pod-security.kubernetes.io/") && !strings.Contains(o.given, " --profile=") {
		hints = append(hints, "if it was installed with --profile, give it again")
	}
	hints = append(hints, "to take it over: "+o.command(" --force-conflicts"))
	if !o.dry() {
		hints = append(hints, "what would change then: "+o.command(" --diff --force-conflicts"))
	}
	return &job.Hinted{Err: err, Hint: strings.Join(hints, "; ")}
}

func (o *installOptions) explainOne(ctx context.Context, c *manifestClient, p problem) error {
	// Rights that are not RBAC's, as a webhook's, count when we ask and not here.
	if strings.Contains(p.err.Error(), "attempting to grant RBAC permissions not currently held") {
		return &job.Hinted{
			Err:  fmt.Errorf("%s grants rights that %s does not have, and Kubernetes lets nobody grant more than they have", describe(p.object), c.whoami(ctx)),
			Hint: o.byAdministrator(),
		}
	}
	if _, told := errors.AsType[*job.Hinted](p.err); told {
		return p.err
	}
	explained := fmt.Errorf("install %s: %w", describe(p.object), kubernetes.Explain(p.err))
	if apierrors.IsForbidden(p.err) && !apierrors.HasStatusCause(p.err, corev1.NamespaceTerminatingCause) {
		return &job.Hinted{Err: explained, Hint: o.byAdministrator()}
	}
	return explained
}

// dry tells a run that changes nothing.
func (o *installOptions) dry() bool { return o.diff || o.dryRun == dryRunServer }

// command is this one again, with more flags, each of which begins with a space.
func (o *installOptions) command(more string) string {
	return o.commandBy(more, o.caller)
}

func (o *installOptions) commandBy(more, caller string) string {
	dry := ""
	switch {
	case o.diff:
		dry = " --diff"
	case o.dryRun == dryRunServer:
		dry = " --dry-run=server"
	}
	return "{hodei} install" + dry + more + o.given + o.forced + caller
}

// byAdministrator is what somebody with more rights can type.
func (o *installOptions) byAdministrator() string {
	hint := "an administrator can: " + o.commandBy("", "")
	if o.dry() {
		return hint
	}
	force := ""
	if o.force {
		force = " --force-conflicts"
	}
	return hint + fmt.Sprintf(", or with kubectl alone: {hodei} install --dry-run=client -o yaml%s | kubectl apply --server-side --field-manager=%s%s -f -", o.given, fieldManager, force)
}

// describeConflict says which fields of an object who has set.
func describeConflict(p problem) string {
	fields := p.err.Error()
	if status, ok := p.err.(apierrors.APIStatus); ok && status.Status().Details != nil {
		var list []string
		for _, cause := range status.Status().Details.Causes {
			if cause.Type != metav1.CauseTypeFieldManagerConflict {
				continue
			}
			// conflict with "kubectl-edit" using v1
			_, manager, _ := strings.Cut(cause.Message, "conflict with ")
			list = append(list, fmt.Sprintf("%s by %s", cause.Field, manager))
		}
		if len(list) > 0 {
			fields = job.Words(list)
		}
	}
	return describe(p.object) + ": " + fields
}
