package exporter

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

var update = flag.Bool("update", false, "write the golden file anew")

// text is what the exporter answers of jobs.
func text(t *testing.T, e *Exporter) string {
	t.Helper()
	w := httptest.NewRecorder()
	e.handler(false).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	var jobs strings.Builder
	for line := range strings.Lines(w.Body.String()) {
		if strings.Contains(line, "hodei_") {
			jobs.WriteString(line)
		}
	}
	return jobs.String()
}

func everything() job.Sample {
	n := uint64(0)
	next := func() *uint64 { n++; return new(n) }
	wait := func() *time.Duration { n++; return new(time.Duration(n) * time.Second) }
	return job.Sample{Time: time.Unix(1_750_000_000, 5e8), Usage: job.Usage{
		CPU: job.CPUUsage{Total: wait(), User: wait(), System: wait(), LimitMillis: new(uint64(1500)), Throttled: wait(), Periods: next(),
			ThrottledPeriods: next()},
		Memory: job.MemoryUsage{Current: next(), Peak: next(), Anon: next(), File: next(), Kernel: next(), Swap: next(),
			HugePages: new(uint64(2 << 20)), Limit: next(),
			MaxEvents: next(), OOMEvents: next(), OOMKills: next(), OOMVictim: &job.OOMVictim{Name: "no label"}},
		IO: job.IOUsage{ReadBytes: next(), WriteBytes: next(), ReadOps: next(), WriteOps: next()},
		Network: job.NetworkUsage{IPv4: &job.Traffic{ReceiveBytes: *next(), ReceivePackets: *next(), TransmitBytes: *next(),
			TransmitPackets: *next()}, IPv6: &job.Traffic{ReceiveBytes: 1 << 53}},
		Pids: job.PidsUsage{Current: next(), Limit: next()},
		Pressure: job.PressureUsage{CPUSome: wait(), CPUFull: wait(), MemorySome: wait(), MemoryFull: wait(), IOSome: wait(),
			IOFull: wait()},
	}}
}

