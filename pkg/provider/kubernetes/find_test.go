package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

// shelf is an API server with objects on it that nobody changes.
type shelf struct {
	jobs    []*batchv1.Job
	pods    []*corev1.Pod
	secrets []*corev1.Secret
	version string
	// answer is one instead of the shelf's for "get jobs x", "list pods", "watch
	// pods", "get pods x-1/log" and the like.
	answer map[string]http.HandlerFunc
}

func (s *shelf) start(t *testing.T) *Provider {
	t.Helper()
	return servedBy(t, s)
}

// servedBy returns a provider whose API server is answer.
func servedBy(t *testing.T, answer http.Handler) *Provider {
	t.Helper()
	server := httptest.NewUnstartedServer(answer)
	server.Config.ErrorLog = quiet
	server.StartTLS()
	t.Cleanup(server.Close)
	p, err := New(Options{Config: configOf(server), Name: "k8s", Provider: provider.Config{Namespace: "ns"}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// objects of a kind, with its name and version.
func (s *shelf) objects(kind string) (all []metav1.Object, meta metav1.TypeMeta) {
	switch kind {
	case "jobs":
		for _, o := range s.jobs {
			all = append(all, o)
		}
		return all, metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"}
	case "pods":
		for _, o := range s.pods {
			all = append(all, o)
		}
		return all, metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
	case "secrets":
		for _, o := range s.secrets {
			all = append(all, o)
		}
		return all, metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}
	}
	return nil, metav1.TypeMeta{APIVersion: "v1", Kind: "Event"}
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/version" {
		respond(w, http.StatusOK, map[string]string{"gitVersion": s.version})
		return
	}
	_, path, known := strings.Cut(r.URL.Path, "/namespaces/ns/")
	if !known {
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource")
		return
	}
	kind, name, named := strings.Cut(path, "/")
	query := r.URL.Query()
	verb := "list"
	switch {
	case named:
		verb = "get"
	case query.Get("watch") != "":
		verb = "watch"
	}
	if answer := s.answer[strings.TrimSpace(verb+" "+kind+" "+name)]; answer != nil {
		answer(w, r)
		return
	}
	all, meta := s.objects(kind)
	byLabel, err := labels.Parse(query.Get("labelSelector"))
	if err != nil {
		refuse(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		return
	}
	byField := fields.ParseSelectorOrDie(query.Get("fieldSelector"))
	chosen := []metav1.Object{}
	for _, o := range all {
		if named && o.GetName() == name || !named && byLabel.Matches(labels.Set(o.GetLabels())) &&
			(kind != "jobs" || byField.Matches(fields.Set{"metadata.name": o.GetName()})) {
			chosen = append(chosen, o)
		}
	}
	switch {
	case verb == "watch" && query.Get("sendInitialEvents") != "": // as a server before 1.32; a list comes first then
		refuse(w, http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, "sendInitialEvents is forbidden")
	case verb == "watch":
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	case verb == "list":
		respond(w, http.StatusOK, map[string]any{"apiVersion": meta.APIVersion, "kind": meta.Kind + "List",
			"metadata": metav1.ListMeta{ResourceVersion: "1"}, "items": chosen})
	case len(chosen) == 1:
		respond(w, http.StatusOK, chosen[0])
	default:
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, fmt.Sprintf("%s %q not found", kind, name))
	}
}

// denies is a refusal for want of a right.
func denies(verb, resource string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusForbidden, metav1.StatusReasonForbidden,
			fmt.Sprintf(`%s is forbidden: User "dev" cannot %s resource %q in API group "" in the namespace "ns"`, resource, verb,
				resource))
	}
}

// madeJob is a Job as Submit makes it, changed by all of change.
func madeJob(t *testing.T, name string, change ...func(*batchv1.Job)) *batchv1.Job {
	t.Helper()
	spec := &job.Spec{Name: name, Command: []string{"make", name}}
	spec.SetDefaults()
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID("uid-" + name),
		Labels:      map[string]string{manifest.LabelJob: name, manifest.LabelManagedBy: manifest.ManagedBy},
		Annotations: map[string]string{manifest.AnnotationSpec: string(text)}}}
	for _, c := range change {
		c(j)
	}
	return j
}

