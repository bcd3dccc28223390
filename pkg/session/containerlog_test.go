package session

import (
	"bytes"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/joblog"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/kubernetestest"
)

// Events of a container's log say what it is, and make up no stream and no offset.
func TestFollowContainerEvents(t *testing.T) {
	const line = "2025-06-01T12:00:01Z a\n"
	answer := func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, line) }
	want := []string{`"type":"note","time":TIME,"text":"` + joblog.Inexact + `"`,
		`"type":"output","time":TIME,"attempt":"x-1","text":"a\n"`}
	check := func(t *testing.T, got string) {
		t.Helper()
		got = regexp.MustCompile(`"20[^"]*"`).ReplaceAllString(got, "TIME")
		for _, event := range want {
			if strings.Count(got, "{"+event+"}\n") != 1 {
				t.Errorf("no event %s in %s", event, got)
			}
		}
	}
	var out bytes.Buffer
	f := testFollower(t, &out, io.Discard, "json")
	f.fallback = true
	f.followContainer(place.Cluster{Provider: kubernetestest.Cluster(t, answer)}, "x-1")
	<-f.complete()
	check(t, out.String())
}

// A run whose tunnel is forbidden shows the container's log; one that can't be
// read is no success.
func TestFollowContainer(t *testing.T) {
	for _, test := range []struct {
		name string
		code int
		out  string
		end  job.Outcome
		lost string
	}{
		{"there", http.StatusOK, "a\nb\n", job.Outcome{Cause: job.Completed, OutputBytes: 4}, ""},
		{"half of it", http.StatusOK, "a\nb\n", job.Outcome{Cause: job.Error, Code: 3, OutputBytes: 8, Attempt: "x-1"},
			"4 of 8 bytes of x-1 are missing from its container's log"},
		{"the agent's disk was full", http.StatusOK, "a\nb\n", job.Outcome{Cause: job.Completed, OutputBytes: 4, LostBytes: 7},
			"7 of 11 bytes of x-1 are missing from its container's log"},
		{"of another attempt", http.StatusOK, "a\nb\n", job.Outcome{Cause: job.Completed, OutputBytes: 4, Attempt: "x-2"},
			"4 of 4 bytes of x-2 are missing from its container's log"},
		{"more than there was", http.StatusOK, "a\nb\n", job.Outcome{Cause: job.Completed, OutputBytes: 1},
			"an unknown number of bytes of x-1 are missing from its container's log"},
		{"newlines that were added", http.StatusOK, "a\nb\n", job.Outcome{Cause: job.Completed, OutputBytes: 2}, ""},
		{"evicted", http.StatusOK, "a\nb\n", job.Outcome{Cause: job.Evicted},
			"an unknown number of bytes of x-1 are missing from its container's log"},
		{"forbidden", http.StatusForbidden, "", job.Outcome{Cause: job.Completed, OutputBytes: 4},
			"the log of container job in x-1 can't be read: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			f := testFollower(t, &out, &errOut, "")
			f.fallback = true
			p := kubernetestest.Cluster(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.code)
				io.WriteString(w, "2025-06-01T12:00:01Z a\n2025-06-01T12:00:02Z b\n")
			})
			f.followContainer(place.Cluster{Provider: p}, "x-1")
			<-f.running
			<-f.complete()
			if out.String() != test.out {
				t.Errorf("stdout %q, want %q", out.String(), test.out)
			}
			if text := errOut.String(); strings.Count(text, joblog.Inexact) != 1 || !strings.Contains(text, "running: x-1") {
				t.Errorf("stderr %q", text)
			}
			lost, _, err := f.missing(&test.end)
			if err != nil || (lost == "") != (test.lost == "") || !strings.HasPrefix(lost, test.lost) {
				t.Errorf("missing %q, %v", lost, err)
			}
		})
	}
}
