package kubernetes

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/tasks"
)

var (
	refusedConn = &url.Error{Op: "Get", URL: "https://api:6443/",
		Err: &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}}
	noLogin = &url.Error{Op: "Get", URL: "https://api:6443/",
		Err: errors.New("getting credentials: exec: executable aws failed with exit code 255")}
	unauthorized = apierrors.NewUnauthorized("Unauthorized")
	notAllowed   = denied(`pods is forbidden: User "dev" cannot watch resource "pods" in API group "" in the namespace "ns"`)
)

func TestStanding(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want standing
	}{
		{"an answer", nil, heard},
		{"not found", status(404, metav1.StatusReasonNotFound, "no"), heard},
		{"invalid", status(422, metav1.StatusReasonInvalid, "no"), heard},
		{"a watch that is too old", status(410, metav1.StatusReasonExpired, "no"), heard},
		{"we have ended it", context.Canceled, heard},
		{"another server's certificate", &url.Error{Op: "Get", URL: "x", Err: &tls.CertificateVerificationError{Err: errors.New("x509")}},
			heard},
		{"credentials", unauthorized, turnedAway},
		{"a right", notAllowed, turnedAway},
		{"a right, by the review of it", explain.MissingRight("dev", "list", "pods", "ns"), turnedAway},
		{"explained", explain.Error(unauthorized), turnedAway},
		{"no connection", refusedConn, silent},
		{"no connection, explained", explain.Error(refusedConn), silent},
		{"no credentials", noLogin, silent},
		{"no credentials, explained", explain.Error(noLogin), silent},
		{"no answer", &url.Error{Op: "Get", URL: "x", Err: context.DeadlineExceeded}, silent},
		{"in trouble", status(500, metav1.StatusReasonInternalError, "etcd"), silent},
		{"a gateway", status(502, metav1.StatusReasonUnknown, "bad gateway"), silent},
		{"going down", status(503, metav1.StatusReasonServiceUnavailable, "no"), silent},
		{"too busy", status(429, metav1.StatusReasonTooManyRequests, "no"), silent},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := standingOf(test.err); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}