// podIn is podOf with what the API server puts in: labels, UID, and the second at
// which it was made.
func podIn(second int64, owner *batchv1.Job, name string, change ...func(*corev1.Pod)) *corev1.Pod {
	pod := podOf(owner, name, change...)
	pod.Labels, pod.UID, pod.CreationTimestamp = owner.Labels, types.UID("uid-"+name), metav1.Unix(second, 0)
	return pod
}

func exits(t *testing.T, code int32) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		cause, phase := "Completed", corev1.PodSucceeded
		if code != 0 {
			cause, phase = "Error", corev1.PodFailed
		}
		onNode(pod)
		with(terminated(0, "Completed", termination(t, &hodeipb.ExitRecord{Cause: cause, Code: code})), terminated(code, "Error", ""))(pod)
		pod.Status.Phase = phase
	}
}

func condition(kind batchv1.JobConditionType, reason, message string) func(*batchv1.Job) {
	return func(j *batchv1.Job) {
		j.Status.Conditions = append(j.Status.Conditions,
			batchv1.JobCondition{Type: kind, Status: corev1.ConditionTrue, Reason: reason, Message: message})
	}
}

// foundText is what matters of a Found.
func foundText(f *Found) string {
	var parts []string
	for _, a := range f.Attempts {
		part := a.Name
		if a.UID != "uid-"+a.Name || a.Created.IsZero() {
			part += " without UID or time"
		}
		if a.Running {
			part += " running"
		}
		if a.Left {
			part += " left"
		}
		if a.Ended {
			part += fmt.Sprintf(" %s %d (%s)", a.Outcome.Cause, a.Outcome.Code, a.Outcome.Attempt)
		}
		if len(a.Others) > 0 {
			part += " but " + strings.Join(a.Others, " ")
		}
		parts = append(parts, part)
	}
	if f.Finished {
		parts = append(parts, "= "+endText(f.Outcome, nil))
	}
	return strings.Join(parts, "; ")
}

