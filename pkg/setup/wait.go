package setup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// readyEvery is how often we look whether everything can be used. The API server needs milliseconds for that, and a
// quota's controller up to two seconds.
const readyEvery = 200 * time.Millisecond

// Await returns when what was applied can be used: the namespaces are active, the quota counts, and the roles have
// effect, as far as the caller may ask for the rights of others. After timeout it returns an error that names what is
// missing.
func (i *Installer) Await(ctx context.Context, timeout time.Duration) error {
	objects, granted, err := i.chosen()
	if err != nil {
		return err
	}
	missing, err := awaitNothing(ctx, readyEvery, timeout, func(ctx context.Context) (string, error) {
		return i.Client.notUsable(ctx, objects, granted)
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return &job.Hinted{
			Err:  fmt.Errorf("installed, but not usable after %s: %s", timeout, missing),
			Hint: "wait longer with --timeout, or see what the cluster does: kubectl get events -A",
		}
	}
	if err != nil {
		return kubernetes.Explain(err)
	}
	return nil
}

// awaitNothing calls look again and again until nothing is missing. After timeout it returns what the last look found
// missing, with the context's error. An error of look counts as missing, because the next look may succeed; only a
// refusal ends the wait at once. Once the API server has answered, a look that does not reach it is ignored: close to
// the deadline client-go refuses to send, with an error about its rate limiter.
func awaitNothing(ctx context.Context, every, timeout time.Duration, look func(context.Context) (string, error)) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	missing, answered := "nobody has looked yet", false
	err := wait.PollUntilContextCancel(ctx, every, true, func(ctx context.Context) (bool, error) {
		now, err := look(ctx)
		var status apierrors.APIStatus
		fromServer := err == nil || errors.As(err, &status)
		switch {
		case apierrors.IsForbidden(err):
			return false, err
		case ctx.Err() != nil: // the look was cut off; the one before says more
			return false, ctx.Err()
		case answered && !fromServer:
			return false, nil
		case err != nil:
			now = kubernetes.Explain(err).Message
		}
		missing, answered = now, fromServer
		return missing == "", nil
	})
	return missing, err
}

// notUsable says what can't be used yet; empty: everything can.
func (c *Client) notUsable(ctx context.Context, objects []*unstructured.Unstructured, granted []deploy.Right) (string, error) {
	for _, object := range objects {
		if why, err := c.notReady(ctx, object); err != nil || why != "" {
			return why, err
		}
	}
	return c.notGranted(ctx, granted)
}

// notReady says why an object can't be used yet; empty: it can.
func (c *Client) notReady(ctx context.Context, object *unstructured.Unstructured) (string, error) {
	kind := object.GetKind()
	if kind != "Namespace" && kind != "ServiceAccount" && kind != "ResourceQuota" {
		return "", nil
	}
	live, err := c.get(ctx, object)
	if apierrors.IsNotFound(err) {
		return describe(object) + " is gone again", nil
	}
	if err != nil {
		return "", err
	}
	switch kind {
	case "Namespace":
		if phase, _, _ := unstructured.NestedString(live.Object, "status", "phase"); phase != string(corev1.NamespaceActive) {
			return fmt.Sprintf("%s is %s", describe(object), phase), nil
		}
	case "ResourceQuota":
		// A Pod is refused until the controller has counted once.
		var quota corev1.ResourceQuota
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(live.Object, &quota); err != nil {
			return "", err
		}
		if !equality.Semantic.DeepEqual(quota.Spec.Hard, quota.Status.Hard) {
			return describe(object) + " does not count yet", nil
		}
	}
	return "", nil
}

// notGranted names a right that a service account was given and does not have yet; empty: they have all of theirs, or
// the caller may not ask.
func (c *Client) notGranted(ctx context.Context, granted []deploy.Right) (string, error) {
	type question struct {
		deploy.Right
		verb string
	}
	var questions []question
	for _, right := range granted {
		if right.Subject == "" { // nobody has it
			continue
		}
		for _, verb := range right.Verbs {
			questions = append(questions, question{right, verb})
		}
	}
	refused := make([]bool, len(questions))
	err := inParallel(len(questions), func(i int) error {
		q := questions[i]
		namespace, account, _ := strings.Cut(q.Subject, "/")
		resource, subresource, _ := strings.Cut(q.Resource, "/")
		answer, err := c.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{
				User: "system:serviceaccount:" + namespace + ":" + account,
				ResourceAttributes: &authorizationv1.ResourceAttributes{
					Namespace: q.Namespace, Verb: q.verb, Group: q.Group, Resource: resource, Subresource: subresource,
				},
			},
		}, metav1.CreateOptions{})
		switch {
		case apierrors.IsForbidden(err): // we may not know
			return nil
		case err != nil:
			return err
		}
		refused[i] = !answer.Status.Allowed
		return nil
	})
	if i := slices.Index(refused, true); i >= 0 {
		q := questions[i]
		return fmt.Sprintf("service account %s may not %s %s in %s yet", q.Subject, q.verb, q.Resource, q.Namespace), nil
	}
	return "", err
}
