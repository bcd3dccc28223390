package session

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/follow/followtest"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
)

func TestFinish(t *testing.T) {
	memory := resource.MustParse("512Mi")
	for _, test := range []struct {
		name    string
		outcome job.Outcome
		memory  *resource.Quantity
		code    int
		note    string // the summary; empty: it is an error instead
		err     string
		hint    string
	}{
		{"success", job.Outcome{Cause: job.Completed}, nil, 0, "exit 0", "", ""},
		{"its own code", job.Outcome{Cause: job.Error, Code: 7}, nil, 7, "exit 7", "", ""},
		{"its own 127", job.Outcome{Cause: job.Error, Code: 127}, nil, 127, "exit 127", "", ""},
		{"not found", job.Outcome{Cause: job.Error, Code: 127, Message: "exec: \"nope\": not\x1b[1m found"}, nil, 127, "",
			`the command can't be run: exec: "nope": not[1m found (exit 127)`,
			"check the command, or name an image that has it: --image IMAGE"},
		{"not executable", job.Outcome{Cause: job.Error, Code: 126, Message: "permission denied"}, nil, 126, "",
			"the command can't be run: permission denied (exit 126)", "check the command, or name an image that has it: --image IMAGE"},
		{"a signal", job.Outcome{Cause: job.Signaled, Code: 143, Signal: 15}, nil, 143, "killed by SIGTERM (exit 143)", "", ""},
		{"cancelled", job.Outcome{Cause: job.Cancelled, Code: 143, Signal: 15}, nil, 130, "Cancelled (exit 130)", "", ""},
		{"out of memory", job.Outcome{Cause: job.OOMKilled, Code: 137}, &memory, 137, "", "OOMKilled (exit 137)",
			"{hodei} rerun x --memory 1Gi"},
		{"out of memory without a limit", job.Outcome{Cause: job.OOMKilled, Code: 137}, nil, 137, "", "OOMKilled (exit 137)",
			"{hodei} rerun x --memory SIZE"},
		{"out of memory at its limit", job.Outcome{Cause: job.OOMKilled, Code: 137,
			Usage: &job.Usage{Memory: job.MemoryUsage{OOMEvents: new(uint64(1))}}}, &memory, 137, "", "OOMKilled (exit 137)",
			"{hodei} rerun x --memory 1Gi"},
		{"out of memory on the node", job.Outcome{Cause: job.OOMKilled, Code: 137,
			Usage: &job.Usage{Memory: job.MemoryUsage{OOMEvents: new(uint64(0))}}}, &memory, 137, "", "OOMKilled (exit 137)", ""},
		{"too long", job.Outcome{Cause: job.DeadlineExceeded, Code: 143}, nil, 124, "", "DeadlineExceeded (exit 124)",
			"give it longer with --timeout"},
		{"evicted", job.Outcome{Cause: job.Evicted, Message: "low on\nmemory"}, nil, 125, "", "Evicted (exit 125): low on memory",
			"let it be tried again: --retries 1"},
		{"evicted for its disk", job.Outcome{Cause: job.Evicted,
			Message: `Container job exceeded its local ephemeral storage limit "20Mi".`}, nil, 125, "",
			`Evicted (exit 125): Container job exceeded its local ephemeral storage limit "20Mi".`,
			"let it write more to its disk: --ephemeral-storage SIZE"},
		{"preempted", job.Outcome{Cause: job.Preempted}, nil, 125, "", "Preempted (exit 125)", "let it be tried again: --retries 1"},
		{"suspended under way", job.Outcome{Cause: job.Preempted,
			Message: "the job was suspended under way, and will run again when it is resumed"}, nil, 125, "",
			"Preempted (exit 125): the job was suspended under way, and will run again when it is resumed",
			"follow it on: {hodei} attach x"},
		{"node lost", job.Outcome{Cause: job.NodeLost}, nil, 125, "", "NodeLost (exit 125)", "let it be tried again: --retries 1"},
		{"agent lost", job.Outcome{Cause: job.AgentLost, Message: "the agent ended"}, nil, 125, "",
			"AgentLost (exit 125): the agent ended", "see what is left: {hodei} jobs x -o wide"},
		{"unknown is never a success", job.Outcome{Cause: job.Unknown, Code: 0}, nil, 125, "", "Unknown (exit 125)",
			"see what is left: {hodei} jobs x -o wide"},
	} {
		for _, format := range []string{"", "json"} {
			t.Run(strings.TrimSpace(test.name+" "+format), func(t *testing.T) {
				var out, errOut bytes.Buffer
				a := newBeside(&out, &errOut)
				a.name = "kubectl hodei"
				o := a.followed(Config{Teller: Teller{Spec: &job.Spec{Name: "x", Command: []string{"nope"}, Memory: test.memory},
					Place:  nowhere{},
					Screen: a.screen(format != "")}})
				if format != "" {
					o.Events = &output.Events{Out: &out}
				}
				o.Job = followtest.NewJob()
				s := &session{Config: o, agents: &follow.Attachment{}, follower: testFollower(t, &out, &errOut, format)}
				_, err := s.take(t.Context(), event{what: allShown, outcome: &test.outcome})

				var exit *job.ExitError
				if test.code == 0 && err != nil || test.code != 0 && (!errors.As(err, &exit) || exit.Code != test.code) {
					t.Errorf("got %v, want exit code %d", err, test.code)
				}
				var failure *job.Failure
				said := ""
				if errors.As(err, &failure) {
					said = failure.Message
					if failure.Hint != test.hint {
						t.Errorf("hint %q, want %q", failure.Hint, test.hint)
					}
				}
				if said != test.err {
					t.Errorf("error %q, want %q", said, test.err)
				}
				if format == "" {
					if got := strings.TrimSpace(errOut.String()); got != test.note || out.Len() > 0 {
						t.Errorf("stderr %q, want %q; stdout %q", got, test.note, out.String())
					}
					return
				}
				var event struct {
					Type, Cause, Hint string
					ExitCode          int
				}
				if err := json.Unmarshal(out.Bytes(), &event); err != nil {
					t.Fatalf("%v: %q", err, out.String())
				}
				if event.Type != "exit" || event.Cause != string(test.outcome.Cause) || event.ExitCode != test.code ||
					event.Hint != strings.ReplaceAll(test.hint, "{hodei}", "kubectl hodei") {
					t.Errorf("event %+v", event)
				}
				if errOut.Len() > 0 {
					t.Errorf("stderr %q", errOut.String())
				}
			})
		}
	}
}

