package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/kubernetestest"
)

// opening is one answer to a tail: what comes, and how it ends.
type opening struct {
	text string
	err  error // at the end; nil: io.EOF
	fail error // of the opening itself
	ends bool  // the container, before it
}

// brokenReader ends with an error.
type brokenReader struct {
	io.Reader
	err error
}

func (r brokenReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err == io.EOF && r.err != nil {
		err = r.err
	}
	return n, err
}

func (brokenReader) Close() error { return nil }

// A log that broke off is taken up again: nothing twice, nothing left out.
func TestTail(t *testing.T) {
	const (
		t1 = "2025-06-01T12:00:01.000000001Z "
		t2 = "2025-06-01T12:00:01.000000002Z "
		t3 = "2025-06-01T12:00:03Z "
	)
	long := strings.Repeat("y", output.MaxLine+10)
	for _, test := range []struct {
		name     string
		openings []opening
		want     string
		err      string
	}{
		{"all at once", []opening{{text: t1 + "a\n" + t2 + "b\n" + t3 + "c"}}, "a\nb\nc", ""},
		{"empty", []opening{{}}, "", ""},
		{"not there yet", []opening{{fail: errors.New("ContainerCreating")}, {text: t1 + "a\n"}}, "a\n", ""},
		{"broken between lines", []opening{{text: t1 + "a\n", err: io.ErrUnexpectedEOF}, {text: t1 + "a\n" + t2 + "b\n"}}, "a\nb\n", ""},
		{"broken in a line", []opening{{text: t1 + "a\n" + t2 + "bc", err: io.ErrUnexpectedEOF}, {text: t1 + "a\n" + t2 + "bcd\n" + t3 + "e\n"}}, "a\nbcd\ne\n", ""},
		{"broken in the first line", []opening{{text: t1 + "ab", err: io.ErrUnexpectedEOF}, {text: t1 + "abc\n"}}, "abc\n", ""},
		{"lines of one time", []opening{{text: t1 + "a\n" + t1 + "b\n", err: io.ErrUnexpectedEOF}, {text: t1 + "a\n" + t1 + "b\n" + t1 + "c\n"}}, "a\nb\nc\n", ""},
		{"ends and goes on", []opening{{text: t1 + "a\n"}, {text: t1 + "a\n"}, {text: t2 + "b\n"}}, "a\nb\n", ""},
		{"a long line", []opening{{text: t1 + long, err: io.ErrUnexpectedEOF}, {text: t1 + long + "z\n"}}, long + "z\n", ""},
		{"the kubelet says why not", []opening{{text: t1 + "a\nunable to retrieve"}}, "a\n", "the log of container job in pod-1 can't be read: the kubelet: unable to retrieve"},
		{"the kubelet can't for a while", []opening{{text: "too many open files"}, {text: t1 + "a\ntoo many open files"}, {text: t1 + "a\n" + t2 + "b\n"}}, "a\nb\n", ""},
		{"the kubelet fails behind half a line", []opening{{text: t1 + "a\n" + t2 + "btoo many open files"}, {text: t1 + "a\n" + t2 + "b"}}, "a\nb", ""},
		{"the kubelet fails behind half a long line", []opening{{text: t1 + long + "too many open files"}, {text: t1 + long + "z"}}, long + "z", ""},
		{"forbidden on the way", []opening{{text: t1 + "a\n"}, {fail: &job.Failure{Cause: job.Forbidden}}, {text: t1 + "a\n" + t2 + "b\n"}}, "a\nb\n", ""},
		{"away at the end", []opening{{fail: errors.New("refused"), ends: true}, {fail: errors.New("refused")}, {text: t1 + "a\n"}}, "a\n", ""},
		{"forbidden", []opening{{fail: &job.Failure{Cause: job.Forbidden, Message: "may not get pods/log"}}}, "", "the log of container job in pod-1 can't be read: may not get pods/log"},
		{"gone at the end", []opening{{text: t1 + "a\n"}, {fail: errors.New("not found")}}, "a\n", "the log of container job in pod-1 can't be read: not found"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tail := newTail(place.Cluster{}, "pod-1", kubernetes.ContainerLogOptions{Follow: true})
				opened := 0
				tail.open = func(_ context.Context, o kubernetes.ContainerLogOptions) (io.ReadCloser, error) {
					// The last one stands for the rest, which is read once more.
					next := test.openings[min(opened, len(test.openings)-1)]
					opened++
					if next.ends || opened >= len(test.openings) {
						tail.end()
					}
					if next.fail != nil {
						return nil, next.fail
					}
					if !o.Timestamps || o.Since.Equal(time.Time{}) != (tail.last.IsZero()) {
						t.Errorf("opened with %+v", o)
					}
					return brokenReader{strings.NewReader(next.text), next.err}, nil
				}
				kept := &keptSink{}
				err := tail.show(t.Context(), kept)
				if test.err == "" && err != nil || test.err != "" && (err == nil || err.Error() != test.err) {
					t.Errorf("error %v, want %q", err, test.err)
				}
				if got := kept.String(); got != test.want {
					t.Errorf("got  %.200q\nwant %.200q", got, test.want)
				}
				synctest.Wait()
			})
		})
	}
}

