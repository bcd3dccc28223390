package kubernetes

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

func testCerts(t testing.TB, namespace, name string) *certs.JobCerts {
	t.Helper()
	authority, err := certs.NewAuthority(0)
	if err != nil {
		t.Fatal(err)
	}
	id, err := authority.IssueJob(certs.ID{Namespace: namespace, Job: name})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// quiet is the log of servers whose clients hang up on purpose.
var quiet = log.New(io.Discard, "", 0)

// closedPort is the URL of a port on which nobody listens.
func closedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

// pemOf is the certificate of a TLS server.
func pemOf(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// configOf is the way to a fake API server, which understands JSON only.
func configOf(s *httptest.Server) *rest.Config {
	return &rest.Config{Host: s.URL, TLSClientConfig: rest.TLSClientConfig{CAData: pemOf(s)},
		ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
}

// A provider's defaults come before hodei's own, and after what is asked for.
func TestProviderSetDefaults(t *testing.T) {
	_, c, err := provider.ParseRequest([]byte("{type: kubernetes, ttl: 5m, user: image, cpu: 2}"))
	if err != nil {
		t.Fatal(err)
	}
	spec := &job.Spec{Command: []string{"true"}, User: "7"}
	(&Provider{settings: manifest.Settings{Config: c}}).SetDefaults(spec)
	if spec.TTL != c.TTL.Duration || spec.User != "7" || spec.CPU.String() != "2" || spec.StartTimeout != job.DefaultStartTimeout ||
		spec.Name == "" {
		t.Errorf("got %+v", spec)
	}
}

// minimal is what "hodei run --name hello -- echo hello" asks for.
func minimal() *job.Spec {
	s := &job.Spec{Name: "hello", Command: []string{"echo", "hello"}}
	s.SetDefaults()
	return s
}

// specWith is the minimal spec with a change.
func specWith(change func(*job.Spec)) *job.Spec {
	s := minimal()
	change(s)
	return s
}

// containers are the two of a Job's Pod.
func containers(j *batchv1.Job) (agent, command corev1.Container) {
	c := j.Spec.Template.Spec.Containers
	return c[0], c[1]
}

// refusal of an API server: the sentence is the server's own.
func status(code int32, reason metav1.StatusReason, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message}}
}

func denied(message string) error { return status(403, metav1.StatusReasonForbidden, message) }

func container(name, image string, state corev1.ContainerState) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, Image: image, State: state}
}

func waiting(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

func terminated(code int32, reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, Message: message}}
}

var running = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}

// runc begins what it says of a container that it could not start.
const runc = "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to " +
	"start container process: "

// harmless tells text that can be shown: one line of valid UTF-8 that does
// nothing to a terminal.
func harmless(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func respond(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(v)
}

// refuse answers as the API server does.
func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	respond(w, code, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message})
}
