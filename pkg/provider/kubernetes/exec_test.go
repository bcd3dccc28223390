package kubernetes

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

// bothCerts are those of job x, and of who may run commands beside its own, of one authority.
func bothCerts(t *testing.T, a *certs.Authority, name string) (id, exec *certs.JobCerts) {
	t.Helper()
	id, err := a.IssueJob(certs.ID{Namespace: "ns", Job: name})
	if err == nil {
		exec, err = a.IssueExec(certs.ID{Namespace: "ns", Job: name})
	}
	if err != nil {
		t.Fatal(err)
	}
	return id, exec
}

func newAuthority(t *testing.T) *certs.Authority {
	t.Helper()
	a, err := certs.NewAuthority(0)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// execSpec is the spec of a job beside whose command others may be run.
func execSpec(name string) *job.Spec {
	return specWith(func(s *job.Spec) { s.Name, s.Exec = name, true })
}

// putSecret stores a Secret that a Job of the given name owns; empty: nobody does.
func (s *store) putSecret(name, owner string) {
	metadata := map[string]any{"name": name, "namespace": "ns"}
	if owner != "" {
		metadata["ownerReferences"] = []any{map[string]any{
			"apiVersion": "batch/v1", "kind": "Job", "name": owner, "uid": "of-" + owner, "controller": true}}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add("secrets", &unstructured.Unstructured{Object: map[string]any{"metadata": metadata}})
}

func TestSubmitExec(t *testing.T) {
	for _, test := range []struct {
		name string
		exec bool
		busy bool // the API server wants to be asked for the first Secret again, though it has made it
		made []string
	}{
		{"allowed", true, false, []string{"jobs x", "secrets x", "secrets x-exec"}},
		{"not allowed", false, false, []string{"jobs x", "secrets x"}},
		{"asked twice", true, true, []string{"jobs x", "secrets x", "secrets x-exec"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &store{}
			if test.busy {
				s.after = busyOnce("POST secrets")
			}
			id, exec := bothCerts(t, newAuthority(t), "x")
			spec, o := specNamed("x"), RunOptions{}
			if test.exec {
				spec, o.ExecCerts = execSpec("x"), exec
			}
			r, err := s.start(t).Submit(t.Context(), spec, id, o)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if got := s.left(); !slices.Equal(got, test.made) {
				t.Errorf("made %v, want %v", got, test.made)
			}
			if test.exec {
				second := s.get("secrets x-exec")
				data, _, _ := unstructured.NestedStringMap(second.Object, "data")
				if owner := metav1.GetControllerOf(second); owner == nil || owner.UID != s.get("jobs x").GetUID() || len(data) != 3 {
					t.Errorf("owner %v, %d files", owner, len(data))
				}
			}
			if err := r.Delete(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := s.left(); len(got) != 0 {
				t.Errorf("left behind %v", got)
			}
		})
	}
}

// TestSubmitExecFails: whatever becomes of the second Secret, nothing of ours is left behind, and nothing of others' is
// touched.
func TestSubmitExecFails(t *testing.T) {
	second := func(answer func(http.ResponseWriter)) func(string, http.ResponseWriter) bool {
		var mu sync.Mutex
		posts := 0
		return func(what string, w http.ResponseWriter) bool {
			mu.Lock()
			defer mu.Unlock()
			if what == "POST secrets" {
				posts++
			}
			if what != "POST secrets" || posts < 2 {
				return false
			}
			answer(w)
			return true
		}
	}
	forbid := func(verb string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { denies(verb, "secrets")(w, nil) }
	}
	for _, test := range []struct {
		name          string
		spec          *job.Spec
		there, holder string // a Secret of somebody else's, and the job that it belongs to
		before        func(string, http.ResponseWriter) bool
		cause         job.Cause
		message, hint string
	}{
		{name: "forbidden", spec: execSpec("x"), before: second(forbid("create")), cause: job.Forbidden,
			message: `forbidden: user "dev" may not create secrets in namespace "ns"`, hint: "an administrator can grant it: "},
		{name: "request lost", spec: execSpec("x"), before: second(hangUp), cause: job.ConfigError,
			message: "Kubernetes cluster not available: "},
		{name: "job x-exec is there", spec: execSpec("x"), there: "x-exec", holder: "x-exec", cause: job.ConfigError,
			message: `job x can't allow exec: it needs a secret "x-exec", and that is job x-exec's`,
			hint:    "choose another --name, or run it with --exec=false"},
		{name: "somebody's own Secret is there", spec: execSpec("x"), there: "x-exec", cause: job.ConfigError,
			message: `secret "x-exec" exists already, and job x needs that name to allow exec`,
			hint:    "choose another --name, or run it with --exec=false"},
		{name: "whose is not known", spec: execSpec("x"), there: "x-exec", holder: "x-exec",
			before: on("GET secrets x-exec", forbid("get")), cause: job.ConfigError,
			message: `secret "x-exec" exists already, and job x needs that name to allow exec`,
			hint:    "choose another --name, or run it with --exec=false"},
		{name: "job x is there, and allows exec", spec: specNamed("x-exec"), there: "x-exec", holder: "x", cause: job.ConfigError,
			message: `job x-exec can't have this name: it needs a secret "x-exec", and job x, which allows exec, has that`,
			hint:    "choose another --name"},
		{name: "the last job of the name is not gone", spec: specNamed("x-exec"), there: "x-exec", holder: "x-exec", cause: job.ConfigError,
			message: `secrets "x-exec" already exists`, hint: "choose another --name, or see what is there: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &store{before: test.before}
			var want []string
			if test.there != "" {
				s.putSecret(test.there, test.holder)
				want = []string{"secrets " + test.there}
			}
			id, exec := bothCerts(t, newAuthority(t), test.spec.Name)
			if !test.spec.Exec {
				exec = nil
			}
			r, err := s.start(t).Submit(t.Context(), test.spec, id, RunOptions{ExecCerts: exec})
			if err == nil {
				r.Close()
				t.Fatal("no error")
			}
			f := explain.Error(err)
			if f != err || f.Cause != test.cause || !strings.HasPrefix(f.Message, test.message) || !strings.HasPrefix(f.Hint, test.hint) {
				t.Errorf("got  %s: %s (%s)\nwant %s: %s… (%s…)", f.Cause, f.Message, f.Hint, test.cause, test.message, test.hint)
			}
			if got := s.left(); !slices.Equal(got, want) {
				t.Errorf("left behind %v, want %v (%v)", got, want, s.writes())
			}
		})
	}
}

// allowing is Job x as it is made with --exec, and its two Secrets.
func allowing(t *testing.T, a *certs.Authority) (j *batchv1.Job, first, second *corev1.Secret) {
	t.Helper()
	j = madeJob(t, "x", func(j *batchv1.Job) {
		text, err := json.Marshal(execSpec("x"))
		if err != nil {
			t.Fatal(err)
		}
		j.Annotations[manifest.AnnotationSpec] = string(text)
	})
	id, exec := bothCerts(t, a, "x")
	first, second = manifest.Secret(j, execSpec("x"), id), manifest.ExecSecret(j, exec)
	first.UID, second.UID = "uid-first", "uid-second"
	return j, first, second
}

// TestAttachExec: which of the two certificates is read is what the options say.
func TestAttachExec(t *testing.T) {
	x, first, second := allowing(t, newAuthority(t))
	p := (&shelf{jobs: []*batchv1.Job{x}, secrets: []*corev1.Secret{first, second}}).start(t)
	for _, exec := range []bool{false, true} {
		r, err := p.Attach(t.Context(), newFound(x, execSpec("x"), nil), RunOptions{Exec: exec})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		want := contract.JobURI("ns", "x")
		if exec {
			want = contract.JobExecURI("ns", "x")
		}
		for _, when := range []string{"at first", "for the second connection", "for the third"} {
			if got := r.certs.Certificate().URIs[0].String(); got != want || r.renewal != nil {
				t.Errorf("exec %v, %s: it shows %s (%v)", exec, when, got, r.renewal)
			}
			r.meet(t.Context())
		}
	}
}

func TestAttachExecFails(t *testing.T) {
	a := newAuthority(t)
	x, first, second := allowing(t, a)
	foreign := second.DeepCopy()
	foreign.OwnerReferences[0].UID = "uid-of-another"
	plain := second.DeepCopy() // as if attaching were executing
	for _, key := range []string{"ca.crt", "server.crt", "server.key"} {
		plain.Data[key] = first.Data[key]
	}
	others := second.DeepCopy()
	_, exec := bothCerts(t, a, "y")
	others.Data["server.crt"], others.Data["server.key"] = exec.ServerCert, exec.ServerKey
	for _, test := range []struct {
		name          string
		secret        *corev1.Secret
		answer        map[string]http.HandlerFunc
		message, hint string
	}{
		{name: "no right", secret: second, answer: map[string]http.HandlerFunc{"get secrets x-exec": denies("get", "secrets")},
			message: `no command may be run beside job x without its secret "x-exec": ` +
				`forbidden: user "dev" may not get secrets in namespace "ns"`,
			hint: "an administrator can grant it: " +
				"kubectl create role x-exec --verb=get --resource=secrets --resource-name=x-exec -n ns && " +
				"kubectl create rolebinding x-exec-dev --role=x-exec --user=dev -n ns"},
		{name: "taken away", message: `job "x" can't be attached to: its secret "x-exec" is not found in namespace ns`,
			hint: "see how it is: {hodei} jobs x -n ns"},
		{name: "another job's", secret: foreign, message: `secret "x-exec" does not belong to job "x"`},
		{name: "the job's own certificate", secret: plain,
			message: `secret "x-exec": server.crt is of spiffe://hodei/ns/ns/job/x, want spiffe://hodei/ns/ns/job/x/exec`},
		{name: "for commands beside another job", secret: others,
			message: `secret "x-exec": server.crt is of spiffe://hodei/ns/ns/job/y/exec, want spiffe://hodei/ns/ns/job/x/exec`},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &shelf{jobs: []*batchv1.Job{x}, secrets: []*corev1.Secret{first}, answer: test.answer}
			if test.secret != nil {
				s.secrets = append(s.secrets, test.secret)
			}
			r, err := s.start(t).Attach(t.Context(), newFound(x, execSpec("x"), nil), RunOptions{Exec: true})
			if err == nil {
				r.Close()
				t.Fatal("no error")
			}
			if f := explain.Error(err); f.Message != test.message || f.Hint != test.hint {
				t.Errorf("got  %s (%s)\nwant %s (%s)", f.Message, f.Hint, test.message, test.hint)
			}
		})
	}

	// The other way round, nobody attaches with what is for commands beside the job's.
	wrong := first.DeepCopy()
	wrong.Data["server.crt"], wrong.Data["server.key"] = second.Data["server.crt"], second.Data["server.key"]
	p := (&shelf{jobs: []*batchv1.Job{x}, secrets: []*corev1.Secret{wrong}}).start(t)
	if r, err := p.Attach(t.Context(), newFound(x, execSpec("x"), nil), RunOptions{}); err == nil {
		r.Close()
		t.Error("the certificate for commands beside the job's was taken for the job's own")
	}
}

