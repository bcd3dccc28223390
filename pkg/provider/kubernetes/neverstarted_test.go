package kubernetes

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// TestWithWords: an attempt that never started is told in its container's words, and only there: the words of
// a container whose command may have run are the command's.
func TestWithWords(t *testing.T) {
	const tooLong = "exec /run/hodei/hodei-worker: argument list too long"
	gone := terminated(contract.ExitNeverStarted, "Error", "the launcher ended before the command started: exit code 255 (Error)")
	for _, test := range []struct {
		name    string
		pod     *corev1.Pod
		log     string
		denied  bool
		cause   job.Cause
		message string
		asked   bool
	}{
		{name: "too long", pod: podOf(thisJob, "x-1", with(gone, terminated(255, "Error", "")), ended(corev1.PodFailed)),
			log:   "\n" + tooLong + "\n",
			cause: job.ConfigError, message: "the command never started: " + tooLong, asked: true},
		{name: "the launcher's", pod: podOf(thisJob, "x-1", with(gone, terminated(125, "Error", "")), ended(corev1.PodFailed)),
			log:   "hodei-worker launch: make pipes: \x1b[2Jtoo many open files",
			cause: job.AgentLost, message: "the command never started: hodei-worker launch: make pipes: [2Jtoo many open files",
			asked: true},
		{name: "an earlier launcher's", pod: podOf(thisJob, "x-1", with(gone, terminated(2, "Error", "")), ended(corev1.PodFailed)),
			log:   "flag provided but not defined: -home\nUsage of launch:\n  -workdir string\n    \tdirectory of the command\n",
			cause: job.AgentLost, message: "the command never started: flag provided but not defined: -home", asked: true},
		{name: "much", pod: podOf(thisJob, "x-1", with(gone, terminated(125, "Error", "")), ended(corev1.PodFailed)),
			log:   strings.Repeat("é", 1000),
			cause: job.AgentLost, message: "the command never started: " + strings.Repeat("é", maxWords/2), asked: true},
		{name: "none", pod: podOf(thisJob, "x-1", with(gone, terminated(137, "Error", "")), ended(corev1.PodFailed)),
			cause:   job.AgentLost,
			message: "the command never started: the launcher ended before the command started: exit code 255 (Error)", asked: true},
		{name: "no right to them", pod: podOf(thisJob, "x-1", with(gone, terminated(255, "Error", "")), ended(corev1.PodFailed)),
			log: tooLong, denied: true,
			cause:   job.AgentLost,
			message: "the command never started: the launcher ended before the command started: exit code 255 (Error)", asked: true},
		{name: "the runtime has said it",
			pod: podOf(thisJob, "x-1", with(gone, terminated(128, "StartError", "no such file")), ended(corev1.PodFailed)), log: tooLong,
			cause:   job.AgentLost,
			message: "the command never started: the launcher ended before the command started: exit code 255 (Error)"},
		{name: "it may have run",
			pod:   podOf(thisJob, "x-1", with(terminated(137, "Error", ""), terminated(1, "Error", "")), ended(corev1.PodFailed)),
			log:   "the command's",
			cause: job.AgentLost, message: "the agent ended with exit code 137 (Error)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked := false
			p := (&shelf{answer: map[string]http.HandlerFunc{"get pods x-1/log": func(w http.ResponseWriter, r *http.Request) {
				asked = true
				if test.denied {
					refuse(w, 403, metav1.StatusReasonForbidden, "no")
					return
				}
				fmt.Fprint(w, test.log)
			}}}).start(t)
			o := p.withWords(t.Context(), test.pod, podOutcome(test.pod))
			if o.Cause != test.cause || o.Message != test.message || asked != test.asked {
				t.Errorf("got %s %q, asked %t", o.Cause, o.Message, asked)
			}
		})
	}
}

func TestLastTrouble(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	event := func(after time.Duration, reason, message string) corev1.Event {
		return corev1.Event{Reason: reason, Message: message, LastTimestamp: metav1.NewTime(at.Add(after))}
	}
	for _, test := range []struct {
		name   string
		events []corev1.Event
		want   string
	}{
		{name: "none"},
		{name: "an image",
			events: []corev1.Event{event(2, "Failed", `Failed to pull image "i": not found`), event(3, "Failed", "Error: ErrImagePull"),
				event(9, "Evicted", "Usage of EmptyDir volume")},
			want: `Failed to pull image "i": not found`},
		{name: "the latest", events: []corev1.Event{event(2, "FailedMount", "late"), event(1, "FailedMount", "early")}, want: "late"},
	} {
		if got := lastTrouble(test.events); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestNeverStartedHint(t *testing.T) {
	for _, test := range []struct {
		o    job.Outcome
		want string
	}{
		{job.Outcome{Cause: job.StartTimeout, NeverStarted: true}, "--start-timeout"},
		{job.Outcome{Cause: job.OOMKilled, NeverStarted: true}, "--memory"},
		{job.Outcome{Cause: job.ConfigError, NeverStarted: true, Message: "exec x: argument list too long"}, "pass less"},
		{job.Outcome{Cause: job.ConfigError, Message: "exec x: argument list too long"}, ""},
		{job.Outcome{Cause: job.AgentLost, NeverStarted: true, Message: "the command never started: flag provided but not defined: -home"},
			"the worker's image is the one of this version"},
		{job.Outcome{Cause: job.AgentLost, NeverStarted: true}, ""},
	} {
		if got := NeverStartedHint(&test.o); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%+v: %q", test.o, got)
		}
	}
}