// slowReader takes its time for every read, and stalls at the end.
type slowReader struct {
	ctx   context.Context
	lines []string
	wait  time.Duration
}

func (r *slowReader) Read(p []byte) (int, error) {
	wait := r.wait
	if len(r.lines) == 0 {
		wait = time.Hour
	}
	select {
	case <-time.After(wait):
	case <-r.ctx.Done():
		return 0, r.ctx.Err()
	}
	n := copy(p, r.lines[0])
	r.lines = r.lines[1:]
	return n, nil
}

func (*slowReader) Close() error { return nil }

// keptSink keeps the bytes that it is shown.
type keptSink struct{ bytes.Buffer }

func (s *keptSink) Record(_ string, _ uint64, _ *hodeipb.Record, data []byte) error {
	s.Write(data)
	return nil
}

func (*keptSink) Gap(output.Gap) error { return nil }
func (*keptSink) Flush() error         { return nil }

// slowSink takes its time for every record.
type slowSink struct {
	keptSink
	wait time.Duration
}

func (s *slowSink) Record(attempt string, offset uint64, r *hodeipb.Record, data []byte) error {
	<-time.After(s.wait)
	return s.keptSink.Record(attempt, offset, r, data)
}

// The rest of a log is given up when it stalls, not when it is long or its reader
// slow.
func TestTailRest(t *testing.T) {
	for _, test := range []struct {
		name       string
		read, show time.Duration
	}{
		{"a slow log", restWait - time.Second, 0},
		{"a slow reader", 0, 3 * restWait},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tail := newTail(place.Cluster{}, "pod-1", kubernetes.ContainerLogOptions{Follow: true})
				opened := 0
				tail.open = func(ctx context.Context, _ kubernetes.ContainerLogOptions) (io.ReadCloser, error) {
					if opened++; opened > 1 {
						return brokenReader{strings.NewReader(""), nil}, nil
					}
					tail.end()
					return &slowReader{ctx: ctx, wait: test.read, lines: []string{"2025-06-01T12:00:01Z a\n", "2025-06-01T12:00:02Z b\n", "2025-06-01T12:00:03Z c\n"}}, nil
				}
				kept := &slowSink{wait: test.show}
				began := time.Now()
				if err := tail.show(t.Context(), kept); err != nil {
					t.Error(err)
				}
				if kept.String() != "a\nb\nc\n" || opened != 2 || time.Since(began) > 10*restWait+time.Minute {
					t.Errorf("got %q after %s, opened %d times", kept.String(), time.Since(began), opened)
				}
				synctest.Wait()
			})
		})
	}
}

