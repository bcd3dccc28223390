package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/tasks"
)

// store is an API server that keeps objects, and nothing more: no controller
// makes Pods, no collector deletes what has lost its owner.
type store struct {
	// before answers a request instead of the store, if it returns true; after is
	// called when the store has done it, and answers instead if it returns true.
	// Both get "POST jobs", "DELETE secrets x" and the like.
	before, after func(what string, w http.ResponseWriter) bool

	patched chan string // if not nil, gets the bodies of PATCH requests that are done

	mu       sync.Mutex
	objects  map[string]*unstructured.Unstructured // by "jobs x"
	uids     int
	requests []string
}

func (s *store) start(t *testing.T) *Provider {
	t.Helper()
	server := httptest.NewUnstartedServer(s)
	server.Config.ErrorLog = quiet
	server.StartTLS()
	t.Cleanup(server.Close)
	p, err := New(Options{Config: configOf(server), Name: "k8s",
		Provider: provider.Config{Namespace: "ns", Image: "w", ServiceAccount: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// put stores an object of somebody else's.
func (s *store) put(kind, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(kind, &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": name, "namespace": "ns"}}})
}

// add is called with s.mu held.
func (s *store) add(kind string, o *unstructured.Unstructured) {
	if s.objects == nil {
		s.objects = map[string]*unstructured.Unstructured{}
	}
	s.uids++
	o.SetUID(types.UID(fmt.Sprintf("uid-%d", s.uids)))
	s.objects[kind+" "+o.GetName()] = o
}

// left are the objects there, and writes the requests that changed something.
func (s *store) left() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name := range s.objects {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (s *store) writes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

func (s *store) get(key string) *unstructured.Unstructured {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[key]
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, path, _ := strings.Cut(r.URL.Path, "/namespaces/ns/")
	kind, name, named := strings.Cut(path, "/")
	if r.Method == http.MethodGet && !named { // an informer
		if r.URL.Query().Get("watch") == "" {
			respond(w, http.StatusOK,
				metav1.List{TypeMeta: metav1.TypeMeta{Kind: "List", APIVersion: "v1"}, ListMeta: metav1.ListMeta{ResourceVersion: "1"}})
			return
		}
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return
	}
	what := strings.TrimSpace(r.Method + " " + kind + " " + name)
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	if r.Method != http.MethodGet {
		s.requests = append(s.requests, what)
	}
	s.mu.Unlock()
	if s.before != nil && s.before(what, w) {
		return
	}
	code, answer := s.do(r.Method, kind, name, body)
	if s.after != nil && s.after(what, w) {
		return
	}
	if r.Method == http.MethodPatch && s.patched != nil {
		s.patched <- string(body)
	}
	respond(w, code, answer)
}

func (s *store) do(method, kind, name string, body []byte) (int, any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	problem := func(code int32, reason metav1.StatusReason, text string) (int, any) {
		return int(code), metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure,
			Code: code, Reason: reason, Message: text}
	}
	if method == http.MethodPost {
		o := &unstructured.Unstructured{}
		if err := json.Unmarshal(body, &o.Object); err != nil {
			return problem(400, metav1.StatusReasonBadRequest, err.Error())
		}
		if s.objects[kind+" "+o.GetName()] != nil {
			return problem(409, metav1.StatusReasonAlreadyExists, fmt.Sprintf("%s %q already exists", kind, o.GetName()))
		}
		s.add(kind, o)
		return http.StatusCreated, o.Object
	}
	o := s.objects[kind+" "+name]
	if o == nil {
		return problem(404, metav1.StatusReasonNotFound, fmt.Sprintf("%s %q not found", kind, name))
	}
	if method == http.MethodDelete {
		options := metav1.DeleteOptions{}
		if err := json.Unmarshal(body, &options); err != nil {
			return problem(400, metav1.StatusReasonBadRequest, err.Error())
		}
		if p := options.Preconditions; p != nil && p.UID != nil && *p.UID != o.GetUID() {
			return problem(409, metav1.StatusReasonConflict,
				fmt.Sprintf("the UID in the precondition (%s) does not match the UID in record (%s)", *p.UID, o.GetUID()))
		}
		delete(s.objects, kind+" "+name)
	}
	return http.StatusOK, o.Object
}

// hangUp closes the connection of a request without an answer.
func hangUp(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	conn.Close()
}

// on calls do for one kind of request.
func on(what string, do func(http.ResponseWriter)) func(string, http.ResponseWriter) bool {
	return func(got string, w http.ResponseWriter) bool {
		if got != what {
			return false
		}
		do(w)
		return true
	}
}

func TestSubmit(t *testing.T) {
	s := &store{}
	p := s.start(t)
	r, err := p.Submit(t.Context(), specNamed("x"), testCerts(t, "ns", "x"), RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, want := s.writes()[:2], []string{"POST jobs", "POST secrets"}; !slices.Equal(got, want) { // the Job first: it owns the Secret
		t.Errorf("got %v, want %v", got, want)
	}
	made, secret := s.get("jobs x"), s.get("secrets x")
	if !metav1.IsControlledBy(secret, made) {
		t.Errorf("the Secret belongs to %v", secret.GetOwnerReferences())
	}
	first := made.GetAnnotations()[manifest.AnnotationRun]
	if err := r.Delete(t.Context()); err != nil || len(s.left()) > 0 {
		t.Errorf("after Delete: %v, %v", s.left(), err)
	}
	if err := r.Delete(t.Context()); err != nil {
		t.Errorf("again: %v", err)
	}

	again, err := p.Submit(t.Context(), specNamed("x"), testCerts(t, "ns", "x"), RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if second := s.get("jobs x").GetAnnotations()[manifest.AnnotationRun]; len(first) < 16 || first == second {
		t.Errorf("the Jobs can't be told apart: %q, %q", first, second)
	}
}

// TestSubmitCompletes: a Job that is made ends by itself, until its Secret is there.
func TestSubmitCompletes(t *testing.T) {
	for _, test := range []struct {
		name     string
		timeout  time.Duration
		detached bool
		want     string
	}{
		{name: "detached", detached: true, want: `{"spec":{"activeDeadlineSeconds":null}}`},
		{name: "followed", want: `{"spec":{"activeDeadlineSeconds":null}}`},
		{name: "with a backstop", detached: true, timeout: time.Minute, want: `{"spec":{"activeDeadlineSeconds":1590}}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			patched := make(chan string, 1)
			s := &store{patched: patched}
			spec := specWith(func(s *job.Spec) { s.Name, s.Detached, s.Timeout = "x", test.detached, test.timeout })
			r, err := s.start(t).Submit(t.Context(), spec, testCerts(t, "ns", "x"), RunOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if got := <-patched; got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			made := &batchv1.Job{}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(s.get("jobs x").Object, made); err != nil ||
				!isUnfinished(made) {
				t.Errorf("made with deadline %v, %v", made.Spec.ActiveDeadlineSeconds, err)
			}
			if got, want := s.writes(), []string{"POST jobs", "POST secrets", "PATCH jobs x"}; !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// Who may not complete a Job is told so, and nothing is left that the cluster would end.
func TestSubmitIncomplete(t *testing.T) {
	forbid := on("PATCH jobs x", func(w http.ResponseWriter) {
		refuse(w, 403, metav1.StatusReasonForbidden,
			`jobs.batch "x" is forbidden: User "dev" cannot patch resource "jobs" in API group "batch" in the namespace "ns"`)
	})
	for _, detached := range []bool{true, false} {
		s := &store{before: forbid}
		spec := specWith(func(s *job.Spec) { s.Name, s.Detached = "x", detached })
		r, err := s.start(t).Submit(t.Context(), spec, testCerts(t, "ns", "x"), RunOptions{})
		if !detached {
			if err != nil {
				t.Fatal(err)
			}
			_, err = r.Watch(t.Context(), job.Observer{Report: func(job.Event) {}}) // who called it deletes the job then
			r.Close()
		} else if left := s.left(); len(left) > 0 {
			t.Errorf("left behind %v", left)
		}
		if f := explain.Error(err); f == nil || f.Cause != job.Forbidden ||
			!strings.Contains(f.Message, `may not patch jobs.batch in namespace "ns"`) {
			t.Errorf("detached %t: got %v", detached, err)
		}
	}
}

// TestKeepCompleting: a server in trouble is asked again, and one that says no is not.
func TestKeepCompleting(t *testing.T) {
	for _, test := range []struct {
		name   string
		code   int
		reason metav1.StatusReason
		asked  int // times
		told   bool
	}{
		{name: "in trouble", code: 503, reason: metav1.StatusReasonServiceUnavailable, asked: 2},
		{name: "too busy", code: 429, reason: metav1.StatusReasonTooManyRequests, asked: 2},
		{name: "changed at the same moment", code: 409, reason: metav1.StatusReasonConflict, asked: 2},
		{name: "deleted", code: 404, reason: metav1.StatusReasonNotFound, asked: 1},
		{name: "forbidden", code: 403, reason: metav1.StatusReasonForbidden, asked: 1, told: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, _ := testWatcher(t, 0)
				r := w.run
				r.work = &tasks.Group{}
				asked := 0
				p, err := New(Options{Config: &rest.Config{Host: "http://api",
					Transport: roundTripper(func(*http.Request) (*http.Response, error) {
						answer := httptest.NewRecorder()
						if asked++; asked == 1 {
							refuse(answer, test.code, test.reason, "no")
						} else {
							respond(answer, http.StatusOK, thisJob)
						}
						return answer.Result(), nil
					})}})
				if err != nil {
					t.Fatal(err)
				}
				r.provider = p
				told, done := false, false
				r.keepCompleting(t.Context(), nil, func() { done = true })
				select {
				case u := <-r.updates:
					_, told = u.(refusal)
				case <-time.After(time.Minute):
				}
				r.work.Wait()
				if asked != test.asked || told != test.told {
					t.Errorf("asked %d times, told %t; want %d, %t", asked, told, test.asked, test.told)
				}
				if done != (test.asked == 2) {
					t.Errorf("done: %t", done)
				}
			})
		})
	}
}

// TestUnhold: the deadline of a held start gives way to that of a job that runs, whichever request is
// the last.
func TestUnhold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := testWatcher(t, 0)
		r := w.run
		r.spec, r.work = specWith(func(s *job.Spec) { s.Stdin, s.Timeout, s.StartTimeout = true, 0, time.Minute }), &tasks.Group{}
		last := ""
		p, err := New(Options{Config: &rest.Config{Host: "http://api",
			Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
				body, err := io.ReadAll(req.Body)
				if err != nil {
					return nil, err
				}
				last = string(body)
				answer := httptest.NewRecorder()
				respond(answer, http.StatusOK, thisJob)
				return answer.Result(), nil
			})}})
		if err != nil {
			t.Fatal(err)
		}
		r.provider = p
		r.keepCompleting(t.Context(), manifest.HeldDeadline(r.spec), nil)
		synctest.Wait()
		if last != `{"spec":{"activeDeadlineSeconds":360}}` {
			t.Errorf("held: %s", last)
		}
		r.keepCompleting(t.Context(), manifest.HeldDeadline(r.spec), nil)
		if err := <-r.Unhold(t.Context()); err != nil {
			t.Error(err)
		}
		r.work.Wait()
		if last != `{"spec":{"activeDeadlineSeconds":null}}` {
			t.Errorf("let go: %s", last)
		}
	})
}

func specNamed(name string) *job.Spec { return specWith(func(s *job.Spec) { s.Name = name }) }

// Whatever goes wrong, nothing of ours is left behind and nothing of others' is touched.
func TestSubmitFails(t *testing.T) {
	forbid := func(verb, resource string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			refuse(w, 403, metav1.StatusReasonForbidden,
				fmt.Sprintf(`%s is forbidden: User "dev" cannot %s resource %q in API group "" in the namespace "ns"`, resource, verb,
					resource))
		}
	}
	trouble := func(w http.ResponseWriter) {
		refuse(w, 500, metav1.StatusReasonInternalError, "etcdserver: request timed out")
	}
	for _, test := range []struct {
		name          string
		there         string // somebody else's, of the same name
		before, after func(string, http.ResponseWriter) bool
		cause         job.Cause
		message       string
		left          []string
	}{
		{name: "Job forbidden", before: on("POST jobs", forbid("create", "jobs")), cause: job.Forbidden,
			message: `may not create jobs in namespace "ns"`},
		{name: "Job's name taken", there: "jobs", cause: job.ConfigError, message: `jobs "x" already exists`, left: []string{"jobs x"}},
		{name: "Secret forbidden", before: on("POST secrets", forbid("create", "secrets")), cause: job.Forbidden,
			message: `may not create secrets in namespace "ns"`},
		{name: "Secret's name taken", there: "secrets", cause: job.ConfigError, message: `secrets "x" already exists`,
			left: []string{"secrets x"}},
		{name: "Secret's answer lost", before: on("POST secrets", hangUp), cause: job.ConfigError,
			message: "Kubernetes cluster not available: "},
		{name: "Job's answer lost", after: on("POST jobs", hangUp), cause: job.ConfigError, message: "Kubernetes cluster not available: "},
		{name: "Job's request lost", before: on("POST jobs", hangUp), cause: job.ConfigError,
			message: "Kubernetes cluster not available: "},
		{name: "Job's request lost, its name taken", there: "jobs", before: on("POST jobs", hangUp), cause: job.ConfigError,
			message: "Kubernetes cluster not available: ", left: []string{"jobs x"}},
		{name: "Job's answer lost, its name taken", there: "jobs", after: on("POST jobs", hangUp), cause: job.ConfigError,
			message: "Kubernetes cluster not available: ", left: []string{"jobs x"}},
		{name: "server in trouble", before: on("POST jobs", trouble), cause: job.Unknown, message: "etcdserver: request timed out"},
		{name: "server in trouble, Job made", after: on("POST jobs", trouble), cause: job.Unknown,
			message: "etcdserver: request timed out"},
		{name: "server in trouble, its name taken", there: "jobs", after: on("POST jobs", trouble), cause: job.Unknown,
			message: "etcdserver: request timed out", left: []string{"jobs x"}},
		{name: "a gateway's time is over",
			after: on("POST jobs", func(w http.ResponseWriter) { http.Error(w, "<html>", http.StatusGatewayTimeout) }), cause: job.Unknown,
			message: "the server was unable to return a response in the time allotted"},
		{name: "asked twice", after: busyOnce("POST jobs"), cause: job.ConfigError, message: `jobs "x" already exists`},
		{name: "nobody knows", before: on("GET jobs x", forbid("get", "jobs")), after: on("POST jobs", hangUp), cause: job.ConfigError,
			message: `; job x may have been made all the same: jobs is forbidden: User "dev" cannot get resource "jobs" in API group "" ` +
				`in the namespace "ns"`, left: []string{"jobs x"}},
		{name: "what was made can't be deleted", before: func(what string, w http.ResponseWriter) bool {
			return on("POST secrets", forbid("create", "secrets"))(what, w) || on("DELETE jobs x", forbid("delete", "jobs"))(what, w)
		}, cause: job.Forbidden,
			message: `forbidden: user "dev" may not create secrets in namespace "ns"; forbidden: user "dev" may not delete jobs in ` +
				`namespace "ns"`, left: []string{"jobs x"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &store{before: test.before, after: test.after}
			if test.there != "" {
				s.put(test.there, "x")
			}
			r, err := s.start(t).Submit(t.Context(), specNamed("x"), testCerts(t, "ns", "x"), RunOptions{})
			if err == nil {
				r.Close()
				t.Fatal("no error")
			}
			f := explain.Error(err)
			if f != err || f.Cause != test.cause || !strings.Contains(f.Message, test.message) {
				t.Errorf("got  %s: %s\nwant %s: …%s…", f.Cause, f.Message, test.cause, test.message)
			}
			if got := s.left(); !slices.Equal(got, test.left) {
				t.Errorf("left behind %v, want %v (%v)", got, test.left, s.writes())
			}
		})
	}
}

// busyOnce answers the first such request as a server does that wants to be
// asked again, though it has done it.
func busyOnce(what string) func(string, http.ResponseWriter) bool {
	var once sync.Once
	return func(got string, w http.ResponseWriter) (handled bool) {
		if got == what {
			once.Do(func() {
				w.Header().Set("Retry-After", "0")
				refuse(w, 503, metav1.StatusReasonServiceUnavailable, "busy")
				handled = true
			})
		}
		return handled
	}
}

// A server that was never reached has nothing to be taken back, and is not asked.
func TestSubmitUnreachable(t *testing.T) {
	p, err := New(Options{Config: &rest.Config{Host: closedPort(t)}, Provider: provider.Config{Namespace: "ns"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Submit(t.Context(), specNamed("x"), testCerts(t, "ns", "x"), RunOptions{})
	if f := explain.Error(err); f.Cause != job.ConfigError || !strings.Contains(f.Message, "connection refused") ||
		strings.Contains(f.Message, "made all the same") {
		t.Errorf("got %s: %s", f.Cause, f.Message)
	}
}

// Ctrl-C while the requests are under way.
func TestSubmitCancelled(t *testing.T) {
	for _, what := range []string{"POST jobs", "POST secrets"} {
		t.Run(what, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			s := &store{before: func(got string, _ http.ResponseWriter) bool {
				if got == what {
					cancel()
				}
				return false
			}}
			if _, err := s.start(t).Submit(ctx, specNamed("x"), testCerts(t, "ns", "x"), RunOptions{}); err == nil {
				t.Error("no error")
			}
			if got := s.left(); len(got) > 0 {
				t.Errorf("left behind %v (%v)", got, s.writes())
			}
		})
	}
}

func TestDelete(t *testing.T) {
	submit := func(t *testing.T, s *store) *Run {
		r, err := s.start(t).Submit(t.Context(), specNamed("x"), testCerts(t, "ns", "x"), RunOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		return r
	}
	t.Run("its Pods too", func(t *testing.T) {
		s := &store{}
		r := submit(t, s)
		s.put("pods", "x-1")
		s.put("pods", "y-1")
		r.pods["x-1"] = true
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // it works all the same
		if err := r.Delete(ctx); err != nil {
			t.Error(err)
		}
		if got := s.left(); !slices.Equal(got, []string{"pods y-1"}) {
			t.Errorf("left %v", got)
		}
	})
	t.Run("another Job of the name by now", func(t *testing.T) {
		s := &store{}
		r := submit(t, s)
		s.put("jobs", "x")
		s.put("secrets", "x")
		if err := r.Delete(t.Context()); err != nil {
			t.Error(err)
		}
		if got := s.left(); !slices.Equal(got, []string{"jobs x", "secrets x"}) {
			t.Errorf("left %v", got)
		}
	})
	t.Run("no right to its Secret and Pods", func(t *testing.T) {
		s := &store{before: func(what string, w http.ResponseWriter) bool {
			if strings.HasPrefix(what, "DELETE") && what != "DELETE jobs x" {
				refuse(w, 403, metav1.StatusReasonForbidden, "no")
				return true
			}
			return false
		}}
		r := submit(t, s)
		r.pods["x-1"] = true
		if err := r.Delete(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("no answer", func(t *testing.T) {
		s := &store{before: on("DELETE jobs x", hangUp)}
		err := submit(t, s).Delete(t.Context())
		if f := explain.Error(err); err == nil || f != err || !strings.Contains(f.Message, "delete job x") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("nothing was made", func(t *testing.T) {
		if err := (&Run{}).Delete(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestStopRetrying(t *testing.T) {
	s := &store{patched: make(chan string, 3)}
	spec := specNamed("x")
	r, err := s.start(t).Submit(t.Context(), spec, testCerts(t, "ns", "x"), RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	<-s.patched // it is complete
	if err := r.StopRetrying(t.Context()); err != nil || len(s.patched) > 0 {
		t.Errorf("without retries: %v, %v", s.writes(), err)
	}
	spec.Retries = 2
	if err := r.StopRetrying(t.Context()); err != nil {
		t.Errorf("with retries: %v, %v", s.writes(), err)
	}
	if got := <-s.patched; got != `{"spec":{"backoffLimit":0}}` {
		t.Errorf("with retries: %s", got)
	}
	r.job = &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "y", Namespace: "ns"}}
	if f := explain.Error(r.StopRetrying(t.Context())); f == nil || f.Message != `jobs "y" not found` {
		t.Errorf("got %v", f)
	}
}
