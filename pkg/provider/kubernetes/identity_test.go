package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

// attached is a Run of job x, whose Secret is served by secret.
func attachedTo(t *testing.T, secret func() *corev1.Secret, denied *atomic.Bool) (*Run, *atomic.Int32) {
	t.Helper()
	var gets atomic.Int32
	x := madeJob(t, "x")
	s := &shelf{answer: map[string]http.HandlerFunc{"get secrets x": func(w http.ResponseWriter, r *http.Request) {
		gets.Add(1)
		if denied.Load() {
			denies("get", "secrets")(w, r)
			return
		}
		respond(w, http.StatusOK, secret())
	}}}
	r, err := s.start(t).Attach(t.Context(), newFound(x, specNamed("x"), nil), RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r, &gets
}

// The Secret is read once for every connection but the first, and certificates that
// can't be had leave those that are there.
func TestMeet(t *testing.T) {
	x := madeJob(t, "x")
	var now atomic.Pointer[corev1.Secret]
	now.Store(secretOf(t, x, "ns", "x"))
	var denied atomic.Bool
	r, gets := attachedTo(t, now.Load, &denied)
	shown := func() string { return r.certs.Certificate().SerialNumber.String() }
	first := shown()
	now.Store(secretOf(t, x, "ns", "x"))
	r.meet(t.Context())
	if shown() != first || gets.Load() != 1 {
		t.Errorf("at the first connection the Secret was read again: %d times", gets.Load())
	}
	r.meet(t.Context())
	second := shown()
	if second == first || gets.Load() != 2 {
		t.Errorf("read %d times, certificate changed: %v", gets.Load(), second != first)
	}
	if f := r.Refused(errors.New("remote error: tls: bad certificate")); !strings.Contains(f.Message,
		"tls: bad certificate; ours is valid from ") ||
		!strings.Contains(f.Message, "and this machine's clock says ") || !strings.Contains(f.Message, "Z, the API server's 2") ||
		strings.Contains(f.Message, "could not be read") ||
		!strings.Contains(f.Hint, "{hodei} certs rotate --job x -n ns") {
		t.Errorf("%s, hint %q", f.Message, f.Hint)
	}

	swapped := secretOf(t, x, "ns", "x")
	swapped.Data["server.key"] = now.Load().Data["server.key"]
	now.Store(swapped)
	r.meet(t.Context())
	denied.Store(true)
	r.meet(t.Context())
	if shown() != second {
		t.Error("certificates were replaced by others that are no good")
	}
	if f := r.Refused(errors.New("x")); !strings.Contains(f.Message,
		`the job's Secret could not be read anew: forbidden: user "dev" may not get secrets`) {
		t.Error(f.Message)
	}
	denied.Store(false)
	now.Store(secretOf(t, x, "ns", "x"))
	r.meet(t.Context())
	if shown() == second || r.renewal != nil {
		t.Errorf("not renewed: %v", r.renewal)
	}
}

func TestAttachExpired(t *testing.T) {
	x := madeJob(t, "x")
	secret := secretOf(t, x, "ns", "x")
	authority, err := certs.NewAuthority(time.Nanosecond)
	if err != nil {
		t.Fatal(err)
	}
	secret.Data["ca.crt"] = authority.CAPEM()
	_, err = (&shelf{secrets: []*corev1.Secret{secret}}).start(t).Attach(t.Context(), newFound(x, specNamed("x"), nil), RunOptions{})
	if f, ok := errors.AsType[*job.Failure](err); !ok || f.Hint != "{hodei} certs rotate --job x -n ns" ||
		!strings.Contains(f.Message, "clock says") {
		t.Errorf("got %#v: %v", err, err)
	}
}

// renewing serves the Secret of job x, and takes patches of it.
func renewing(t *testing.T, secret *corev1.Secret, patch http.HandlerFunc) *Provider {
	t.Helper()
	return (&shelf{answer: map[string]http.HandlerFunc{"get secrets x": func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch {
			patch(w, r)
			return
		}
		respond(w, http.StatusOK, secret)
	}}}).start(t)
}