func TestFind(t *testing.T) {
	complete, failed := condition(batchv1.JobComplete, "CompletionsReached", ""), condition(batchv1.JobFailed, "BackoffLimitExceeded",
		"Job has reached\nthe limit")
	lingers := func(pod *corev1.Pod) { runs(pod); with(running, terminated(0, "Completed", ""))(pod) }
	pulls := func(pod *corev1.Pod) { onNode(pod); with(running, waiting("ContainerCreating", ""))(pod) }
	agentDied := func(pod *corev1.Pod) { runs(pod); with(terminated(137, "OOMKilled", ""), running)(pod) }
	x := madeJob(t, "x")
	for _, test := range []struct {
		name   string
		change []func(*batchv1.Job)
		pods   []*corev1.Pod
		want   string
	}{
		{"no Pod yet", nil, nil, ""},
		{"pending", nil, []*corev1.Pod{podIn(1, x, "x-1")}, "x-1"},
		{"its image is being pulled", nil, []*corev1.Pod{podIn(1, x, "x-1", pulls)}, "x-1 running"},
		{"runs", nil, []*corev1.Pod{podIn(1, x, "x-1", runs)}, "x-1 running"},
		{"lingers", nil, []*corev1.Pod{podIn(1, x, "x-1", lingers)}, "x-1 running left"},
		{"its agent has died", nil, []*corev1.Pod{podIn(1, x, "x-1", agentDied)}, "x-1"},
		{"has ended, and the Job not yet", nil, []*corev1.Pod{podIn(1, x, "x-1", exits(t, 3))}, "x-1 Error 3 (x-1)"},
		{"has ended, and a container of others has not", nil, []*corev1.Pod{podIn(1, x, "x-1", exits(t, 3), withProxy)},
			"x-1 Error 3 (x-1) but proxy; = outcome Error 3: "},
		{"runs with a container of others", nil, []*corev1.Pod{podIn(1, x, "x-1", runs, withProxy)}, "x-1 running"},
		{"was suspended, and a container of others has not ended",
			[]func(*batchv1.Job){func(j *batchv1.Job) { j.Spec.Suspend = new(true) }},
			[]*corev1.Pod{podIn(1, x, "x-1", exits(t, 3), withProxy)}, "x-1 Error 3 (x-1) but proxy"},
		{"complete", []func(*batchv1.Job){complete}, []*corev1.Pod{podIn(1, x, "x-1", exits(t, 0))},
			"x-1 Completed 0 (x-1); = outcome Completed 0: "},
		{"retried, whatever the order of names", []func(*batchv1.Job){complete},
			[]*corev1.Pod{podIn(2, x, "x-1", exits(t, 0)), podIn(1, x, "x-2", exits(t, 4))},
			"x-2 Error 4 (x-2); x-1 Completed 0 (x-1); = outcome Completed 0: "},
		{"failed", []func(*batchv1.Job){failed}, []*corev1.Pod{podIn(1, x, "x-1", exits(t, 4)), podIn(2, x, "x-2", exits(t, 5))},
			"x-1 Error 4 (x-1); x-2 Error 5 (x-2); = outcome Error 5: "},
		{"failed, its Pods gone", []func(*batchv1.Job){failed}, nil,
			"= outcome Unknown 0: the job ended without an exit record: Job has reached the limit"},
		{"beyond the backstop", []func(*batchv1.Job){condition(batchv1.JobFailed, batchv1.JobReasonDeadlineExceeded, "too long")},
			[]*corev1.Pod{podIn(1, x, "x-1", exits(t, 4))},
			"x-1 Error 4 (x-1); = outcome DeadlineExceeded 0: too long"},
		{"about to fail", []func(*batchv1.Job){condition(batchv1.JobFailureTarget, "", ""), condition(batchv1.JobSuspended, "", "")}, nil,
			""},
		{"an earlier job's Pod", nil, []*corev1.Pod{podIn(1, otherJob, "x-0", runs), podIn(2, x, "x-1", runs)}, "x-1 running"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, pod := range test.pods {
				pod.Labels = x.Labels
			}
			p := (&shelf{jobs: []*batchv1.Job{madeJob(t, "x", test.change...), madeJob(t, "y")},
				pods: append(test.pods, podIn(1, madeJob(t, "y"), "y-1", runs))}).start(t)
			f, err := p.Find(t.Context(), "x")
			if err != nil {
				t.Fatal(err)
			}
			if got := foundText(f); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if f.Job.UID != "uid-x" || f.Spec.Name != "x" || f.Spec.Command[1] != "x" || f.Finished != (f.Outcome != nil) {
				t.Errorf("found %s, %+v, %+v", f.Job.UID, f.Spec, f.Outcome)
			}
		})
	}
}

func TestFindFails(t *testing.T) {
	annotated := func(text string) func(*batchv1.Job) {
		return func(j *batchv1.Job) { j.Annotations[manifest.AnnotationSpec] = text }
	}
	for _, test := range []struct {
		name    string
		jobs    []*batchv1.Job
		answer  map[string]http.HandlerFunc
		cause   job.Cause // empty: a plain error
		message string
		hint    string
		absent  bool
	}{
		{name: "not there", cause: job.ConfigError, message: `job "x" not found in namespace ns`, hint: "{hodei} jobs -n ns", absent: true},
		{name: "somebody else's", jobs: []*batchv1.Job{madeJob(t, "x", func(j *batchv1.Job) { j.Annotations = nil })},
			message: `job "x" was not made by hodei: it has no annotation hodei.io/spec`},
		{name: "no spec in it", jobs: []*batchv1.Job{madeJob(t, "x", annotated("{"))},
			message: `annotation hodei.io/spec of job "x": unexpected end of JSON input`},
		{name: "a copy", jobs: []*batchv1.Job{madeJob(t, "x", annotated(`{"name":"y","command":["true"]}`))},
			message: `annotation hodei.io/spec of job "x" is of job "y"`},
		{name: "no right to Jobs", answer: map[string]http.HandlerFunc{"get jobs x": denies("get", "jobs")}, cause: job.Forbidden,
			message: `forbidden: user "dev" may not get jobs in namespace "ns"`,
			hint: "an administrator can grant it: kubectl create role hodei-dev-get-jobs --verb=get --resource=jobs -n ns && kubectl " +
				"create rolebinding hodei-dev-get-jobs --role=hodei-dev-get-jobs --user=dev -n ns"},
		{name: "no right to Pods", jobs: []*batchv1.Job{madeJob(t, "x")},
			answer: map[string]http.HandlerFunc{"list pods": denies("list", "pods")}, cause: job.Forbidden,
			message: `forbidden: user "dev" may not list pods in namespace "ns"`,
			hint: "an administrator can grant it: kubectl create rolebinding hodei-dev --clusterrole=hodei-user --user=dev -n ns; if " +
				"that is bound already: {hodei} install --workers-namespace=ns"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, err := (&shelf{jobs: test.jobs, answer: test.answer}).start(t).Find(t.Context(), "x")
			if err == nil {
				t.Fatalf("found %+v", f)
			}
			failure, ok := errors.AsType[*job.Failure](err)
			if err.Error() != test.message || ok != (test.cause != "") || errors.Is(err, ErrNotFound) != test.absent {
				t.Errorf("got %#v: %v", err, err)
			}
			if ok && (failure.Cause != test.cause || failure.Hint != test.hint) {
				t.Errorf("got %s, hint %q", failure.Cause, failure.Hint)
			}
		})
	}
}