// TestUnanswered: what is asked again before anything was answered.
func TestUnanswered(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want bool
	}{
		{"an answer", nil, false},
		{"no connection", refusedConn, true},
		{"credentials are refused", unauthorized, false},
		{"no credentials", noLogin, false},
		{"no credentials, explained", explain.Error(noLogin), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Unanswered(test.err); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestContact(t *testing.T) {
	type answer struct {
		after time.Duration
		err   error
	}
	s := time.Second
	every2 := func(n int, err error) (a []answer) {
		for range n {
			a = append(a, answer{2 * s, err})
		}
		return a
	}
	for _, test := range []struct {
		name    string
		wait    time.Duration
		answers []answer
		told    []string
		end     string // of the last answer
	}{
		{name: "all is well", answers: every2(3, nil)},
		{name: "a hiccup", answers: []answer{{0, refusedConn}, {2 * s, refusedConn}, {2 * s, nil}, {0, unauthorized}, {2 * s, nil}}},
		{name: "a restart",
			answers: []answer{{0, refusedConn}, {5 * s, refusedConn}, {time.Minute, refusedConn}, {2 * s, notAllowed}, {2 * s, nil},
				{s, nil}},
			told: []string{"Kubernetes cluster not available: dial tcp: connection refused; waiting for up to 1h0m0s",
				`forbidden: user "dev" may not watch pods in namespace "ns"; trying on for 30s`, "the cluster answers again"}},
		{name: "a login that has ended", answers: append([]answer{{0, unauthorized}}, every2(15, unauthorized)...),
			told: []string{"credentials are no longer accepted: Unauthorized; trying on for 28s"},
			end:  "Forbidden: credentials are no longer accepted: Unauthorized"},
		{name: "a login that is renewed", answers: append(append([]answer{{0, unauthorized}}, every2(14, unauthorized)...), answer{s, nil}),
			told: []string{"credentials are no longer accepted: Unauthorized; trying on for 28s", "the cluster answers again"}},
		{name: "a right that was taken", answers: append([]answer{{0, notAllowed}}, every2(15, notAllowed)...),
			told: []string{`forbidden: user "dev" may not watch pods in namespace "ns"; trying on for 28s`},
			end:  `Forbidden: forbidden: user "dev" may not watch pods in namespace "ns"`},
		{name: "refused, then away: the time of the refusal begins anew",
			answers: []answer{{0, unauthorized}, {20 * s, refusedConn}, {20 * s, unauthorized}, {29 * s, unauthorized}},
			told: []string{"Kubernetes cluster not available: dial tcp: connection refused; waiting for up to 1h0m0s",
				"credentials are no longer accepted: Unauthorized; trying on for 30s"}},
		{name: "away for long", wait: time.Minute, answers: []answer{{0, refusedConn}, {30 * s, refusedConn}, {30 * s, refusedConn}},
			told: []string{"Kubernetes cluster not available: dial tcp: connection refused; waiting for up to 1m0s"},
			end:  "ConfigError: Kubernetes cluster not available: dial tcp: connection refused (waited 1m0s)"},
		{name: "a credential plugin that fails", wait: time.Minute, answers: []answer{{0, noLogin}, {5 * s, noLogin}, {55 * s, noLogin}},
			told: []string{"this context has no credentials: getting credentials: exec: executable aws failed with exit code 255; " +
				"waiting for up to 1m0s"},
			end: "Forbidden: this context has no credentials: getting credentials: exec: executable aws failed with exit code 255 " +
				"(waited 1m0s)"},
		{name: "away and refused in turn, for long", wait: time.Minute,
			answers: []answer{{0, unauthorized}, {20 * s, refusedConn}, {20 * s, unauthorized}, {20 * s, refusedConn}},
			told: []string{"Kubernetes cluster not available: dial tcp: connection refused; waiting for up to 1m0s",
				"credentials are no longer accepted: Unauthorized; trying on for 30s"},
			end: "ConfigError: Kubernetes cluster not available: dial tcp: connection refused (waited 1m0s)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := Contact{Wait: test.wait}
			now, told := time.Unix(1e9, 0), []string(nil)
			for i, a := range test.answers {
				now = now.Add(a.after)
				say, lost := c.Next(now, a.err)
				if say != "" {
					told = append(told, say)
				}
				got, want := "", ""
				if lost != nil {
					got = fmt.Sprintf("%s: %s", lost.Cause, lost.Message)
				}
				if i == len(test.answers)-1 {
					want = test.end
				}
				if got != want || lost != nil && (!errors.Is(lost, ErrLost) || lost.Hint == "") {
					t.Fatalf("answer %d ends with %q (%+v), want %q", i, got, lost, want)
				}
			}
			if !slices.Equal(told, test.told) {
				t.Errorf("told\n%q, want\n%q", told, test.told)
			}
		})
	}
}

// TestLogin: what is refused under way is looked into, told, and waited for only for so
// long.
func TestLogin(t *testing.T) {
	for _, test := range []struct {
		name   string
		again  bool // it is accepted again after the first look
		phases []string
		want   string
	}{
		{name: "has ended", phases: []string{"running… credentials are no longer accepted: Unauthorized; trying on for 28s"},
			want: "failure Forbidden: credentials are no longer accepted: Unauthorized"},
		{name: "was renewed", again: true,
			phases: []string{"running… credentials are no longer accepted: Unauthorized; trying on for 28s",
				"running… the cluster answers again"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, phases := testWatcher(t, 0)
				r := w.run
				r.work = &tasks.Group{}
				defer r.Close()
				var asked atomic.Int32
				p, err := New(Options{Config: &rest.Config{Host: "http://api",
					Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
						w := httptest.NewRecorder() // without a connection, for synctest
						switch {
						case !strings.HasSuffix(req.URL.Path, "/selfsubjectaccessreviews"):
							t.Errorf("asked for %s", req.URL)
						case asked.Add(1) > 1 && test.again:
							respond(w, http.StatusCreated,
								map[string]any{"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
									"status": map[string]any{"allowed": true}})
						default:
							refuse(w, http.StatusUnauthorized, metav1.StatusReasonUnauthorized, "Unauthorized")
						}
						return w.Result(), nil
					})}})
				if err != nil {
					t.Fatal(err)
				}
				r.provider = p
				w.started = true
				r.doubt(t.Context(), right{"watch", "", "pods", ""}, unauthorized)
				r.doubt(t.Context(), right{"watch", "batch", "jobs", ""}, unauthorized) // looked into already
				end := ""
				for end == "" && r.doubting.Load() {
					select {
					case u := <-r.updates:
						o, err := w.take(t.Context(), u)
						end = endText(o, err)
					case <-time.After(time.Minute):
						t.Fatal("nothing comes")
					}
					synctest.Wait()
				}
				if end != test.want || !slices.Equal(*phases, test.phases) {
					t.Errorf("got %q, phases %q; want %q, %q", end, *phases, test.want, test.phases)
				}
			})
		})
	}
}