func TestRenewCerts(t *testing.T) {
	x := madeJob(t, "x")
	authority, err := certs.NewAuthority(0)
	if err != nil {
		t.Fatal(err)
	}
	secret := secretOf(t, x, "ns", "x")
	secret.ResourceVersion = "7"
	silent := func(text string) { t.Errorf("said %q", text) }
	t.Run("no agent yet", func(t *testing.T) {
		var got corev1.Secret
		patches := 0
		p := renewing(t, secret, func(w http.ResponseWriter, r *http.Request) {
			patches++
			body, err := io.ReadAll(r.Body)
			if err == nil {
				err = json.Unmarshal(body, &got)
			}
			if err != nil {
				t.Error(err)
			}
			respond(w, http.StatusOK, secret)
		})
		if _, err := p.RenewCerts(t.Context(), newFound(x, specNamed("x"), nil), authority, silent); err != nil {
			t.Fatal(err)
		}
		if patches != 1 || got.UID != secret.UID || got.ResourceVersion != "7" {
			t.Errorf("%d patches, of %s at %s", patches, got.UID, got.ResourceVersion)
		}
		if _, err := manifest.CertsOf(&got).ServerConfig(); err != nil || string(got.Data["ca.crt"]) != string(authority.CAPEM()) {
			t.Errorf("stored certificates: %v", err)
		}
	})
	for _, tt := range []struct {
		name   string
		secret func(*corev1.Secret)
		patch  http.HandlerFunc
		want   string
	}{
		{name: "no right", patch: denies("patch", "secrets"), want: `forbidden: user "dev" may not patch secrets in namespace "ns"`},
		{name: "changed meanwhile", patch: func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, http.StatusConflict, metav1.StatusReasonConflict, "the object has been modified")
		}, want: `secret "x" was changed by somebody else meanwhile`},
		{name: "torn", secret: func(s *corev1.Secret) { s.Data["ca.crt"] = s.Data["ca.crt"][:50] },
			want: `secret "x": malformed: 0 of its 1 PEM blocks can be read`},
		{name: "another's", secret: func(s *corev1.Secret) { s.OwnerReferences[0].UID = "other" },
			want: `secret "x" does not belong to job "x"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := secret.DeepCopy()
			if tt.secret != nil {
				tt.secret(s)
			}
			_, err := renewing(t, s, tt.patch).RenewCerts(t.Context(), newFound(x, specNamed("x"), nil), authority, silent)
			if err == nil || err.Error() != tt.want {
				t.Errorf("error %v, want %s", err, tt.want)
			}
			if f, ok := errors.AsType[*job.Failure](err); ok && !strings.Contains(f.Hint, "{hodei} certs ") {
				t.Errorf("hint %q", f.Hint)
			}
		})
	}
}

// Where the agent can't be asked, what is stored is good for old and new files.
func TestRenewCertsHalfway(t *testing.T) {
	x := madeJob(t, "x")
	authority, err := certs.NewAuthority(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, want string
		tunnel     http.HandlerFunc
		wait       time.Duration // until the caller gives up; 0: never
	}{
		{"no tunnel", "pods/portforward is forbidden", denies("create", "pods/portforward"), 0},
		{"interrupted", "is not: interrupted", func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, http.StatusInternalServerError, metav1.StatusReasonInternalError, "the kubelet is away")
		}, 100 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			secret := secretOf(t, x, "ns", "x")
			old := manifest.CertsOf(secret)
			var stored []corev1.Secret
			hastened := false
			p := (&shelf{answer: map[string]http.HandlerFunc{
				"get secrets x": func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodPatch {
						var got corev1.Secret
						if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
							t.Error(err)
						}
						stored = append(stored, got)
					}
					respond(w, http.StatusOK, secret)
				},
				"get pods x-1": func(w http.ResponseWriter, r *http.Request) {
					hastened = hastened || r.Method == http.MethodPatch
					denies("patch", "pods")(w, r) // it only takes longer then
				},
				"get pods x-1/portforward": tt.tunnel,
			}}).start(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if tt.wait > 0 {
				defer time.AfterFunc(tt.wait, cancel).Stop()
			}
			found := newFound(x, specNamed("x"), []corev1.Pod{*podIn(1, x, "x-1", runs, func(p *corev1.Pod) { p.Spec.NodeName = "n" })})
			said := ""
			_, err := p.RenewCerts(ctx, found, authority, func(text string) { said = text })
			f, ok := errors.AsType[*job.Failure](err)
			if !ok || !strings.HasPrefix(f.Message, "the worker's certificates are renewed and the coordinator's is not: ") ||
				!strings.Contains(f.Hint, "certs rotate --job x") {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(f.Message, tt.want) {
				t.Errorf("got %v", err)
			}
			if said == "" || !hastened || len(stored) != 1 {
				t.Fatalf("said %q, hastened %v, stored %d times", said, hastened, len(stored))
			}
			got := manifest.CertsOf(&stored[0])
			if string(got.ServerCert) != string(old.ServerCert) || string(got.CA) != string(authority.CAPEM())+string(old.CA) ||
				string(got.ClientCert) == string(old.ClientCert) {
				t.Error("what is stored is not good for both")
			}
		})
	}
}

// An agent that is no more is not waited for, and one that can't start is told.
func TestRenewCertsNoAgent(t *testing.T) {
	x := madeJob(t, "x")
	authority, err := certs.NewAuthority(0)
	if err != nil {
		t.Fatal(err)
	}
	pod := func(mutate func(*corev1.Pod)) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { respond(w, http.StatusOK, podIn(1, x, "x-1", mutate)) }
	}
	gone := func(what string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, what+" not found")
		}
	}
	for _, tt := range []struct {
		name   string
		pod    http.HandlerFunc
		final  http.HandlerFunc // of the Secret's second patch; nil: it is taken
		stored int
		want   string // error
	}{
		{"deleted", gone("pods"), nil, 2, ""},
		{"ended", pod(func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }), nil, 2, ""},
		{"its job deleted too", gone("pods"), gone("secrets"), 1, `job "x" was deleted meanwhile`},
		{"no image", pod(func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: manifest.AgentContainer, Image: "worker:1",
				State: corev1.ContainerState{
					Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImageNeverPull", Message: "not present"}}}}
		}), nil, 1,
			`the worker's certificates are renewed and the coordinator's is not: ` +
				`the worker's image "worker:1" can't be pulled: not present`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			secret := secretOf(t, x, "ns", "x")
			stored := 0
			p := (&shelf{answer: map[string]http.HandlerFunc{
				"get secrets x": func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodPatch {
						if stored == 1 && tt.final != nil {
							tt.final(w, r)
							return
						}
						stored++
					}
					respond(w, http.StatusOK, secret)
				},
				"get pods x-1": tt.pod,
				"get pods x-1/portforward": func(w http.ResponseWriter, _ *http.Request) {
					refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, "pods not found")
				},
			}}).start(t)
			found := newFound(x, specNamed("x"), []corev1.Pod{*podIn(1, x, "x-1", runs, func(p *corev1.Pod) { p.Spec.NodeName = "n" })})
			_, err := p.RenewCerts(t.Context(), found, authority, func(string) {})
			if got := fmt.Sprint(err); stored != tt.stored || err == nil != (tt.want == "") || err != nil && got != tt.want {
				t.Errorf("stored %d times, error %v; want %d, %q", stored, err, tt.stored, tt.want)
			}
		})
	}
}
