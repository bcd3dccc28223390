package httpserve

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

func TestLoopbackHost(t *testing.T) {
	for _, test := range []struct {
		host, name string
		ok         bool
	}{
		{"localhost", "localhost", true},
		{"LOCALHOST:1", "localhost", true},
		{"127.0.0.1", "127.0.0.1", true},
		{"127.0.0.1:8080", "127.0.0.1", true},
		{"127.1.2.3", "127.1.2.3", true},
		{"::1", "::1", true},
		{"[::1]", "::1", true},
		{"[::1]:8080", "::1", true},
		{"", "", false},
		{":8080", "", false},
		{"0.0.0.0", "0.0.0.0", false},
		{"192.0.2.1:8080", "192.0.2.1", false},
		{"localhost:abc", "", false},
		{"localhost:65536", "", false},
		{"evil.example", "evil.example", false},
		{"localhost.evil.example", "localhost.evil.example", false},
		{"evil.localhost", "evil.localhost", false},
		{"127.0.0.1.evil.example", "127.0.0.1.evil.example", false},
	} {
		if name, ok := LoopbackHost(test.host); name != test.name || ok != test.ok {
			t.Errorf("%q: %q, %t, want %q, %t", test.host, name, ok, test.name, test.ok)
		}
	}
}

func TestIsLoopback(t *testing.T) {
	for _, test := range []struct {
		address net.Addr
		want    bool
	}{
		{&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, true},
		{&net.TCPAddr{IP: net.IPv6loopback}, true},
		{&net.TCPAddr{IP: net.IPv4zero}, false},
		{&net.TCPAddr{}, false},
		{&net.UnixAddr{Name: "/tmp/socket"}, false},
	} {
		if got := IsLoopback(test.address); got != test.want {
			t.Errorf("%v: %t, want %t", test.address, got, test.want)
		}
	}
}

func TestListen(t *testing.T) {
	l, err := Listen("127.0.0.1:0", "another")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, test := range []struct{ name, address, want, hint string }{
		{"in use", l.Addr().String(), "address " + l.Addr().String() + " is in use", "see by whom: ss -ltnp; or another"},
		{"no port", "127.0.0.1", "missing port in address", "another"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Listen(test.address, "another")
			if err == nil || !strings.Contains(err.Error(), test.want) || job.HintOf(err) != test.hint {
				t.Errorf("got %v with hint %q, want %q with %q", err, job.HintOf(err), test.want, test.hint)
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

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// TestServeEnds: the end of the context is the end of a request's, which is given its time, and no
// more.
func TestServeEnds(t *testing.T) {
	bounds := Bounds{Conns: 2, Shutdown: 3 * time.Second}
	for _, test := range []struct {
		name            string
		handles, within time.Duration // after the end of its context
		answered        bool
	}{
		{"in time", time.Second, 2 * time.Second, true},
		{"too late", time.Minute, bounds.Shutdown, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					<-r.Context().Done()
					time.Sleep(test.handles)
				})
				ctx, stop := context.WithCancel(t.Context())
				l := &pipes{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
				client, server := net.Pipe()
				l.conns <- server
				var work sync.WaitGroup
				answer := ""
				work.Go(func() {
					_, _ = io.WriteString(client, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
					data, _ := io.ReadAll(client)
					answer = string(data)
				})
				served := make(chan error, 1)
				go func() { served <- Serve(ctx, l, h, bounds, log.New(io.Discard, "", 0)) }()
				synctest.Wait()
				began := time.Now()
				stop()
				if err := <-served; err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took > test.within {
					t.Errorf("it took %s, want %s", took, test.within)
				}
				work.Wait()
				time.Sleep(test.handles) // the handler of an answer that nobody gets runs to its end
				if strings.HasPrefix(answer, "HTTP/1.1 200 ") != test.answered {
					t.Errorf("answered with %q", answer)
				}
			})
		})
	}
}

func TestServeFails(t *testing.T) {
	l, err := Listen("127.0.0.1:0", "")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := Serve(t.Context(), l, http.NotFoundHandler(), Bounds{Conns: 1}, nil); err == nil {
		t.Error("a closed listener is served")
	}
}