// An exit event that can't be written is not passed over.
func TestFinishUnwritten(t *testing.T) {
	w := &failing{err: os.ErrClosed}
	a := newBeside(w, io.Discard)
	o := a.config(a.screen(true), &output.Events{Out: w})
	o.Job = followtest.NewJob()
	s := &session{Config: o, agents: &follow.Attachment{}, follower: testFollower(t, w, io.Discard, "json")}
	if _, err := s.take(t.Context(), event{what: allShown, outcome: &job.Outcome{Cause: job.Completed}}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("finish: %v", err)
	}
	if err := o.Failed(errors.New("x")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("failed: %v", err)
	}
	if err := o.TakenBack(""); !errors.Is(err, os.ErrClosed) {
		t.Errorf("takenBack: %v", err)
	}
}

// What ends a run before its command is a failure with exit code 125.
func TestFailed(t *testing.T) {
	var out, errOut bytes.Buffer
	a := newBeside(&out, &errOut)
	o := a.config(a.screen(false), &output.Events{Out: &out})
	err := o.Failed(&job.Failure{Cause: job.ImagePull, Message: "no image", Hint: "{hodei} provider add"})
	var f *job.Failure
	if !errors.As(err, &f) || f.Message != "no image" {
		t.Errorf("got %v", err)
	}
	var event map[string]any
	if err := json.Unmarshal(out.Bytes(), &event); err != nil {
		t.Fatal(err)
	}
	if event["cause"] != "ImagePull" || event["exitCode"] != 125.0 ||
		event["hint"] != "hodei provider add" || event["message"] != "no image" {
		t.Errorf("event %v", event)
	}
	if _, there := event["started"]; there {
		t.Errorf("it never started: %v", event)
	}
	if err := o.Failed(io.ErrUnexpectedEOF); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasSuffix(err.Error(), "unexpected EOF") {
		t.Errorf("got %v", err)
	}
}