// What is not followed is read once, and an error is one.
func TestTailOnce(t *testing.T) {
	tail := newTail(place.Cluster{}, "pod-1", kubernetes.ContainerLogOptions{})
	tail.open = func(context.Context, kubernetes.ContainerLogOptions) (io.ReadCloser, error) {
		return brokenReader{strings.NewReader("2025-06-01T12:00:01Z a\n"), io.ErrUnexpectedEOF}, nil
	}
	kept := &keptSink{}
	err := tail.show(t.Context(), kept)
	if _, ok := errors.AsType[*unreadError](err); !ok || !errors.Is(err, io.ErrUnexpectedEOF) || kept.String() != "a\n" {
		t.Errorf("got %q, %v", kept.String(), err)
	}
	tail.last, tail.equal = time.Time{}, 0 // from the start again
	if err := tail.show(t.Context(), output.Raw{To: &output.Streams{Out: &failing{err: io.ErrClosedPipe}}}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}

// Events of a container's log say what it is, and make up no stream and no offset.
func TestFollowContainerEvents(t *testing.T) {
	const line = "2025-06-01T12:00:01Z a\n"
	answer := func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, line) }
	want := []string{`"type":"note","time":TIME,"text":"` + inexact + `"`, `"type":"output","time":TIME,"attempt":"x-1","text":"a\n"`}
	check := func(t *testing.T, got string) {
		t.Helper()
		got = regexp.MustCompile(`"20[^"]*"`).ReplaceAllString(got, "TIME")
		for _, event := range want {
			if strings.Count(got, "{"+event+"}\n") != 1 {
				t.Errorf("no event %s in %s", event, got)
			}
		}
	}
	t.Run("run", func(t *testing.T) {
		var out bytes.Buffer
		f := testFollower(t, &out, io.Discard, "json")
		f.fallback = true
		f.followContainer(place.Cluster{Provider: kubernetestest.Cluster(t, answer)}, "x-1")
		<-f.complete()
		check(t, out.String())
	})
	t.Run("logs", func(t *testing.T) {
		var out, errOut bytes.Buffer
		a := &app{IOStreams: genericiooptions.IOStreams{Out: &out, ErrOut: &errOut}, getenv: func(string) string { return "" }}
		o := &logsOptions{app: a, screen: newScreen(a, false), sink: a.streams().Sinks(output.Options{Events: &output.Events{Out: a.Out}}), tail: -1, cluster: kubernetestest.Cluster(t, answer)}
		j := &knownJob{name: "x", found: &kubernetes.Found{Spec: &job.Spec{Name: "x", ContainerLogs: true}}}
		if err := o.showContainer(t.Context(), j, &knownAttempt{name: "x-1", pod: &kubernetes.Attempt{Name: "x-1"}}); err != nil {
			t.Fatal(err)
		}
		check(t, out.String())
	})
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
		{"half of it", http.StatusOK, "a\nb\n", job.Outcome{Cause: job.Error, Code: 3, OutputBytes: 8, Attempt: "x-1"}, "4 of 8 bytes of x-1 are missing from its container's log"},
		{"the agent's disk was full", http.StatusOK, "a\nb\n", job.Outcome{Cause: job.Completed, OutputBytes: 4, LostBytes: 7}, "7 of 11 bytes of x-1 are missing from its container's log"},
		{"of another attempt", http.StatusOK, "a\nb\n", job.Outcome{Cause: job.Completed, OutputBytes: 4, Attempt: "x-2"}, "4 of 4 bytes of x-2 are missing from its container's log"},
		{"more than there was", http.StatusOK, "a\nb\n", job.Outcome{Cause: job.Completed, OutputBytes: 1}, "an unknown number of bytes of x-1 are missing from its container's log"},
		{"newlines that were added", http.StatusOK, "a\nb\n", job.Outcome{Cause: job.Completed, OutputBytes: 2}, ""},
		{"evicted", http.StatusOK, "a\nb\n", job.Outcome{Cause: job.Evicted}, "an unknown number of bytes of x-1 are missing from its container's log"},
		{"forbidden", http.StatusForbidden, "", job.Outcome{Cause: job.Completed, OutputBytes: 4}, "the log of container job in x-1 can't be read: "},
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
			if text := errOut.String(); strings.Count(text, inexact) != 1 || !strings.Contains(text, "running: x-1") {
				t.Errorf("stderr %q", text)
			}
			lost, _, err := f.missing(&test.end)
			if err != nil || (lost == "") != (test.lost == "") || !strings.HasPrefix(lost, test.lost) {
				t.Errorf("missing %q, %v", lost, err)
			}
		})
	}
}
