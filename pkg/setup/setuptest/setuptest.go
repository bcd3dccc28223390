// Package setuptest is an API server for tests that answers what it is told to
// ([Server]).
package setuptest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Server has the answers to requests, by method and path: "GET /api/v1/namespaces/a". An
// answer is JSON, or a status of 403, 404 or 500 and a message: "403 not you". What it
// does not have is not found.
type Server map[string]string

// Start serves until the test ends, and returns the address. The answers must not change
// any more.
func (s Server) Start(t testing.TB) string {
	t.Helper()
	reasons := map[int]metav1.StatusReason{
		http.StatusNotFound:            metav1.StatusReasonNotFound,
		http.StatusForbidden:           metav1.StatusReasonForbidden,
		http.StatusInternalServerError: metav1.StatusReasonInternalError,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer, ok := s[r.Method+" "+r.URL.Path]
		switch {
		case ok:
		case r.URL.Path == "/version":
			answer = "{}"
		default:
			answer = "404 "
		}
		for code, reason := range reasons {
			if message, ok := strings.CutPrefix(answer, fmt.Sprint(code, " ")); ok {
				w.WriteHeader(code)
				answer = fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d,"message":%q}`,
					reason, code, message)
			}
		}
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(server.Close)
	return server.URL
}
