// Package server is the HTTP side of hodei server: the API by which providers are
// registered, on the same file as the CLI's, and /healthz. Start with [Server]. It
// asks nobody who they are, so it is for loopback alone, and what a web page could
// send there it refuses.
//
// It makes no workers and meets no agents: that is the coordinator's, beside it.
package server

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/hodei-jobs/hodei/internal/httpserve"
	"github.com/hodei-jobs/hodei/pkg/provider"
)

// bounds of what clients may take. A request is a few hundred bytes on loopback, and
// each bound is far above what that needs.
var bounds = httpserve.Bounds{
	Conns: 64,
	Read:  10 * time.Second,
	// The handler's wait for whoever edits the file of providers at this moment takes up to
	// five seconds of it.
	Write:    15 * time.Second,
	Idle:     30 * time.Second,
	Shutdown: 5 * time.Second,
}

const (
	// maxBodyBytes holds a provider with every key, its affinity and volumes too.
	maxBodyBytes = 64 << 10
	// refusalEvery is the least time between two log lines about requests from web pages,
	// and maxShownPath what each shows of a path that the page has chosen.
	refusalEvery = time.Second
	maxShownPath = 100
)

// Server answers the API's requests. Registry, Complete, Health and Log are required.
type Server struct {
	// Registry is the path of the file of providers, see [provider.Path].
	Registry string
	// Complete adds to a provider of type kubernetes what it takes from where the
	// server runs, its context, and refuses another. An error is the client's to see.
	Complete func(*provider.Config) error
	// Health says why agents can't attach or their output can't be kept; nil if all is well.
	Health func() error
	// Program is what hodei was called by, for hints.
	Program string
	// Log is told what was changed, and what failed.
	Log *slog.Logger

	refused refusals
}

// Serve answers requests from l until ctx ends, and then gives those under way five
// seconds; one that waits for the file of providers ends at once. It closes l. The error is nil once ctx has ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	// The end of ctx ends the wait for the file of providers.
	return httpserve.Serve(ctx, l, s.handler(), bounds, slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug))
}

// handler is the API with its guards.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/healthz", methods{http.MethodGet: s.healthz})
	mux.Handle("/api/providers", methods{http.MethodGet: s.listProviders, http.MethodPost: s.addProvider})
	mux.Handle("/api/providers/{name}", methods{http.MethodGet: s.getProvider, http.MethodDelete: s.removeProvider})
	mux.HandleFunc("/", notFound)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if err := guard(r); err != nil {
			s.refused.tell(s.Log, r, err)
			err.write(w)
			return
		}
		if r.URL.Path != path.Clean(r.URL.Path) { // the mux would redirect, in HTML
			notFound(w, r)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
		mux.ServeHTTP(w, r)
	})
}

// refusals bound what the log says of them: any web page can ask as often as it likes.
type refusals struct {
	mu     sync.Mutex
	next   time.Time // when one may be told again
	untold int       // before that
}

func (f *refusals) tell(log *slog.Logger, r *http.Request, err *apiError) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if now.Before(f.next) {
		f.untold++
		return
	}
	path := r.URL.Path
	log.Warn("request refused", "method", r.Method, "path", path[:min(len(path), maxShownPath)], "error", err.Message, "others", f.untold)
	f.next, f.untold = now.Add(refusalEvery), 0
}

// ListensOn reports whether a server may listen on host, a name or an address without a port. These
// are what every system has for itself alone, and the API is asked by no other.
func ListensOn(host string) bool {
	return host == "localhost" || host == "127.0.0.1" || host == "::1"
}

// guard refuses what a web page could have sent. A name that was made to point here
// (DNS rebinding) is in Host; the page that sends anything but a plain GET is in
// Origin, and its GETs it can't read.
func guard(r *http.Request) *apiError {
	if name, ours := httpserve.LoopbackHost(r.Host); !ours || !ListensOn(name) {
		return &apiError{Status: http.StatusMisdirectedRequest, Message: "Host is not this machine",
			Hint: "ask for http://localhost, with the server's port"}
	}
	if _, given := r.Header["Origin"]; given {
		return &apiError{Status: http.StatusForbidden, Message: "requests from web pages are refused: Origin is set"}
	}
	return nil
}

// apiError is an answer that is not what was asked for, as JSON.
type apiError struct {
	Status  int    `json:"-"`
	Message string `json:"error"`
	Hint    string `json:"hint,omitempty"`
}

func (e *apiError) write(w http.ResponseWriter) { writeJSON(w, e.Status, e) }

// writeJSON answers with v. A client that has gone does not get it.
func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(err) // a type of ours that JSON has no words for
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n'))
}

// methods answers a path's requests by their method.
type methods map[string]func(http.ResponseWriter, *http.Request) *apiError

func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet // whose body net/http leaves out
	}
	handle, ok := m[method]
	if !ok {
		allowed := m.allowed()
		w.Header().Set("Allow", allowed)
		(&apiError{Status: http.StatusMethodNotAllowed, Message: "method not allowed here: want " + allowed}).write(w)
		return
	}
	if err := handle(w, r); err != nil {
		err.write(w)
	}
}

func (m methods) allowed() string {
	var names []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		if m[method] != nil {
			names = append(names, method)
		}
	}
	return strings.Join(names, ", ")
}

func notFound(w http.ResponseWriter, _ *http.Request) {
	(&apiError{Status: http.StatusNotFound, Message: "no such path: want /api/providers, /api/providers/NAME or /healthz"}).write(w)
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) *apiError {
	if err := s.Health(); err != nil {
		return &apiError{Status: http.StatusServiceUnavailable, Message: err.Error()}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
	return nil
}

// failed is an error that is not the client's.
func (s *Server) failed(what string, err error) *apiError {
	s.Log.Error(what, "error", err)
	return &apiError{Status: http.StatusInternalServerError, Message: what + ": " + err.Error()}
}