// TestRefusedWatch: an API server that has just started refuses what it has not read yet.
// What it has granted before is doubted, and only what it never did ends the start at once.
func TestRefusedWatch(t *testing.T) {
	for _, test := range []struct {
		name        string
		lists, both bool   // granted at first
		want        string // the first update that is not of an object
	}{
		{"never granted", false, false, "refusal"},
		{"the list alone", true, false, "refusal"},
		{"granted before", true, true, "answer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, _ := testWatcher(t, 0)
				r := w.run
				r.work = &tasks.Group{}
				var refuses atomic.Bool
				refuses.Store(!test.lists)
				watched, end := io.Pipe()
				p, err := New(Options{Config: &rest.Config{Host: "http://api",
					Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
						w := httptest.NewRecorder()
						switch query := req.URL.Query(); {
						case refuses.Load():
							refuse(w, http.StatusForbidden, metav1.StatusReasonForbidden, notAllowed.Error())
						case query.Get("sendInitialEvents") != "":
							refuse(w, http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, "sendInitialEvents is forbidden")
						case query.Get("watch") != "" && !test.both:
							refuse(w, http.StatusForbidden, metav1.StatusReasonForbidden, notAllowed.Error())
						case query.Get("watch") != "":
							return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
								Body: watched}, nil
						default:
							respond(w, http.StatusOK,
								corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"},
									ListMeta: metav1.ListMeta{ResourceVersion: "1"}})
						}
						return w.Result(), nil
					})}})
				if err != nil {
					t.Fatal(err)
				}
				r.provider = p
				pods := &cache.ListWatch{
					ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
						return p.client.CoreV1().Pods("ns").List(ctx, o)
					},
					WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
						return p.client.CoreV1().Pods("ns").Watch(ctx, o)
					},
				}
				r.inform(t.Context(), &corev1.Pod{}, pods, &right{resource: "pods"}, func(o any, _ bool) any { return o })
				if test.both {
					time.Sleep(time.Second) // it is listed and watched
					refuses.Store(true)
					end.Close()
				}
				var got []string
				for range 3 { // doubt alone, or beside the refusal
					select {
					case u := <-r.updates:
						got = append(got, strings.TrimPrefix(fmt.Sprintf("%T", u), "kubernetes."))
					case <-time.After(time.Minute):
					}
				}
				if ended := slices.Contains(got, "refusal"); ended != (test.want == "refusal") || !slices.Contains(got, test.want) {
					t.Errorf("got the updates %q, want one of type %s", got, test.want)
				}
				r.work.Stop()
				end.Close()
				r.work.Close()
			})
		})
	}
}

// TestAsk: what is to be followed is asked for again while the cluster does not
// answer, and no longer.
func TestAsk(t *testing.T) {
	away := &url.Error{Op: "Get", URL: "https://api/", Err: &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}}
	no := &job.Failure{Cause: job.Forbidden, Message: "no"}
	note := []string{`Kubernetes cluster not available: Get "https://api/": dial tcp: connection refused; waiting for up to 2m0s`}
	for _, test := range []struct {
		name    string
		patient bool
		answer  func(after time.Duration) error
		took    time.Duration
		err     error
		notes   []string
	}{
		{name: "an answer", patient: true, answer: func(time.Duration) error { return nil }},
		{name: "a refusal", patient: true, answer: func(time.Duration) error { return no }, err: no},
		{name: "away, and back", patient: true, took: 20 * time.Second, notes: note, answer: func(after time.Duration) error {
			if after < 20*time.Second {
				return away
			}
			return nil
		}},
		{name: "away", patient: true, took: FirstWait, notes: note, err: away, answer: func(time.Duration) error { return away }},
		{name: "a look at what is", answer: func(time.Duration) error { return away }, err: away},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, notes := time.Now(), []string(nil)
				_, err := Ask(t.Context(), test.patient, func(s string) { notes = append(notes, s) },
					func(context.Context) (int, error) { return 0, test.answer(time.Since(began)) })
				if took := time.Since(began); !errors.Is(err, test.err) || took != test.took || !slices.Equal(notes, test.notes) {
					t.Errorf("got %v after %s, said %q", err, took, notes)
				}
			})
		})
	}
}
