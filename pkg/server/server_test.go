package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/internal/httpserve"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
)

const patience = 20 * time.Second

// lockedEnd is far below the wait for the file of providers, and far above what an
// answer takes.
const lockedEnd = 3 * time.Second

// guide is the body of the user's guide.
const guide = `{"type":"kubernetes","name":"k8s-local","config":{"namespace":"hodei-jobs-workers","image_pull_policy":"IfNotPresent",` +
	`"service_account":"hodei-jobs-worker"}}`

// served is a server on a port of its own, until the test has ended.
type served struct {
	*Server
	addr string
	stop context.CancelFunc
	log  *lockedBuffer
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func serve(t *testing.T, change func(*Server)) *served {
	t.Helper()
	before := runtime.NumGoroutine()
	s := &served{log: &lockedBuffer{}}
	s.Server = &Server{
		Registry: filepath.Join(t.TempDir(), "hodei", "config.yaml"),
		Complete: func(c *provider.Config) error {
			if c.Context == "" {
				c.Context = "kind"
			}
			return nil
		},
		Health:  func() error { return nil },
		Program: "hodei",
		Log:     slog.New(slog.NewTextHandler(s.log, nil)),
	}
	if change != nil {
		change(s.Server)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	ctx, stop := context.WithCancel(t.Context())
	s.stop = stop
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		stop()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(patience):
			t.Fatal("Serve does not end")
		}
		for deadline := time.Now().Add(patience); runtime.NumGoroutine() > before; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
			}
		}
	})
	return s
}

// answer is what a client gets.
type answer struct {
	status int
	header http.Header
	body   string
}

func (s *served) ask(t *testing.T, method, path, body string, header map[string]string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.addr+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		if name == "Host" {
			r.Host = value
		}
		r.Header.Set(name, value)
	}
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{got.StatusCode, got.Header, string(text)}
}

var jsonType = map[string]string{"Content-Type": "application/json"}

func (s *served) post(t *testing.T, body string) answer {
	t.Helper()
	return s.ask(t, http.MethodPost, "/api/providers", body, jsonType)
}

func TestProviders(t *testing.T) {
	s := serve(t, nil)
	created := s.post(t, guide)
	if created.status != http.StatusCreated || created.header.Get("Location") != "/api/providers/k8s-local" ||
		created.header.Get("Content-Type") != "application/json" {
		t.Errorf("POST: %+v", created)
	}
	var body providerBody
	if err := json.Unmarshal([]byte(created.body), &body); err != nil || body.Type != "kubernetes" || body.Name != "k8s-local" ||
		body.Config.Context != "kind" || body.Config.ServiceAccount != "hodei-jobs-worker" || body.Config.Type != "" ||
		body.Hint != "hodei provider use k8s-local" {
		t.Errorf("POST: %+v, %v", body, err)
	}
	withoutHint := strings.Replace(created.body, ",\n  \"hint\": \"hodei provider use k8s-local\"", "", 1)
	if got := s.ask(t, http.MethodGet, "/api/providers/k8s-local", "", nil); got.status != http.StatusOK || got.body != withoutHint {
		t.Errorf("GET: %+v", got)
	}
	if got := s.ask(t, http.MethodHead, "/api/providers/k8s-local", "", nil); got.status != http.StatusOK || got.body != "" {
		t.Errorf("HEAD: %+v", got)
	}
	// It is the CLI's file, and no provider that came this way is in use.
	r, err := provider.Load(s.Registry)
	if err != nil || r.Current != "" || r.Providers["k8s-local"].Context != "kind" {
		t.Errorf("registry %+v, %v", r, err)
	}
	if err := provider.Update(t.Context(), s.Registry, func(r *provider.Registry) error { return r.Use("k8s-local") }); err != nil {
		t.Fatal(err)
	}
	if got := s.post(t, strings.Replace(guide, "k8s-local", "here", 1)); got.status != http.StatusCreated {
		t.Errorf("POST: %+v", got)
	}
	var list struct {
		Current   string
		Providers []struct{ Name string }
	}
	if err := json.Unmarshal([]byte(s.ask(t, http.MethodGet, "/api/providers", "", nil).body), &list); err != nil ||
		list.Current != "k8s-local" || fmt.Sprint(list.Providers) != "[{here} {k8s-local} {local}]" {
		t.Errorf("GET: %+v, %v", list, err)
	}
	if got := s.ask(t, http.MethodDelete, "/api/providers/here", "", nil); got.status != http.StatusNoContent || got.body != "" {
		t.Errorf("DELETE: %+v", got)
	}
	if got := s.ask(t, http.MethodGet, "/api/providers/here", "", nil); got.status != http.StatusNotFound {
		t.Errorf("GET after DELETE: %+v", got)
	}
	// The one in use replaced by another of its name: jobs do not go there unasked.
	s.ask(t, http.MethodDelete, "/api/providers/k8s-local", "", nil)
	s.post(t, guide)
	if r, err := provider.Load(s.Registry); err != nil || r.Current != "" || len(r.Providers) != 1 {
		t.Errorf("registry %+v, %v", r, err)
	}
	if log := s.log.String(); !strings.Contains(log, `msg="provider added" name=k8s-local`) ||
		!strings.Contains(log, `msg="provider removed" name=here`) {
		t.Errorf("log:\n%s", log)
	}
}

