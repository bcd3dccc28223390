package kubernetes

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
)

// mute is an API server that answers nothing but what it is told to, and that there is no
// such thing.
type mute struct{ answers func(*http.Request) bool }

func (m mute) RoundTrip(r *http.Request) (*http.Response, error) {
	if m.answers(r) {
		return &http.Response{StatusCode: http.StatusNotFound, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	}
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func mutedProvider(t *testing.T, answers func(*http.Request) bool) *Provider {
	t.Helper()
	p, err := New(Options{Config: &rest.Config{Host: "http://mute.example", Transport: mute{answers}},
		Provider: provider.Config{Namespace: "ns"}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The end of a run does not wait for a cluster that does not answer, and says what may be
// left where that is not collected.
func TestDeleteUnanswered(t *testing.T) {
	for _, test := range []struct {
		name    string
		answers func(*http.Request) bool
		hint    string // empty: no error
	}{
		{"the Job", func(*http.Request) bool { return false }, "kubectl delete job -n ns x"},
		{"its Pods", func(r *http.Request) bool { return r.URL.Path == "/apis/batch/v1/namespaces/ns/jobs/x" }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &Run{provider: mutedProvider(t, test.answers), spec: specNamed("x"), secret: "1", pods: map[string]bool{"x-1": true},
					job: &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "x"}}}
				began := time.Now()
				err := r.Delete(t.Context())
				if waited := time.Since(began); waited > deleteWait {
					t.Errorf("it took %s", waited)
				}
				f, _ := errors.AsType[*job.Failure](err)
				if (err == nil) != (test.hint == "") || f != nil && f.Hint != test.hint {
					t.Errorf("got %v, want the hint %q", err, test.hint)
				}
			})
		})
	}
}

// Nor does the next Ctrl-C wait for one.
func TestStopRetryingUnanswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Run{provider: mutedProvider(t, func(*http.Request) bool { return false }), spec: &job.Spec{Name: "x", Retries: 1},
			job: &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "x"}}}
		began := time.Now()
		if err := r.StopRetrying(t.Context()); err == nil {
			t.Error("no error")
		}
		if waited := time.Since(began); waited > deleteWait {
			t.Errorf("it took %s", waited)
		}
	})
}

// A run that is interrupted while the cluster does not answer is over soon, too.
func TestSubmitInterruptedUnanswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mutedProvider(t, func(*http.Request) bool { return false })
		ctx, cancel := context.WithCancel(t.Context())
		defer time.AfterFunc(time.Second, cancel).Stop()
		began := time.Now()
		_, err := p.Submit(ctx, specNamed("x"), testCerts(t, "ns", "x"), RunOptions{})
		if waited := time.Since(began) - time.Second; waited > 2*deleteWait {
			t.Errorf("it took %s", waited)
		}
		if err == nil {
			t.Error("no error")
		}
	})
}
