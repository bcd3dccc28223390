package joblog

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodei-jobs/hodei/pkg/history"
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
		{"broken in a line", []opening{{text: t1 + "a\n" + t2 + "bc", err: io.ErrUnexpectedEOF},
			{text: t1 + "a\n" + t2 + "bcd\n" + t3 + "e\n"}}, "a\nbcd\ne\n", ""},
		{"broken in the first line", []opening{{text: t1 + "ab", err: io.ErrUnexpectedEOF}, {text: t1 + "abc\n"}}, "abc\n", ""},
		{"lines of one time", []opening{{text: t1 + "a\n" + t1 + "b\n", err: io.ErrUnexpectedEOF},
			{text: t1 + "a\n" + t1 + "b\n" + t1 + "c\n"}}, "a\nb\nc\n", ""},
		{"ends and goes on", []opening{{text: t1 + "a\n"}, {text: t1 + "a\n"}, {text: t2 + "b\n"}}, "a\nb\n", ""},
		{"a long line", []opening{{text: t1 + long, err: io.ErrUnexpectedEOF}, {text: t1 + long + "z\n"}}, long + "z\n", ""},
		{"the kubelet says why not", []opening{{text: t1 + "a\nunable to retrieve"}}, "a\n",
			"the log of container job in pod-1 can't be read: the kubelet: unable to retrieve"},
		{"the kubelet can't for a while", []opening{{text: "too many open files"}, {text: t1 + "a\ntoo many open files"},
			{text: t1 + "a\n" + t2 + "b\n"}}, "a\nb\n", ""},
		{"the kubelet fails behind half a line", []opening{{text: t1 + "a\n" + t2 + "btoo many open files"},
			{text: t1 + "a\n" + t2 + "b"}}, "a\nb", ""},
		{"the kubelet fails behind half a long line", []opening{{text: t1 + long + "too many open files"}, {text: t1 + long + "z"}},
			long + "z", ""},
		{"forbidden on the way", []opening{{text: t1 + "a\n"}, {fail: &job.Failure{Cause: job.Forbidden}},
			{text: t1 + "a\n" + t2 + "b\n"}}, "a\nb\n", ""},
		{"away at the end", []opening{{fail: errors.New("refused"), ends: true}, {fail: errors.New("refused")}, {text: t1 + "a\n"}},
			"a\n", ""},
		{"forbidden", []opening{{fail: &job.Failure{Cause: job.Forbidden, Message: "may not get pods/log"}}}, "",
			"the log of container job in pod-1 can't be read: may not get pods/log"},
		{"gone at the end", []opening{{text: t1 + "a\n"}, {fail: errors.New("not found")}}, "a\n",
			"the log of container job in pod-1 can't be read: not found"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tail := NewTail(place.Cluster{}, "pod-1", kubernetes.ContainerLogOptions{Follow: true})
				opened := 0
				tail.open = func(_ context.Context, o kubernetes.ContainerLogOptions) (io.ReadCloser, error) {
					// The last one stands for the rest, which is read once more.
					next := test.openings[min(opened, len(test.openings)-1)]
					opened++
					if next.ends || opened >= len(test.openings) {
						tail.End()
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
				err := tail.Show(t.Context(), kept)
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
				tail := NewTail(place.Cluster{}, "pod-1", kubernetes.ContainerLogOptions{Follow: true})
				opened := 0
				tail.open = func(ctx context.Context, _ kubernetes.ContainerLogOptions) (io.ReadCloser, error) {
					if opened++; opened > 1 {
						return brokenReader{strings.NewReader(""), nil}, nil
					}
					tail.End()
					return &slowReader{ctx: ctx, wait: test.read, lines: []string{"2025-06-01T12:00:01Z a\n",
						"2025-06-01T12:00:02Z b\n", "2025-06-01T12:00:03Z c\n"}}, nil
				}
				kept := &slowSink{wait: test.show}
				began := time.Now()
				if err := tail.Show(t.Context(), kept); err != nil {
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
	tail := NewTail(place.Cluster{}, "pod-1", kubernetes.ContainerLogOptions{})
	tail.open = func(context.Context, kubernetes.ContainerLogOptions) (io.ReadCloser, error) {
		return brokenReader{strings.NewReader("2025-06-01T12:00:01Z a\n"), io.ErrUnexpectedEOF}, nil
	}
	kept := &keptSink{}
	err := tail.Show(t.Context(), kept)
	if _, ok := errors.AsType[*UnreadError](err); !ok || !errors.Is(err, io.ErrUnexpectedEOF) || kept.String() != "a\n" {
		t.Errorf("got %q, %v", kept.String(), err)
	}
	tail.last, tail.equal = time.Time{}, 0 // from the start again
	if err := tail.Show(t.Context(), output.Raw{To: &output.Streams{Out: closedWriter{}}}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}

// Events of a container's log say what it is, and make up no stream and no offset.
func TestShowContainerEvents(t *testing.T) {
	const line = "2025-06-01T12:00:01Z a\n"
	answer := func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, line) }
	want := []string{`"type":"note","time":TIME,"text":"` + Inexact + `"`, `"type":"output","time":TIME,"attempt":"x-1","text":"a\n"`}
	check := func(t *testing.T, got string) {
		t.Helper()
		got = regexp.MustCompile(`"20[^"]*"`).ReplaceAllString(got, "TIME")
		for _, event := range want {
			if strings.Count(got, "{"+event+"}\n") != 1 {
				t.Errorf("no event %s in %s", event, got)
			}
		}
	}
	var out, errOut bytes.Buffer
	v := newViewer(&out, &errOut, output.Options{Events: &output.Events{Out: &out}},
		history.Finder{Cluster: kubernetestest.Cluster(t, answer)})
	j := &history.Job{Name: "x", Found: &kubernetes.Found{Spec: &job.Spec{Name: "x", ContainerLogs: true}}}
	if err := v.showContainer(t.Context(), j, &history.Attempt{Name: "x-1", Pod: &kubernetes.Attempt{Name: "x-1"}}); err != nil {
		t.Fatal(err)
	}
	check(t, out.String())
}

// closedWriter is one whose reader has gone.
type closedWriter struct{}

func (closedWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestMeet holds what is left out of a log that is opened again, line by line.
func TestMeet(t *testing.T) {
	at := func(seconds int) time.Time { return time.Unix(int64(seconds), 0) }
	for _, test := range []struct {
		name  string
		from  position
		lines []time.Time
		want  []int // bytes of each line that were shown; -1: all
	}{
		{"from the beginning", position{}, []time.Time{at(1), at(1), at(2)}, []int{0, 0, 0}},
		{"lines before it", position{last: at(2), equal: 1}, []time.Time{at(1), at(2), at(3)}, []int{-1, -1, 0}},
		{"some of one time", position{last: at(2), equal: 2}, []time.Time{at(2), at(2), at(2), at(3)}, []int{-1, -1, 0, 0}},
		{"half a line", position{last: at(1), equal: 1, begun: at(2), part: 5}, []time.Time{at(1), at(2), at(3)}, []int{-1, 5, 0}},
		{"half a line of the same time", position{last: at(1), equal: 1, begun: at(1), part: 5}, []time.Time{at(1), at(1), at(1)},
			[]int{-1, 5, 0}},
		{"half a line that is gone", position{last: at(1), equal: 1, begun: at(2), part: 5}, []time.Time{at(3), at(2)}, []int{0, 0}},
		{"half of the first line", position{begun: at(1), part: 5}, []time.Time{at(1), at(1)}, []int{5, 0}},
		{"cut off by the kubelet", position{last: at(2), equal: 2}, []time.Time{at(3)}, []int{0}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []int
			for p := test.from; len(got) < len(test.lines); {
				var l line
				l, p = p.meet(test.lines[len(got)])
				if l.known {
					l.drop = -1
				}
				got = append(got, l.drop)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// TestTorn holds that only the end of a line that is read again is left out.
func TestTorn(t *testing.T) {
	for _, test := range []struct {
		err         error
		ended, want bool
	}{
		{nil, false, false},
		{bufio.ErrBufferFull, false, false},
		{io.EOF, false, true},
		{io.ErrUnexpectedEOF, false, true},
		{io.EOF, true, false},
	} {
		if got := torn(test.err, test.ended); got != test.want {
			t.Errorf("%v, ended %t: got %t", test.err, test.ended, got)
		}
	}
}