// TestRefusals has every guard and every wrong request, each with its status.
func TestRefusals(t *testing.T) {
	s := serve(t, func(s *Server) {
		complete := s.Complete
		s.Complete = func(c *provider.Config) error {
			if c.Namespace == "nowhere" {
				return &job.Failure{Message: "no kubeconfig", Hint: "export KUBECONFIG=FILE"}
			}
			return complete(c)
		}
	})
	if got := s.post(t, guide); got.status != http.StatusCreated {
		t.Fatalf("%+v", got)
	}
	const path = "/api/providers"
	with := func(name, value string) map[string]string {
		h := maps.Clone(jsonType)
		h[name] = value
		return h
	}
	named := func(name string) string { return strings.Replace(guide, "k8s-local", name, 1) }
	for _, test := range []struct {
		name, method, path, body string
		header                   map[string]string
		status                   int
		want                     string // in the body
	}{
		{"another Host", "POST", path, named("a"), with("Host", "evil.example"), 421, "Host is not this machine"},
		{"another Host with our port", "GET", path, "", with("Host", "evil.example:8080"), 421, ""},
		{"a Host that begins like ours", "GET", path, "", with("Host", "localhost.evil.example"), 421, ""},
		{"a Host that ends like ours", "GET", path, "", with("Host", "evil.localhost"), 421, ""},
		{"a port that is none", "GET", path, "", with("Host", "localhost:abc"), 421, ""},
		{"another address", "GET", path, "", with("Host", "192.0.2.1"), 421, ""},
		{"another of loopback", "GET", path, "", with("Host", "127.0.0.2"), 421, ""},
		{"another Host for the health", "GET", "/healthz", "", with("Host", "evil.example"), 421, ""},
		{"Origin", "POST", path, named("a"), with("Origin", "https://evil.example"), 403, "Origin"},
		{"Origin of ours", "POST", path, named("a"), with("Origin", "http://localhost:8080"), 403, ""},
		{"Origin null", "DELETE", path + "/k8s-local", "", with("Origin", "null"), 403, ""},
		{"Origin empty", "POST", path, named("a"), with("Origin", ""), 403, ""},
		{"Origin for reading", "GET", path, "", with("Origin", "https://evil.example"), 403, ""},
		{"preflight", "OPTIONS", path, "", with("Origin", "https://evil.example"), 403, ""},
		{"no content type", "POST", path, named("a"), nil, 415, "application/json"},
		{"a form", "POST", path, named("a"), with("Content-Type", "application/x-www-form-urlencoded"), 415, ""},
		{"text", "POST", path, named("a"), with("Content-Type", "text/plain; x=application/json"), 415, ""},
		{"too large", "POST", path, named("a") + strings.Repeat(" ", maxBodyBytes), jsonType, 413, "65536 bytes"},
		{"no body", "POST", path, "", jsonType, 400, "not JSON"},
		{"YAML", "POST", path, "type: local\nname: a\n", jsonType, 400, "not JSON"},
		{"two objects", "POST", path, guide + guide, jsonType, 400, "not JSON"},
		{"a list", "POST", path, "[]", jsonType, 400, "want keys and values"},
		{"an unknown key", "POST", path, `{"type":"kubernetes","name":"a","config":{"nope":1}}`, jsonType, 400, "config.nope: unknown key"},
		{"a key twice", "POST", path, `{"type":"kubernetes","name":"a","name":"b","config":{}}`, jsonType, 400, "already set"},
		{"a bad value", "POST", path, `{"type":"kubernetes","name":"a","config":{"image_pull_policy":"Maybe"}}`, jsonType, 400,
			`\"Maybe\": want`},
		{"half a byte", "POST", path, `{"type":"kubernetes","name":"a","config":{"memory":"512m"}}`, jsonType, 400,
			"memory: 512m: want 4Mi to 1Pi; did you mean 512Mi?"},
		{"a byte that is no text", "POST", path, "{\"type\":\"kubernetes\",\"name\":\"a\",\"config\":{\"annotations\":{\"a\":\"\xe9\"}}}",
			jsonType, 400, "the byte 0xe9, which is not UTF-8"},
		{"an unknown type", "POST", path, `{"type":"docker","name":"a","config":{}}`, jsonType, 400, `\"docker\": want`},
		{"no name", "POST", path, `{"type":"kubernetes","config":{}}`, jsonType, 400, `provider \"\": want a name`},
		{"a bad name", "POST", path, named("A/../b"), jsonType, 400, "want a name"},
		{"a kubeconfig", "POST", path, `{"type":"kubernetes","name":"a","config":{"kubeconfig":"/tmp/evil"}}`, jsonType, 400,
			"hodei provider add a --kubeconfig FILE"},
		{"a path of the host", "POST", path, `{"type":"kubernetes","name":"a","config":{"allow_host_path":true}}`, jsonType, 400,
			"config.allow_host_path: can't be set over HTTP"},
		{"no cluster to be had", "POST", path, `{"type":"kubernetes","name":"a","config":{"namespace":"nowhere"}}`, jsonType, 400,
			"export KUBECONFIG=FILE"},
		{"taken", "POST", path, guide, jsonType, 409, "hodei provider remove k8s-local"},
		{"a machine's processes", "POST", path, `{"type":"local","name":"here"}`, jsonType, 400,
			`type: \"local\" can't be added over HTTP`},
		{"the built-in name", "POST", path, `{"type":"local","name":"local"}`, jsonType, 409, "is there already"},
		{"remove the built-in one", "DELETE", path + "/local", "", nil, 409, "built in"},
		{"remove none", "DELETE", path + "/nope", "", nil, 404, "hodei provider list"},
		{"get none", "GET", path + "/nope", "", nil, 404, "not found"},
		{"get a file", "GET", path + "/..%2f..%2fetc%2fpasswd", "", nil, 404, "no such path"},
		{"two slashes", "GET", "//api/providers", "", nil, 404, "no such path"},
		{"a slash at the end", "DELETE", path + "/", "", nil, 404, "no such path"},
		{"another path", "GET", "/api", "", nil, 404, "no such path"},
		{"the root", "GET", "/", "", nil, 404, "no such path"},
		{"a path below", "GET", path + "/k8s-local/x", "", nil, 404, "no such path"},
		{"PUT", "PUT", path + "/k8s-local", guide, jsonType, 405, "want GET, DELETE"},
		{"DELETE of all", "DELETE", path, "", nil, 405, "want GET, POST"},
		{"POST of the health", "POST", "/healthz", "", jsonType, 405, "want GET"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := s.ask(t, test.method, test.path, test.body, test.header)
			if got.status != test.status || !strings.Contains(got.body, test.want) {
				t.Errorf("got %d, %s\nwant %d, %q", got.status, got.body, test.status, test.want)
			}
			var e struct{ Error string }
			if err := json.Unmarshal([]byte(got.body), &e); err != nil || e.Error == "" ||
				got.header.Get("Content-Type") != "application/json" {
				t.Errorf("no error in JSON: %v: %s", err, got.body)
			}
			if got.header.Get("Access-Control-Allow-Origin") != "" {
				t.Error("a web page may read it")
			}
			if allow := got.header.Get("Allow"); (test.status == 405) != (allow != "") {
				t.Errorf("Allow: %q", allow)
			}
		})
	}
	r, err := provider.Load(s.Registry)
	if err != nil || !slices.Equal(r.Names(), []string{"k8s-local", "local"}) {
		t.Errorf("afterwards there are %v, %v", r.Names(), err)
	}
}