// Half of an output is no success, whoever lost the other half.
func TestFinishIncomplete(t *testing.T) {
	for _, tt := range []struct {
		name    string
		outcome job.Outcome
		before  func(f *follower)
		code    int
		message string
		hint    string
	}{
		{"all there", job.Outcome{Cause: job.Completed}, func(*follower) {}, 0, "", ""},
		{"the end never came", job.Outcome{Cause: job.Completed, OutputBytes: 5}, func(*follower) {},
			125, "5 bytes of x-1 are missing from offset 0 on", "--linger"},
		{"the command's own failure stays", job.Outcome{Cause: job.Error, Code: 3, OutputBytes: 5}, func(*follower) {},
			3, "5 bytes of x-1 are missing from offset 0 on", "--linger"},
		{"the disk was full", job.Outcome{Cause: job.Completed, OutputBytes: 0}, func(f *follower) {
			f.Exited("x-1", &hodeipb.ExitRecord{Cause: "Completed", Lost: 7})
		}, 125, "7 bytes of x-1 are missing from offset 0 on", "make room"},
		{"an earlier attempt's end never came", job.Outcome{Cause: job.Completed}, func(f *follower) {
			attach(t, f, "x-2", 0)
		}, 125, "an unknown number of bytes of x-1 are missing", "--linger"},
		{"the agent was lost", job.Outcome{Cause: job.AgentLost, Attempt: "x-1"}, func(f *follower) { f.State("x-1", ran) },
			125, "an unknown number of bytes of x-1 are missing from offset 0 on; the command: AgentLost", "{hodei} jobs x -o wide"},
		{"evicted", job.Outcome{Cause: job.Evicted, Attempt: "x-1"}, func(f *follower) { f.State("x-1", ran) },
			125, "an unknown number of bytes of x-1 are missing from offset 0 on; the command: Evicted", "--retries 1"},
		{"the launcher was killed", job.Outcome{Cause: job.Unknown, Attempt: "x-1"}, func(f *follower) {
			f.State("x-1", ran)
			f.Exited("x-1", &hodeipb.ExitRecord{})
		}, 125, "Unknown (exit 125)", ""},
		{"evicted before the start", job.Outcome{Cause: job.Evicted}, func(*follower) {}, 125, "Evicted (exit 125)", "--retries 1"},
		{"an attempt that never attached", job.Outcome{Cause: job.Completed, Attempt: "x-2", OutputBytes: 9}, func(*follower) {},
			125, "9 bytes of x-2 are missing from offset 0 on", "--linger"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := testFollower(t, io.Discard, io.Discard, "")
			attach(t, f, "x-1", 0)
			tt.before(f)
			<-f.complete()
			c := newBeside(io.Discard, io.Discard).config(f.screen, nil)
			c.Job = followtest.NewJob()
			s := &session{Config: c, agents: &follow.Attachment{}, follower: f}
			_, err := s.take(t.Context(), event{what: allShown, outcome: &tt.outcome})
			if tt.code == 0 {
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			exit, ok := errors.AsType[*job.ExitError](err)
			if !ok || exit.Code != tt.code || !strings.Contains(err.Error(), tt.message) {
				t.Fatalf("got %#v, want code %d and %q", err, tt.code, tt.message)
			}
			if failure, ok := errors.AsType[*job.Failure](err); !ok || !strings.Contains(failure.Hint, tt.hint) {
				t.Errorf("got %#v, want hint %q", failure, tt.hint)
			}
		})
	}
}

// With Remove a job goes once its end is shown, unless some of its output is not here.
func TestFinishRemoves(t *testing.T) {
	oom := job.Outcome{Cause: job.OOMKilled, Code: 137}
	for _, test := range []struct {
		name    string
		outcome job.Outcome
		lost    string
		deleted bool
		said    string
	}{
		{"ended well", job.Outcome{Cause: job.Completed}, "", true, "exit 0\n"},
		{"ended badly", oom, "", true, ""},
		{"with output missing", job.Outcome{Cause: job.Completed}, "the middle", false,
			"job x is not removed: part of its output is not here\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			a := newBeside(&out, &errOut)
			c, j := a.config(a.screen(false), nil), followtest.NewJob()
			c.Job, c.Remove = j, true
			s := &session{Config: c, agents: &follow.Attachment{}, follower: testFollower(t, &out, &errOut, "")}
			s.follower.misses(test.lost)
			_, err := s.take(t.Context(), event{what: allShown, outcome: &test.outcome})
			if hint := job.HintOf(err); strings.Contains(hint, "rerun") {
				t.Errorf("hint %q about a job that is removed", hint)
			}
			if j.Deleted.Load() {
				t.Error("deleted before its end was shown")
			}
			for _, f := range a.after {
				f()
			}
			if j.Deleted.Load() != test.deleted || errOut.String() != test.said {
				t.Errorf("deleted %t, said %q, want %t and %q", j.Deleted.Load(), errOut.String(), test.deleted, test.said)
			}
		})
	}
}
