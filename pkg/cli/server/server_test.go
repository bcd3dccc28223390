package server

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
)

// Who asks over HTTP gets the server's own cluster, and no other.
func TestCompleter(t *testing.T) {
	here := func() (provider.Config, error) { return provider.Config{Context: "here", Kubeconfig: "/k"}, nil }
	none := func() (provider.Config, error) {
		return provider.Config{}, &job.Hinted{Err: errors.New("no context"), Hint: "{hodei} choose"}
	}
	for _, tt := range []struct {
		name    string
		cluster func() (provider.Config, error)
		context string
		want    string // error
		hint    string
	}{
		{"no choice", here, "", "", ""},
		{"the same", here, "here", "", ""},
		{"another", here, "there", `"there" can't be chosen over HTTP, only "here"`, "hodei provider add NAME --context there"},
		{"there is none", none, "", "no context", "hodei choose"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := &Options{cluster: tt.cluster, named: func(hint string) string { return strings.ReplaceAll(hint, "{hodei}", "hodei") }}
			c := provider.Config{Context: tt.context}
			err := o.completer()(&c)
			if tt.want == "" {
				if err != nil || c.Context != "here" || c.Kubeconfig != "/k" {
					t.Errorf("got %+v, %v", c, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || job.HintOf(err) != tt.hint {
				t.Errorf("got %v, hint %q; want %q, hint %q", err, job.HintOf(err), tt.want, tt.hint)
			}
		})
	}
}

// Where one address is taken, none stays open.
func TestOpenListeners(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()

	o := &Options{listen: address, grpcListen: "127.0.0.1:0", metricsAddr: taken.Addr().String()}
	_, err = o.openListeners(true)
	if err == nil || job.HintOf(err) == "" || !strings.Contains(job.HintOf(err), "{hodei} server --metrics-addr HOST:PORT") {
		t.Errorf("got %v, hint %q", err, job.HintOf(err))
	}
	o.metricsAddr = ""
	l, err := o.openListeners(false)
	if err != nil || l.http == nil || l.grpc != nil || l.metrics != nil {
		t.Fatalf("got %+v, %v", l, err)
	}
	l.http.Close()
}