func TestFindAll(t *testing.T) {
	at := func(second int64) func(*batchv1.Job) {
		return func(j *batchv1.Job) { j.CreationTimestamp = metav1.Unix(second, 0) }
	}
	team := func(j *batchv1.Job) { j.Labels["team"] = "build" }
	a, b, c := madeJob(t, "a", at(2), team), madeJob(t, "b", at(1), team), madeJob(t, "c", at(2))
	s := &shelf{
		jobs: []*batchv1.Job{c, a, b,
			madeJob(t, "copied", at(3), func(j *batchv1.Job) { j.Annotations = nil }),
			madeJob(t, "foreign", at(3), func(j *batchv1.Job) { delete(j.Labels, manifest.LabelManagedBy) })},
		pods: []*corev1.Pod{podIn(1, a, "a-1", exits(t, 1)), podIn(2, a, "a-2", runs), podIn(1, c, "c-1", runs),
			{ObjectMeta: metav1.ObjectMeta{Name: "z", Labels: a.Labels}}},
	}
	p := s.start(t)
	for _, test := range []struct {
		selector string
		want     []string
	}{
		{"", []string{"b: ", "a: a-1 Error 1 (a-1); a-2 running", "c: c-1 running"}},
		{"team=build", []string{"b: ", "a: a-1 Error 1 (a-1); a-2 running"}},
		{"team in (build), hodei.io/job!=b", []string{"a: a-1 Error 1 (a-1); a-2 running"}},
		{"team=none", nil},
	} {
		found, err := p.FindAll(t.Context(), test.selector)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range found {
			got = append(got, f.Job.Name+": "+foundText(f))
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%q:\n got %q\nwant %q", test.selector, got, test.want)
		}
	}
	if _, err := p.FindAll(t.Context(), "a=b=c"); err == nil {
		t.Error("a selector that is none: no error")
	}
	for _, what := range []string{"list jobs", "list pods"} {
		s := &shelf{jobs: []*batchv1.Job{a}, answer: map[string]http.HandlerFunc{what: denies("list", strings.TrimPrefix(what, "list "))}}
		_, err := s.start(t).FindAll(t.Context(), "")
		if f := explain.Error(err); err == nil || f != err || f.Cause != job.Forbidden {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

// secretOf is the Secret of a Job with certificates for a job of that name.
func secretOf(t *testing.T, owner *batchv1.Job, namespace, name string) *corev1.Secret {
	t.Helper()
	s := manifest.Secret(owner, minimal(), testCerts(t, namespace, name))
	s.UID = "uid-secret"
	return s
}

func TestAttach(t *testing.T) {
	x := madeJob(t, "x")
	s := &shelf{jobs: []*batchv1.Job{x}, pods: []*corev1.Pod{podIn(1, x, "x-1", exits(t, 6))},
		secrets: []*corev1.Secret{secretOf(t, x, "ns", "x")}}
	p := s.start(t)
	found := newFound(x, specNamed("x"), []corev1.Pod{*podIn(1, x, "x-1", runs)}) // it has ended since
	r, err := p.Attach(t.Context(), found, RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.TLS() == nil {
		t.Error("no certificates")
	}
	if r.Listener() == nil || r.secrets[0].UID != "uid-secret" || !r.pods["x-1"] {
		t.Errorf("run %+v", r)
	}
	o, err := r.Watch(t.Context(), job.Observer{Report: func(job.Event) {}})
	if got := endText(o, err); got != "outcome Error 6: " {
		t.Errorf("got %q", got)
	}
	r.Close() // again

	t.Run("without a tunnel no certificate is needed", func(t *testing.T) {
		p := (&shelf{jobs: s.jobs, pods: s.pods}).start(t)
		r, err := p.Attach(t.Context(), found, RunOptions{NoTunnel: true})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if r.TLS() != nil {
			t.Error("certificates came from somewhere")
		}
		var phases []string
		o, err := r.Watch(t.Context(), job.Observer{
			Report: func(e job.Event) { phases = append(phases, e.Phase.String()+" "+e.Detail) },
		})
		if got := endText(o, err); got != "outcome Error 6: " || !slices.Contains(phases, "running x-1") {
			t.Errorf("got %q, phases %q", got, phases)
		}
	})
	t.Run("deleted meanwhile", func(t *testing.T) {
		p := (&shelf{secrets: s.secrets}).start(t)
		r, err := p.Attach(t.Context(), newFound(x, specNamed("x"), []corev1.Pod{*podIn(1, x, "x-1", runs)}), RunOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if u := (<-r.updates).(jobUpdate); !u.gone || u.job.UID != "uid-x" { // nothing else is there to come
			t.Errorf("got %+v", u)
		}
	})
	t.Run("no right to watch", func(t *testing.T) {
		p := (&shelf{jobs: s.jobs, secrets: s.secrets,
			answer: map[string]http.HandlerFunc{"list pods": denies("list", "pods"), "watch pods": denies("watch", "pods")}}).start(t)
		r, err := p.Attach(t.Context(), found, RunOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := r.Watch(t.Context(), job.Observer{Report: func(job.Event) {}}); explain.Error(err) == nil ||
			explain.Error(err).Cause != job.Forbidden {
			t.Errorf("got %v", err)
		}
	})
}

// Whatever keeps us from attaching is told before anything is begun.
func TestAttachFails(t *testing.T) {
	x := madeJob(t, "x")
	without := func(key string) *corev1.Secret {
		s := secretOf(t, x, "ns", "x")
		delete(s.Data, key)
		return s
	}
	garbled := secretOf(t, x, "ns", "x")
	garbled.Data["server.crt"] = []byte("no PEM")
	swapped := secretOf(t, x, "ns", "x")
	swapped.Data["server.key"] = secretOf(t, x, "ns", "x").Data["server.key"]
	for _, test := range []struct {
		name    string
		secret  *corev1.Secret
		answer  http.HandlerFunc
		cause   job.Cause // empty: a plain error
		message string
		hint    string
	}{
		{name: "no right", answer: denies("get", "secrets"), cause: job.Forbidden,
			message: `forbidden: user "dev" may not get secrets in namespace "ns"`,
			hint: "an administrator can grant it: kubectl create rolebinding hodei-dev --clusterrole=hodei-user --user=dev -n ns; if " +
				"that is bound already: {hodei} install --workers-namespace=ns"},
		{name: "no Secret", cause: job.ConfigError, message: `job "x" can't be attached to: its secret "x" is not found in namespace ns`,
			hint: "see how it is: {hodei} jobs x -n ns"},
		{name: "no CA", secret: without("ca.crt"), cause: job.ConfigError,
			message: `job "x" can't be attached to: its secret "x" has no key ca.crt in namespace ns`,
			hint:    "see how it is: {hodei} jobs x -n ns"},
		{name: "no certificate", secret: without("server.crt"), cause: job.ConfigError, message: `its secret "x" has no key server.crt`,
			hint: "see how it is: {hodei} jobs x -n ns"},
		{name: "no key", secret: without("server.key"), cause: job.ConfigError, message: `its secret "x" has no key server.key`,
			hint: "see how it is: {hodei} jobs x -n ns"},
		{name: "another's Secret", secret: secretOf(t, otherJob, "ns", "x"), message: `secret "x" does not belong to job "x"`},
		{name: "garbage", secret: garbled, message: `secret "x": server certificate of the job: malformed`},
		{name: "another certificate's key", secret: swapped,
			message: `secret "x": server key of the job: private key does not match the certificate`},
		{name: "another job's certificate", secret: secretOf(t, x, "ns", "y"),
			message: `secret "x": server.crt is of spiffe://hodei/ns/ns/job/y, want spiffe://hodei/ns/ns/job/x`},
		{name: "another namespace's certificate", secret: secretOf(t, x, "other", "x"),
			message: `secret "x": server.crt is of spiffe://hodei/ns/other/job/x, want spiffe://hodei/ns/ns/job/x`},
		{name: "nobody's certificate", secret: ofNobody(t, secretOf(t, x, "ns", "x")), message: `secret "x": server.crt: `},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &shelf{answer: map[string]http.HandlerFunc{"get secrets x": test.answer}}
			if test.secret != nil {
				test.secret.Name = "x"
				s.secrets = []*corev1.Secret{test.secret}
			}
			r, err := s.start(t).Attach(t.Context(), newFound(x, specNamed("x"), nil), RunOptions{})
			if err == nil {
				r.Close()
				t.Fatal("no error")
			}
			failure, ok := errors.AsType[*job.Failure](err)
			if !strings.Contains(err.Error(), test.message) || ok != (test.cause != "") {
				t.Errorf("got %#v: %v", err, err)
			}
			if ok && (failure.Cause != test.cause || failure.Hint != test.hint) {
				t.Errorf("got %s, hint %q", failure.Cause, failure.Hint)
			}
		})
	}
}

// ofNobody puts a server's certificate into a Secret that names no job.
func ofNobody(t *testing.T, secret *corev1.Secret) *corev1.Secret {
	t.Helper()
	dir := t.TempDir()
	if _, err := certs.Generate(certs.GenerateOptions{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ca.crt", "server.crt", "server.key"} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		secret.Data[name] = content
	}
	return secret
}

func TestContainerLog(t *testing.T) {
	since := time.Date(2025, 2, 3, 4, 5, 6, 0, time.UTC)
	tail := int64(10)
	var asked string
	says := func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.RawQuery
		io.WriteString(w, "out\n")
	}
	invalid := func(field string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			respond(w, 422,
				metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: 422,
					Reason:  metav1.StatusReasonInvalid,
					Message: fmt.Sprintf(`PodLogOptions "x-1" is invalid: %s: Forbidden: may not be specified`, field),
					Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Field: field}}}})
		}
	}
	bad := func(message string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, message)
		}
	}
	const one = "this cluster can't tell stdout from stderr in a container's log (feature gate PodLogsQuerySplitStreams)"
	for _, test := range []struct {
		name    string
		options ContainerLogOptions
		version string
		answer  http.HandlerFunc
		query   string
		err     string
		hint    string
	}{
		{name: "all", query: "container=job"},
		{name: "everything", options: ContainerLogOptions{Follow: true, Since: since, TailLines: &tail, Timestamps: true},
			query: "container=job&follow=true&sinceTime=2025-02-03T04%3A05%3A06Z&tailLines=10&timestamps=true"},
		{name: "stdout", options: ContainerLogOptions{Stream: "stdout"}, version: "v1.32.0", query: "container=job&stream=Stdout"},
		{name: "stderr", options: ContainerLogOptions{Stream: "stderr"}, version: "v1.36.1-gke.1200", query: "container=job&stream=Stderr"},
		{name: "no such stream", options: ContainerLogOptions{Stream: "Stdout"}, err: `stream "Stdout": want stdout or stderr`},
		{name: "a server that would return both", options: ContainerLogOptions{Stream: "stdout"}, version: "v1.31.9", err: one,
			hint: "leave --stream out"},
		{name: "a server of no known version", options: ContainerLogOptions{Stream: "stdout"}, version: "next", err: one,
			hint: "leave --stream out"},
		{name: "a server that refuses", options: ContainerLogOptions{Stream: "stdout"}, version: "v1.35.4", answer: invalid("stream"),
			err: one, hint: "leave --stream out"},
		{name: "a kubelet that refuses", options: ContainerLogOptions{Stream: "stdout"}, version: "v1.35.4",
			answer: bad(`unable to return the given log stream: "Stdout". Please enable PodLogsQuerySplitStreams feature gate in kubelet`),
			err:    one, hint: "leave --stream out"},
		{name: "another refusal", options: ContainerLogOptions{Stream: "stdout"}, version: "v1.35.4", answer: invalid("sinceTime"),
			err: `PodLogOptions "x-1" is invalid: sinceTime: Forbidden: may not be specified`},
		{name: "not started", answer: bad(`container "job" in pod "x-1" is waiting to start: ContainerCreating`),
			err: `container "job" in pod "x-1" is waiting to start: ContainerCreating`},
		{name: "no right", answer: denies("get", "pods/log"), err: `forbidden: user "dev" may not get pods/log in namespace "ns"`,
			hint: "an administrator can grant it: kubectl create rolebinding hodei-dev --clusterrole=hodei-user --user=dev -n ns; if " +
				"that is bound already: {hodei} install --workers-namespace=ns"},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked = ""
			if test.answer == nil {
				test.answer = says
			}
			p := (&shelf{version: test.version, answer: map[string]http.HandlerFunc{"get pods x-1/log": test.answer}}).start(t)
			log, err := p.ContainerLog(t.Context(), "x-1", test.options)
			if test.err != "" {
				failure, _ := errors.AsType[*job.Failure](err)
				if err == nil || err.Error() != test.err || failure != nil && failure.Hint != test.hint ||
					failure == nil && test.hint != "" {
					t.Errorf("got %v, %+v", err, failure)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			if text, err := io.ReadAll(log); err != nil || string(text) != "out\n" || asked != test.query {
				t.Errorf("asked for %s, got %q, %v", asked, text, err)
			}
		})
	}
	t.Run("ends with its context", func(t *testing.T) {
		p := (&shelf{answer: map[string]http.HandlerFunc{"get pods x-1/log": func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "out\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}}}).start(t)
		ctx, cancel := context.WithCancel(t.Context())
		log, err := p.ContainerLog(ctx, "x-1", ContainerLogOptions{Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		line := make([]byte, 4)
		if _, err := io.ReadFull(log, line); err != nil {
			t.Fatal(err)
		}
		cancel()
		// A server that notices first ends it in order.
		if _, err := io.ReadAll(log); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestMayTunnel(t *testing.T) {
	for _, test := range []struct {
		name    string
		allowed []string
		want    bool
	}{
		{"both", []string{"get", "create"}, true},
		{"create alone", []string{"create"}, true}, // by SPDY
		{"get alone", []string{"get"}, false},
		{"neither", nil, false},
	} {
		server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			review := authorizationv1.SelfSubjectAccessReview{}
			if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
				t.Error(err)
			}
			a := review.Spec.ResourceAttributes
			review.Status.Allowed = a.Namespace == "ns" && a.Subresource == "portforward" && slices.Contains(test.allowed, a.Verb)
			respond(w, http.StatusCreated, review)
		}))
		defer server.Close()
		p, err := New(Options{Config: configOf(server), Provider: provider.Config{Namespace: "ns"}})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.MayTunnel(t.Context()); err != nil || got != test.want {
			t.Errorf("%s: got %t, %v", test.name, got, err)
		}
	}
	p := (&shelf{}).start(t) // knows no reviews
	if may, err := p.MayTunnel(t.Context()); err != nil || !may {
		t.Errorf("no answer to the question: %t, %v", may, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if may, err := p.MayTunnel(ctx); !errors.Is(err, context.Canceled) || may {
		t.Errorf("cancelled: %t, %v", may, err)
	}
}

func TestContainerLogsDefault(t *testing.T) {
	on, off := true, false
	for _, test := range []struct {
		said     *bool
		detached bool
		want     bool
	}{{nil, false, false}, {nil, true, true}, {&on, false, true}, {&on, true, true}, {&off, false, false}, {&off, true, false}} {
		p := &Provider{settings: manifest.Settings{Config: provider.Config{ContainerLogs: test.said}}}
		if got := p.ContainerLogs(test.detached); got != test.want {
			t.Errorf("%v detached %t: got %t", test.said, test.detached, got)
		}
	}
}