// TestDeleteFoundExec: both Secrets go with a job that has two, and another job's Secret of the second one's name stays.
func TestDeleteFoundExec(t *testing.T) {
	x, first, second := allowing(t, newAuthority(t))
	foreign := second.DeepCopy()
	foreign.OwnerReferences[0].UID = "uid-of-another"
	const theJob = "delete jobs/x of uid-x Background"
	const theFirst, theSecond = "delete secrets/x of uid-first", "delete secrets/x-exec of uid-second"
	for _, test := range []struct {
		name   string
		job    *batchv1.Job
		second *corev1.Secret
		want   []string
	}{
		{"two", x, second, []string{theJob, theFirst, theSecond}},
		{"the second is another job's", x, foreign, []string{theJob, theFirst}},
		{"one", madeJob(t, "x"), foreign, []string{theJob, theFirst}},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := &deletions{shelf: shelf{jobs: []*batchv1.Job{test.job}, secrets: []*corev1.Secret{first, test.second}}}
			p := servedBy(t, d)
			found, err := p.Find(t.Context(), "x")
			if err == nil {
				err = p.Delete(t.Context(), found, DeleteOptions{})
			}
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(d.told)
			if !slices.Equal(d.told, test.want) {
				t.Errorf("told\n%s\nwant\n%s", strings.Join(d.told, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

// TestRenewCertsExec: the second Secret gets a certificate of the new authority, after the first one has.
func TestRenewCertsExec(t *testing.T) {
	x, first, second := allowing(t, newAuthority(t))
	foreign := second.DeepCopy()
	foreign.OwnerReferences[0].UID = "uid-of-another"
	for _, test := range []struct {
		name   string
		spec   *job.Spec
		second *corev1.Secret // nil: there is none
		patch  http.HandlerFunc
		stored []string
		err    string
	}{
		{name: "both", spec: execSpec("x"), second: second, stored: []string{"x", "x-exec"}},
		{name: "not allowed", spec: specNamed("x"), stored: []string{"x"}},
		{name: "taken away", spec: execSpec("x"), stored: []string{"x"}},
		{name: "another job's", spec: execSpec("x"), second: foreign, stored: []string{"x"},
			err: `secret "x" is renewed, and "x-exec" is not: secret "x-exec" does not belong to job "x"`},
		{name: "changed meanwhile", spec: execSpec("x"), second: second, stored: []string{"x"},
			patch: func(w http.ResponseWriter, _ *http.Request) {
				refuse(w, http.StatusConflict, metav1.StatusReasonConflict, "the object has been modified")
			}, err: `secret "x" is renewed, and "x-exec" is not: secret "x-exec" was changed by somebody else meanwhile`},
		{name: "no right", spec: execSpec("x"), second: second, patch: denies("patch", "secrets"), stored: []string{"x"},
			err: `secret "x" is renewed, and "x-exec" is not: forbidden: user "dev" may not patch secrets in namespace "ns"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			authority := newAuthority(t)
			var order []string
			stored := map[string]*corev1.Secret{}
			serve := func(secret *corev1.Secret, patch http.HandlerFunc) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					switch {
					case r.Method != http.MethodPatch:
					case patch != nil:
						patch(w, r)
						return
					default:
						got := &corev1.Secret{}
						if err := json.NewDecoder(r.Body).Decode(got); err != nil || got.UID != secret.UID {
							t.Errorf("patch of %s: %v", got.UID, err)
						}
						order, stored[secret.Name] = append(order, secret.Name), got
					}
					respond(w, http.StatusOK, secret)
				}
			}
			answer := map[string]http.HandlerFunc{"get secrets x": serve(first, nil)}
			if test.second != nil {
				answer["get secrets x-exec"] = serve(test.second, test.patch)
			}
			p := (&shelf{answer: answer}).start(t)
			said := ""
			renewed, err := p.RenewCerts(t.Context(), newFound(x, test.spec, nil), authority, func(string) {})
			if err != nil {
				said = err.Error()
				if f := explain.Error(err); test.patch != nil && !strings.HasSuffix(f.Hint, "{hodei} certs rotate --job x -n ns") {
					t.Errorf("hint %q", f.Hint)
				}
			}
			if said != test.err || !slices.Equal(order, test.stored) || err == nil && !slices.Equal(renewed, test.stored) {
				t.Errorf("stored %v, returned %v, error %q; want %v, %q", order, renewed, said, test.stored, test.err)
			}
			if got := stored["x-exec"]; got != nil {
				config, err := manifest.CertsOf(got).ServerConfig()
				if err != nil {
					t.Fatal(err)
				}
				leaf := config.Certificates[0].Leaf
				if err := leaf.CheckSignatureFrom(authority.Cert); err != nil || leaf.URIs[0].String() != contract.JobExecURI("ns", "x") ||
					!slices.Equal(got.Data["ca.crt"], stored["x"].Data["ca.crt"]) || len(got.Data) != 3 {
					t.Errorf("stored a certificate of %s with %d keys: %v", leaf.URIs[0], len(got.Data), err)
				}
			}
		})
	}
}
