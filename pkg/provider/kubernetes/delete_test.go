package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
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
		{"the Job", func(*http.Request) bool { return false }, "{hodei} delete -n ns x"},
		{"its Pods", func(r *http.Request) bool { return r.URL.Path == "/apis/batch/v1/namespaces/ns/jobs/x" }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &Run{provider: mutedProvider(t, test.answers), spec: specNamed("x"), pods: map[string]bool{"x-1": true},
					secrets: []*corev1.Secret{{ObjectMeta: metav1.ObjectMeta{Name: "x", UID: "1"}}},
					job:     &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "x"}}}
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

// deletions is an API server with one job, its Secret and its Pod, that keeps what it was told to do.
type deletions struct {
	shelf
	mu   sync.Mutex
	told []string
}

func (d *deletions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		d.shelf.ServeHTTP(w, r)
		return
	}
	_, path, _ := strings.Cut(r.URL.Path, "/namespaces/ns/")
	body, _ := io.ReadAll(r.Body)
	text := strings.ToLower(r.Method) + " " + path
	switch r.Method {
	case http.MethodDelete:
		var o metav1.DeleteOptions
		if err := json.Unmarshal(body, &o); err != nil {
			refuse(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
			return
		}
		text += " of " + string(*o.Preconditions.UID)
		if o.PropagationPolicy != nil {
			text += " " + string(*o.PropagationPolicy)
		}
		if o.GracePeriodSeconds != nil {
			text += fmt.Sprintf(" in %d s", *o.GracePeriodSeconds)
		}
		text += strings.Join(o.DryRun, " dry")
	case http.MethodPatch:
		text += " " + regexp.MustCompile(`\d{4}-[^"]+Z`).ReplaceAllString(string(body), "NOW")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told = append(d.told, text)
	if answer := d.answer[strings.ToLower(r.Method)+" "+path]; answer != nil {
		answer(w, r)
		return
	}
	if r.Method == http.MethodPatch {
		respond(w, http.StatusOK, d.jobs[0])
		return
	}
	respond(w, http.StatusOK, metav1.Status{Status: metav1.StatusSuccess})
}

// A job that was found is deleted with what would be collected late, and no other one of its name.
func TestDeleteFound(t *testing.T) {
	gone := func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, "it is gone")
	}
	another := func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusConflict, metav1.StatusReasonConflict, "another UID")
	}
	const theJob, theSecret = "delete jobs/x of uid-x Background", "delete secrets/x of secret-x"
	const note = `patch jobs/x {"metadata":{"annotations":{"hodei.io/cancelled":"NOW"},"uid":"uid-x"}}`
	for _, test := range []struct {
		name    string
		options DeleteOptions
		answer  map[string]http.HandlerFunc
		want    []string
		err     string
	}{
		{name: "its Pods end by themselves", want: []string{theJob, theSecret}},
		{name: "at once", options: DeleteOptions{AtOnce: true}, want: []string{theJob, "delete pods/x-1 of uid-x-1 in 0 s", theSecret}},
		{name: "within a grace", options: DeleteOptions{Grace: new(1500 * time.Millisecond)},
			want: []string{theJob, "delete pods/x-1 of uid-x-1 in 2 s", theSecret}},
		{name: "within no grace, as the kubelet does it", options: DeleteOptions{Grace: new(time.Duration(0))},
			want: []string{theJob, "delete pods/x-1 of uid-x-1 in 1 s", theSecret}},
		{name: "cancelled", options: DeleteOptions{Cancelled: true}, want: []string{note, theJob, theSecret}},
		{name: "nothing is done", options: DeleteOptions{Cancelled: true, AtOnce: true, DryRun: true}, want: []string{theJob + "All"}},
		{name: "gone", answer: map[string]http.HandlerFunc{"delete jobs/x": gone}, want: []string{theJob, theSecret}},
		{name: "another of its name", options: DeleteOptions{Cancelled: true},
			answer: map[string]http.HandlerFunc{"delete jobs/x": another, "patch jobs/x": another},
			want:   []string{note, theJob, theSecret}},
		{name: "no right to note it", options: DeleteOptions{Cancelled: true},
			answer: map[string]http.HandlerFunc{"patch jobs/x": denies("patch", "jobs")}, want: []string{note, theJob, theSecret}},
		{name: "no right", answer: map[string]http.HandlerFunc{"delete jobs/x": denies("delete", "jobs")}, want: []string{theJob},
			err: `forbidden: user "dev" may not delete jobs in namespace "ns"`},
		{name: "no right to the rest", options: DeleteOptions{AtOnce: true}, answer: map[string]http.HandlerFunc{
			"get secrets x": denies("get", "secrets"), "delete pods/x-1": denies("delete", "pods")},
			want: []string{theJob, "delete pods/x-1 of uid-x-1 in 0 s"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			x := madeJob(t, "x")
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "x", Namespace: "ns", UID: "secret-x",
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(x, batchv1.SchemeGroupVersion.WithKind("Job"))}}}
			d := &deletions{shelf: shelf{jobs: []*batchv1.Job{x}, pods: []*corev1.Pod{podIn(1, x, "x-1", runs)},
				secrets: []*corev1.Secret{secret}, answer: test.answer}}
			p := servedBy(t, d)
			found, err := p.Find(t.Context(), "x")
			if err != nil {
				t.Fatal(err)
			}
			said := ""
			if err := p.Delete(t.Context(), found, test.options); err != nil {
				said = err.Error()
			}
			if !strings.HasPrefix(said, test.err) || (said == "") != (test.err == "") {
				t.Errorf("error %q, want %q", said, test.err)
			}
			rest := min(len(d.told), slices.Index(test.want, theJob)+1)
			slices.Sort(d.told[rest:]) // at the same time
			if !slices.Equal(d.told, test.want) {
				t.Errorf("told\n%s\nwant\n%s", strings.Join(d.told, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

// A job is gone once its Job is and the last of its Pods; other jobs' Pods are not waited for.
func TestAwaitGone(t *testing.T) {
	x, y := madeJob(t, "x"), madeJob(t, "y")
	x.ResourceVersion, y.ResourceVersion = "1", "1"
	pods := []*corev1.Pod{podIn(1, x, "x-1", runs), podIn(2, x, "x-2", runs), podIn(1, y, "y-1", runs)}
	x.SetGroupVersionKind(batchv1.SchemeGroupVersion.WithKind("Job"))
	for _, pod := range pods {
		pod.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	}
	deleted := func(o runtime.Object) watch.Event { return watch.Event{Type: watch.Deleted, Object: o} }
	// ends answers a watch with events, and tells of each before.
	ends := func(told chan<- string, events ...watch.Event) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("sendInitialEvents") != "" {
				refuse(w, http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, "sendInitialEvents is forbidden")
				return
			}
			w.Header().Set("Content-Type", "application/json")
			for _, e := range events {
				told <- e.Object.(metav1.Object).GetName()
				_ = json.NewEncoder(w).Encode(map[string]any{"type": e.Type, "object": e.Object})
				w.(http.Flusher).Flush()
			}
			<-r.Context().Done()
		}
	}
	for _, test := range []struct {
		name string
		jobs []*batchv1.Job
		pods []*corev1.Pod
		want []string // the deletions that are waited for
	}{
		{"nothing is left", []*batchv1.Job{y}, pods[2:], nil},
		{"its Job", []*batchv1.Job{x}, nil, []string{"x"}},
		{"its Pods", nil, pods, []string{"x-1", "x-2"}},
		{"both", []*batchv1.Job{x}, pods, []string{"x", "x-1", "x-2"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			told := make(chan string, 10)
			s := &shelf{jobs: test.jobs, pods: test.pods}
			s.answer = map[string]http.HandlerFunc{"watch pods": ends(told, deleted(pods[0]), deleted(pods[1]))}
			if slices.Contains(test.jobs, x) {
				s.answer["watch jobs"] = ends(told, deleted(x))
			}
			if err := s.start(t).AwaitGone(t.Context(), &Found{Job: x}); err != nil {
				t.Fatal(err)
			}
			for _, name := range test.want { // each is told before it is sent
				select {
				case got := <-told:
					if got != name {
						t.Errorf("waited for %s, want %s", got, name)
					}
				default:
					t.Errorf("not waited for %s", name)
				}
			}
		})
	}
	t.Run("it stays", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		enough := errors.New("enough")
		s := &shelf{jobs: []*batchv1.Job{x}}
		s.answer = map[string]http.HandlerFunc{"watch jobs": func(_ http.ResponseWriter, r *http.Request) {
			cancel(enough)
			<-r.Context().Done()
		}}
		if err := s.start(t).AwaitGone(ctx, &Found{Job: x}); !errors.Is(err, enough) {
			t.Errorf("got %v", err)
		}
	})
}