func TestHosts(t *testing.T) {
	s := serve(t, nil)
	for _, host := range []string{"localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:8080"} {
		if got := s.ask(t, http.MethodGet, "/healthz", "", map[string]string{"Host": host}); got.status != http.StatusOK ||
			got.body != "ok\n" {
			t.Errorf("Host %s: %+v", host, got)
		}
	}
	// HTTP/1.0 may leave it out.
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET /healthz HTTP/1.0\r\n\r\n")
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, " 421 ") {
		t.Errorf("without Host: %q, %v", line, err)
	}
}

func TestHealth(t *testing.T) {
	s := serve(t, func(s *Server) {
		s.Health = func() error { return errors.New("certs/server.crt: certificate expired") }
	})
	if got := s.ask(t, http.MethodGet, "/healthz", "", nil); got.status != http.StatusServiceUnavailable ||
		!strings.Contains(got.body, "certificate expired") {
		t.Errorf("%+v", got)
	}
}

// TestBrokenRegistry: what is not the client's fault is said to be the server's.
func TestBrokenRegistry(t *testing.T) {
	s := serve(t, nil)
	if err := os.MkdirAll(filepath.Dir(s.Registry), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Registry, []byte("nope: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, got := range []answer{
		s.post(t, guide),
		s.ask(t, http.MethodGet, "/api/providers", "", nil),
		s.ask(t, http.MethodGet, "/api/providers/a", "", nil),
		s.ask(t, http.MethodDelete, "/api/providers/a", "", nil),
	} {
		if got.status != http.StatusInternalServerError || !strings.Contains(got.body, "unknown key") {
			t.Errorf("%+v", got)
		}
	}
	if !strings.Contains(s.log.String(), "level=ERROR") {
		t.Error("it was not logged")
	}
}

// TestConcurrent: requests and another process's edits lose nothing of each other.
func TestConcurrent(t *testing.T) {
	s := serve(t, nil)
	const each = 16
	var work sync.WaitGroup
	created := make(chan int, 2*each)
	for i := range each {
		body := strings.Replace(guide, "k8s-local", fmt.Sprint("server-", i), 1)
		work.Go(func() { created <- s.post(t, body).status })
		work.Go(func() { created <- s.post(t, body).status }) // the same once more
		work.Go(func() {                                      // as the CLI does
			err := provider.Update(t.Context(), s.Registry, func(r *provider.Registry) error {
				return r.Add(fmt.Sprint("cli-", i), provider.Config{Type: provider.Local})
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	close(created)
	count := map[int]int{}
	for status := range created {
		count[status]++
	}
	if count[http.StatusCreated] != each || count[http.StatusConflict] != each {
		t.Errorf("answers: %v", count)
	}
	if r, err := provider.Load(s.Registry); err != nil || len(r.Providers) != 2*each {
		t.Errorf("%d providers, %v", len(r.Providers), err)
	}
}

// TestBusyRegistry: a request waits for whoever edits the file of providers, but not
// beyond its client's patience, the server's end or five seconds.
func TestBusyRegistry(t *testing.T) {
	s := serve(t, nil)
	if got := s.post(t, guide); got.status != http.StatusCreated {
		t.Fatalf("%+v", got)
	}
	lock, err := os.OpenFile(s.Registry+".lock", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if got := s.ask(t, http.MethodDelete, "/api/providers/k8s-local", "", nil); got.status != http.StatusServiceUnavailable ||
		!strings.Contains(got.body, "is being edited by another hodei") || !strings.Contains(got.body, "fuser -v "+lock.Name()) {
		t.Errorf("%+v", got)
	}
	// One whose client goes.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodDelete, "http://"+s.addr+"/api/providers/k8s-local", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := http.DefaultClient.Do(r); err == nil {
		got.Body.Close()
		t.Errorf("answered %s", got.Status)
	}
	// One that the server's end finds waiting.
	answered := make(chan answer, 1)
	go func() { answered <- s.post(t, strings.Replace(guide, "k8s-local", "late", 1)) }()
	select {
	case got := <-answered:
		t.Errorf("answered with the file locked: %+v", got)
	case <-time.After(200 * time.Millisecond):
	}
	began := time.Now()
	s.stop()
	if got := <-answered; got.status != http.StatusServiceUnavailable || time.Since(began) > lockedEnd {
		t.Errorf("after %s: %+v", time.Since(began), got)
	}
	lock.Close()
	if r, err := provider.Load(s.Registry); err != nil || len(r.Providers) != 1 {
		t.Errorf("registry %+v, %v", r, err)
	}
}

// TestHeaderLimit: a header without an end is not read to its end.
func TestHeaderLimit(t *testing.T) {
	s := serve(t, nil)
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: "+strings.Repeat("x",
		2*httpserve.MaxHeaderBytes)+"\r\n\r\n")
	// What was not read resets the connection, and may take the answer with it.
	if line, err := bufio.NewReader(c).ReadString('\n'); err == nil && !strings.Contains(line, " 431 ") {
		t.Errorf("answered with %q", line)
	}
}

// TestConnections: those that are too many wait until one is closed.
func TestConnections(t *testing.T) {
	s := serve(t, nil)
	var held []net.Conn
	for range bounds.Conns {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		held = append(held, c)
	}
	answered := make(chan answer, 1)
	var work sync.WaitGroup
	work.Go(func() { answered <- s.ask(t, http.MethodGet, "/healthz", "", nil) })
	// One that is let in is answered, so that all were before it.
	io.WriteString(held[0], "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if line, err := bufio.NewReader(held[0]).ReadString('\n'); err != nil || !strings.Contains(line, " 200 ") {
		t.Fatalf("%q, %v", line, err)
	}
	select {
	case got := <-answered:
		t.Errorf("one too many was answered: %+v", got)
	default:
	}
	held[1].Close()
	select {
	case got := <-answered:
		if got.status != http.StatusOK {
			t.Errorf("%+v", got)
		}
	case <-time.After(patience):
		t.Error("not let in after one has gone")
	}
	work.Wait()
}

// pipes is a listener of one connection, in memory.
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

// TestSlowClients: who says nothing, or not all of it, loses its connection.
func TestSlowClients(t *testing.T) {
	const request = "POST /api/providers HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n"
	for _, test := range []struct {
		name, sent string
		after      time.Duration
	}{
		{"nothing", "", httpserve.HeaderTimeout},
		{"half a header", request, httpserve.HeaderTimeout},
		{"half a body", request + "\r\n{", bounds.Read},
		{"one request", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", bounds.Idle},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &Server{Health: func() error { return nil }, Program: "hodei", Log: slog.New(slog.DiscardHandler)}
				ctx, stop := context.WithCancel(t.Context())
				l := &pipes{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
				client, server := net.Pipe()
				l.conns <- server
				var work sync.WaitGroup
				work.Go(func() {
					if err := s.Serve(ctx, l); err != nil {
						t.Error(err)
					}
				})
				work.Go(func() { _, _ = io.WriteString(client, test.sent) })
				began := time.Now()
				answer, _ := io.ReadAll(client)
				if took := time.Since(began); took < test.after || took > test.after+time.Second {
					t.Errorf("closed after %s, want %s; answered %q", took, test.after, answer)
				}
				client.Close()
				stop()
				work.Wait()
			})
		})
	}
}

// TestShutdown: a request under way is answered, and then nothing more.
func TestShutdown(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := serve(t, func(s *Server) {
		s.Health = func() error {
			close(entered)
			<-release
			return nil
		}
	})
	answered := make(chan answer, 1)
	go func() { answered <- s.ask(t, http.MethodGet, "/healthz", "", nil) }()
	<-entered
	s.stop()
	for { // until nobody listens
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			break
		}
		c.Close()
	}
	close(release)
	if got := <-answered; got.status != http.StatusOK || got.body != "ok\n" {
		t.Errorf("%+v", got)
	}
}

// A web page that asks and asks fills no log: one line a second, with the beginning of
// the path and how many there were besides.
func TestRefusalsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := &Server{Log: slog.New(slog.NewTextHandler(&log, nil))}
		h := s.handler()
		ask := func() {
			r := httptest.NewRequest(http.MethodPost, "http://localhost/"+strings.Repeat("x", 8000), nil)
			r.Header.Set("Origin", "http://example.com")
			w := httptest.NewRecorder()
			if h.ServeHTTP(w, r); w.Code != http.StatusForbidden {
				t.Errorf("status %d", w.Code)
			}
		}
		for range 50 {
			ask()
		}
		if lines := strings.Count(log.String(), "\n"); lines != 1 || log.Len() > 400 {
			t.Errorf("%d lines, %d bytes", lines, log.Len())
		}
		<-time.After(refusalEvery)
		ask()
		if lines := strings.Count(log.String(), "\n"); lines != 2 || !strings.HasSuffix(log.String(), "others=49\n") {
			t.Errorf("log:\n%s", log.String())
		}
	})
}
