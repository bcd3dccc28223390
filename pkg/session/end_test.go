package session

import (
	"testing"

	"github.com/hodei-jobs/hodei/pkg/job"
)

func TestAfterExit(t *testing.T) {
	for _, test := range []struct {
		name    string
		outcome job.Outcome
		retries int32
		stopped bool
		want    step
	}{
		{"it succeeds", job.Outcome{Cause: job.Completed}, 0, false, endRun},
		{"it succeeds, and could be tried again", job.Outcome{Cause: job.Completed}, 3, false, endRun},
		{"it fails", job.Outcome{Cause: job.Error, Code: 3}, 0, false, endRun},
		{"it fails, and is tried again", job.Outcome{Cause: job.Error, Code: 3}, 1, false, awaitJob},
		{"it was told to stop", job.Outcome{Cause: job.Cancelled, Code: 130}, 1, true, endRun},
		{"nobody knows why", job.Outcome{Cause: job.Unknown}, 0, false, awaitPod},
		{"nobody knows why, and it was told to stop", job.Outcome{Cause: job.Unknown}, 1, true, awaitPod},
		{"its Pod was ended", job.Outcome{Cause: job.Error, Code: 143, PodEnded: true}, 0, false, awaitPod},
		{"its Pod was ended, and it is tried again", job.Outcome{Cause: job.Error, Code: 143, PodEnded: true}, 1, false, awaitJob},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := afterExit(&test.outcome, test.retries, test.stopped); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestEndOfJob(t *testing.T) {
	failed := &job.Outcome{Cause: job.Error, Code: 3, Attempt: "x-2"}
	evicted := &job.Outcome{Cause: job.Evicted, Attempt: "x-2"}
	ended := func(attempt string) *job.Outcome {
		return &job.Outcome{Cause: job.Error, Code: 143, PodEnded: true, Attempt: attempt}
	}
	for _, test := range []struct {
		name               string
		last, record, seen *job.Outcome
		retries            int32
		cause              job.Cause // empty: the end is not known
		code               int
	}{
		{"the provider's word alone", nil, nil, evicted, 0, job.Evicted, 0},
		{"the agent's word comes with it", nil, &job.Outcome{Cause: job.Error, Code: 7}, failed, 0, job.Error, 7},
		{"the agent's word, and no watching", nil, &job.Outcome{Cause: job.Error, Code: 7}, nil, 0, job.Error, 7},
		{"no watching", nil, nil, nil, 0, "", 0},
		{"no watching, and it might be tried again", nil, &job.Outcome{Cause: job.Error, Code: 7}, nil, 1, "", 0},
		{"its Pod was ended, and its status says why", ended("x-2"), nil, evicted, 0, job.Evicted, 143},
		{"the agent's word is that its Pod was ended", nil, ended(""), evicted, 0, job.Evicted, 143},
		{"an earlier Pod was ended", ended("x-1"), nil, failed, 1, job.Error, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := endOfJob(test.last, test.record, test.seen, test.retries, "x-2")
			if got == nil {
				if test.cause != "" {
					t.Errorf("not known, want %s", test.cause)
				}
				return
			}
			if got.Cause != test.cause || got.Code != test.code {
				t.Errorf("got %s with code %d, want %s with %d", got.Cause, got.Code, test.cause, test.code)
			}
		})
	}
}
