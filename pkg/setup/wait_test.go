package setup

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/setup/setuptest"
)

const (
	reviews  = "POST /apis/authorization.k8s.io/v1/subjectaccessreviews"
	accounts = "GET /api/v1/namespaces/%s/serviceaccounts/%s"
	review   = `{"kind":"SubjectAccessReview","apiVersion":"authorization.k8s.io/v1","status":{"allowed":%t}}`
)

// installedServer has everything.
func installedServer() setuptest.Server {
	return setuptest.Server{
		"GET /api/v1/namespaces/hodei-system": `{"kind":"Namespace","apiVersion":"v1",` +
			`"status":{"phase":"Active"}}`,
		"GET /api/v1/namespaces/hodei-jobs-workers": `{"kind":"Namespace","apiVersion":"v1",` +
			`"status":{"phase":"Active"}}`,
		fmt.Sprintf(accounts, "hodei-system", "hodei-control-plane"):     `{"kind":"ServiceAccount","apiVersion":"v1"}`,
		fmt.Sprintf(accounts, "hodei-jobs-workers", "hodei-jobs-worker"): `{"kind":"ServiceAccount","apiVersion":"v1"}`,
		"GET /api/v1/namespaces/hodei-jobs-workers/resourcequotas/hodei-jobs": `{"kind":"ResourceQuota","apiVersion":"v1",` +
			`"spec":{"hard":{"pods":"5"}},"status":{"hard":{"pods":"5"}}}`,
		reviews: fmt.Sprintf(review, true),
	}
}

func TestInstallAwait(t *testing.T) {
	quota, err := deploy.ParseQuota("pods=5")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, request, answer string
		want                  string // "": usable
	}{
		{"all there", "", "", ""},
		{"nobody may ask for others' rights", reviews, "403 no", ""},
		{"a namespace that goes", "GET /api/v1/namespaces/hodei-system",
			`{"kind":"Namespace","apiVersion":"v1","status":{"phase":"Terminating"}}`,
			"installed, but not usable after 2s: namespace hodei-system is Terminating"},
		{"an account that is gone", fmt.Sprintf(accounts, "hodei-jobs-workers", "hodei-jobs-worker"), "404 no",
			"installed, but not usable after 2s: serviceaccount hodei-jobs-worker in namespace hodei-jobs-workers is gone again"},
		{"a quota that does not count", "GET /api/v1/namespaces/hodei-jobs-workers/resourcequotas/hodei-jobs",
			`{"kind":"ResourceQuota","apiVersion":"v1","spec":{"hard":{"pods":"5"}}}`,
			"installed, but not usable after 2s: resourcequota hodei-jobs in namespace hodei-jobs-workers does not count yet"},
		{"a role that does not hold", reviews, fmt.Sprintf(review, false),
			"installed, but not usable after 2s: service account hodei-jobs-workers/hodei-jobs-worker may not get pods in " +
				"hodei-jobs-workers yet"},
		{"an API server with a bad second", "GET /api/v1/namespaces/hodei-system", "500 etcdserver: leader changed",
			"installed, but not usable after 2s: etcdserver: leader changed"},
		{"a question that is refused", "GET /api/v1/namespaces/hodei-system", "403 not you", "not you"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := installedServer()
			if test.request != "" {
				server[test.request] = test.answer
			}
			timeout := time.Minute
			if strings.Contains(test.want, "2s") {
				timeout = 2 * time.Second
			}
			i := &Installer{Client: client(t, server), Choices: deploy.Options{Quota: quota}}
			err := i.Await(t.Context(), timeout)
			if test.want == "" && err != nil || test.want != "" && (err == nil || err.Error() != test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

// What a look has found is said, and not that there was no time for another.
func TestAwaitNothingFound(t *testing.T) {
	refusal := errors.New("client rate limiter Wait returned an error: rate: Wait(n=1) would exceed context deadline")
	for _, test := range []struct {
		name  string
		looks []error // nil: something is missing; the last one goes on
		want  string
	}{
		{"refused before the deadline", []error{nil, refusal}, "the quota does not count"},
		{"refused from the first on", []error{refusal}, refusal.Error()},
		{"an answer is news", []error{nil, apierrors.NewInternalError(errors.New("leader changed")), refusal},
			"Internal error occurred: leader changed"},
		{"a bad second is an answer", []error{apierrors.NewInternalError(errors.New("leader changed")), refusal},
			"Internal error occurred: leader changed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				looks := test.looks
				missing, err := awaitNothing(t.Context(), readyEvery, time.Second, func(context.Context) (string, error) {
					err := looks[0]
					if len(looks) > 1 {
						looks = looks[1:]
					}
					if err != nil {
						return "", err
					}
					return "the quota does not count", nil
				})
				if missing != test.want || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("missing %q, want %q; error %v", missing, test.want, err)
				}
			})
		})
	}
}

// A look that went wrong is not the last one.
func TestAwaitNothing(t *testing.T) {
	looks := []error{errors.New("connection refused"), nil}
	missing, err := awaitNothing(t.Context(), time.Millisecond, time.Minute, func(context.Context) (string, error) {
		err := looks[0]
		looks = looks[1:]
		return "", err
	})
	if missing != "" || err != nil || len(looks) != 0 {
		t.Errorf("missing %q, error %v, %d looks left", missing, err, len(looks))
	}
	ctx, cancel := context.WithCancel(t.Context())
	missing, err = awaitNothing(ctx, time.Millisecond, time.Minute, func(ctx context.Context) (string, error) {
		cancel()
		return "", ctx.Err()
	})
	if missing != "nobody has looked yet" || !errors.Is(err, context.Canceled) {
		t.Errorf("missing %q, error %v", missing, err)
	}
}
