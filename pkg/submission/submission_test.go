package submission

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/rest"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/kubernetestest"
	"github.com/hodei-jobs/hodei/pkg/session"
)

// Before a job is made that is to be followed, and only then, it is asked whether
// its output can come through the tunnel.
func TestChooseWay(t *testing.T) {
	for _, test := range []struct {
		name     string
		change   func(*Config)
		answer   func(http.ResponseWriter)
		fallback bool
		logs     bool // copied to the container's log
		linger   time.Duration
		err      string
	}{
		{name: "allowed", answer: kubernetestest.Allows(true)},
		{name: "forbidden", answer: kubernetestest.Allows(false), fallback: true, logs: true},
		{name: "forbidden, and copied anyway", change: func(c *Config) { c.Spec.ContainerLogs = true },
			answer: kubernetestest.Allows(false), fallback: true, logs: true},
		{name: "allowed, and copied anyway", change: func(c *Config) { c.Spec.ContainerLogs = true },
			answer: kubernetestest.Allows(true), logs: true},
		{name: "ruled out", change: func(c *Config) { c.NoFallback = true }},
		{name: "detached", change: func(c *Config) { c.Detach = true }},
		{name: "without output", change: func(c *Config) { c.Follow = false }, answer: kubernetestest.Allows(false), fallback: true},
		{name: "without output, ruled out", change: func(c *Config) { c.Follow, c.NoFallback = false, true },
			answer: kubernetestest.Allows(false), fallback: true},
		{name: "without output, allowed", change: func(c *Config) { c.Follow = false }, answer: kubernetestest.Allows(true)},
		{name: "a linger that was asked for", change: func(c *Config) { c.Spec.Linger, c.Lingers = job.DefaultLinger, true },
			answer:   kubernetestest.Allows(false),
			fallback: true, logs: true, linger: job.DefaultLinger},
		{name: "the default linger", change: func(c *Config) { c.Spec.Linger = job.DefaultLinger },
			answer:   kubernetestest.Allows(false),
			fallback: true, logs: true, linger: time.Second},
		{name: "no answer to the question", answer: func(w http.ResponseWriter) { http.Error(w, "no", http.StatusForbidden) }},
		{name: "no answer at all", answer: func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
			err: "Kubernetes cluster not available: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if test.answer == nil {
					t.Errorf("asked: %s", r.URL)
					return
				}
				test.answer(w)
			}))
			defer server.Close()
			p, err := kubernetes.New(kubernetes.Options{Config: &rest.Config{Host: server.URL}, Provider: provider.Config{Namespace: "ns"}})
			if err != nil {
				t.Fatal(err)
			}
			var errOut bytes.Buffer
			screen := output.NewScreen(&output.Streams{Out: io.Discard, Err: &errOut}, false, strings.Clone)
			c := &Config{Follow: true, Teller: session.Teller{Spec: &job.Spec{Name: "x"}, Place: place.Cluster{Provider: p},
				Screen: screen}}
			if test.change != nil {
				test.change(c)
			}
			fallback, err := c.chooseWay(t.Context())
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.HasPrefix(err.Error(), test.err)) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			c.noteWay(fallback)
			if said := errOut.String(); (said == noTunnel+"\n") != (test.fallback && c.Follow) || said != "" && !fallback {
				t.Errorf("stderr %q", said)
			}
			if fallback != test.fallback || c.Spec.ContainerLogs != test.logs {
				t.Errorf("fallback %t, container's log %t", fallback, c.Spec.ContainerLogs)
			}

			if test.linger > 0 && c.Spec.Linger != test.linger {
				t.Errorf("lingers for %s, want %s", c.Spec.Linger, test.linger)
			}

			cancelled, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := c.chooseWay(cancelled); test.answer != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
		})
	}
	c := &Config{Follow: true, Teller: session.Teller{Place: place.Machine{}}}
	if fallback, err := c.chooseWay(t.Context()); err != nil || fallback {
		t.Errorf("this machine: %v", err)
	}
}

// The command against the end of a CA is of the directory that has it.
func TestAuthorityNotes(t *testing.T) {
	for _, dir := range []string{"certs", "other"} {
		synctest.Test(t, func(t *testing.T) {
			t.Chdir(t.TempDir())
			if _, err := certs.Generate(certs.GenerateOptions{Dir: dir, Validity: 100 * 24 * time.Hour}); err != nil {
				t.Fatal(err)
			}
			authority, err := certs.LoadAuthority(dir)
			if err != nil {
				t.Fatal(err)
			}
			c := &Config{Authority: authority}
			if notes := c.authorityNotes(time.Now()); len(notes) != 0 {
				t.Errorf("%q", notes)
			}
			want := "; to replace it: {hodei} certs rotate --ca" + map[string]string{"other": " --dir other"}[dir]
			if notes := c.authorityNotes(time.Now().Add(80 * 24 * time.Hour)); len(notes) != 1 || !strings.HasSuffix(notes[0], want) {
				t.Errorf("%q, want %q", notes, want)
			}
		})
	}
}
