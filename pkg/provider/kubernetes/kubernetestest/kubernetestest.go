// Package kubernetestest has a provider whose API server a test plays ([Cluster]). It is for tests
// alone.
package kubernetestest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// Cluster returns a provider of jobs in namespace ns, to whose requests answer answers until the
// test ends.
func Cluster(t *testing.T, answer http.HandlerFunc) *kubernetes.Provider {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	p, err := kubernetes.New(kubernetes.Options{Config: &rest.Config{Host: server.URL}, Provider: provider.Config{Namespace: "ns"}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Allows answers a SelfSubjectAccessReview.
func Allows(yes bool) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","status":{"allowed":%t}}`, yes)
	}
}