func TestText(t *testing.T) {
	e := New()
	full, bare, none := ID{"ns", "make", "make-1"}, ID{"ns", `a"b\`, "x\ny"}, ID{"ns", "none", "none-1"}
	for _, id := range []ID{full, bare, none} {
		e.Attached(id)
	}
	e.Sample(full, everything())
	e.Sample(bare, job.Sample{Time: time.Unix(1, 0)})
	e.Sample(ID{"ns", "stranger", "stranger-1"}, everything())
	got := text(t, e)
	golden := filepath.Join("testdata", "metrics.golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// unexported are the parts of a usage that Prometheus is not told: words, which make a series
// of each value, and counts that are a sample.
var unexported = []string{"Source", "Memory.PeakSampled", "Memory.OOMVictim", "RunQueueWaits", "RunQueueWatched"}

// Each figure of a usage has a metric, also one that is added.
func TestEveryFigure(t *testing.T) {
	var walk func(name string, v reflect.Value, u *job.Usage)
	walk = func(name string, v reflect.Value, u *job.Usage) {
		if slices.Contains(unexported, name) {
			return
		}
		if v.Kind() == reflect.Struct {
			for i := range v.NumField() {
				walk(strings.TrimPrefix(name+"."+v.Type().Field(i).Name, "."), v.Field(i), u)
			}
			return
		}
		if v.Kind() != reflect.Pointer {
			t.Fatalf("%s: a %s can't be absent", name, v.Kind())
		}
		v.Set(reflect.New(v.Type().Elem()))
		defer v.SetZero()
		shown := 0
		for _, m := range metrics {
			shown += len(m.values(u))
		}
		if shown == 0 {
			t.Errorf("%s has no metric", name)
		}
	}
	var u job.Usage
	walk("", reflect.ValueOf(&u).Elem(), &u)
}

// Whatever the time of a sample is, it is told, and one without leaves that of the last.
func TestLastSample(t *testing.T) {
	e := New()
	id := ID{"ns", "j", "j-1"}
	e.Attached(id)
	e.Sample(id, job.Sample{Usage: everything().Usage})
	if got := text(t, e); strings.Contains(got, "last_sample") {
		t.Errorf("of no time: %s", got)
	}
	for _, test := range []struct {
		name string
		at   time.Time
		want string
	}{
		{"now", time.Unix(1_750_000_000, 5e8), "1.7500000005e+09"},
		{"no time", time.Time{}, "1.7500000005e+09"},
		{"later than nanoseconds go", time.Unix(20_000_000_000, 0), "2e+10"},
	} {
		e.Sample(id, job.Sample{Time: test.at, Usage: everything().Usage})
		if got := text(t, e); !strings.Contains(got, `hodei_job_last_sample_timestamp_seconds{attempt="j-1",job_name="j",namespace="ns"} `+
			test.want+"\n") {
			t.Errorf("%s: got %s", test.name, got)
		}
	}
}

// What has ended is shown for five minutes, and goes on if it comes back.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := New()
		id, back := ID{"ns", "j", "j-1"}, ID{"ns", "j", "j-2"}
		for _, id := range []ID{id, back} {
			e.Attached(id)
			e.Sample(id, everything())
			e.Left(id)
		}
		e.Attached(back)
		time.Sleep(keepEnded - time.Second)
		e.Left(id) // again: it counts from the first time
		if got := text(t, e); !strings.Contains(got, `attempt="j-1"`) {
			t.Error("gone too early")
		}
		time.Sleep(time.Second)
		if got := text(t, e); strings.Contains(got, `attempt="j-1"`) || !strings.Contains(got, `attempt="j-2"`) {
			t.Errorf("got %s", got)
		}
	})
}

func TestBounds(t *testing.T) {
	for _, test := range []struct {
		name  string
		fill  func(e *Exporter)
		id    ID
		shown bool
	}{
		{"room", func(*Exporter) {}, ID{"ns", "j", "new"}, true},
		{"too many of the job", func(e *Exporter) { attach(e, maxOfJob, "j", false) }, ID{"ns", "j", "new"}, false},
		{"one of them has ended", func(e *Exporter) {
			attach(e, maxOfJob, "j", false)
			e.Left(ID{"ns", "j", "j-3"})
		}, ID{"ns", "j", "new"}, true},
		{"another job", func(e *Exporter) { attach(e, maxOfJob, "j", false) }, ID{"ns", "k", "new"}, true},
		{"too many of all", func(e *Exporter) {
			for n := range maxAttempts / maxOfJob {
				attach(e, maxOfJob, fmt.Sprint("j", n), false)
			}
		}, ID{"ns", "j", "new"}, false},
		{"all have ended", func(e *Exporter) {
			for n := range maxAttempts / maxOfJob {
				attach(e, maxOfJob, fmt.Sprint("j", n), true)
			}
		}, ID{"ns", "j", "new"}, true},
		{"a long name", func(*Exporter) {}, ID{"ns", "j", strings.Repeat("x", maxNameBytes+1)}, false},
		{"no name", func(*Exporter) {}, ID{"ns", "j", "\xff"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := New()
			test.fill(e)
			e.Attached(test.id)
			e.Sample(test.id, everything())
			got := text(t, e)
			if shown := strings.Contains(got, fmt.Sprintf(`hodei_job_pids{attempt="%s",job_name="%s"`, test.id.Attempt,
				test.id.Job)); shown != test.shown {
				t.Errorf("shown %t, want %t", shown, test.shown)
			}
			if leftOut := strings.Contains(got, "left_out_attempts_total 1"); leftOut == test.shown {
				t.Errorf("left out %t", leftOut)
			}
			if n := len(e.attempts); n > maxAttempts {
				t.Errorf("%d attempts", n)
			}
		})
	}
}

func attach(e *Exporter, n int, name string, ended bool) {
	for i := range n {
		id := ID{"ns", name, fmt.Sprintf("%s-%d", name, i)}
		e.Attached(id)
		if ended {
			e.Left(id)
		}
	}
}

func TestHandler(t *testing.T) {
	for _, test := range []struct {
		name, method, path, host string
		loopback                 bool
		code                     int
	}{
		{"localhost", "GET", "/metrics", "localhost:9464", true, 200},
		{"127.0.0.1", "GET", "/metrics", "127.0.0.1:9464", true, 200},
		{"another of loopback", "GET", "/metrics", "127.1.2.3", true, 200},
		{"IPv6", "GET", "/metrics", "[::1]", true, 200},
		{"a name that points here", "GET", "/metrics", "evil.example:9464", true, 421},
		{"no Host", "GET", "/metrics", "", true, 421},
		{"a name of this machine in its network", "GET", "/metrics", "ci.example:9464", false, 200},
		{"another path", "GET", "/", "localhost", true, 404},
		{"another method", "POST", "/metrics", "localhost", true, 405},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest(test.method, test.path, nil)
			r.Host = test.host
			w := httptest.NewRecorder()
			New().handler(test.loopback).ServeHTTP(w, r)
			if w.Code != test.code {
				t.Errorf("got %d, want %d", w.Code, test.code)
			}
		})
	}
}

// pipes is a listener whose connections are made in memory.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// Somebody who connects and says nothing does not hold up the end.
func TestServeEndsBesideSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- New().Serve(ctx, l) }()
		ours, theirs := net.Pipe()
		defer ours.Close()
		l.conns <- theirs
		synctest.Wait()
		began := time.Now()
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if waited := time.Since(began); waited > 100*time.Millisecond {
			t.Errorf("the end took %s", waited)
		}
	})
}

// The figures of this process are among what is answered, and the end is an end.
func TestServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- New().Serve(ctx, l) }()
	r, err := http.Get("http://" + l.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	r.Body.Close()
	if err != nil || !strings.Contains(string(body), "\ngo_goroutines ") {
		t.Errorf("got %v, %s", err, body)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("it listens still")
	}
	if err := New().Serve(t.Context(), l); err == nil {
		t.Error("a closed listener is served")
	}
}
