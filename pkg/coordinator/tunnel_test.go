package coordinator

import (
	"net"
	"testing"

	"google.golang.org/grpc/credentials"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/provider/tunnel"
)

// TestTunnelServes runs an attachment over a connection that the coordinator's
// side has dialled.
func TestTunnelServes(t *testing.T) {
	w := newWorld(t, nil)
	tunnel := tunnel.New()
	served := make(chan error, 1)
	go func() { served <- w.server.Serve(tunnel) }()

	agents, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer agents.Close()
	dialled, err := net.Dial("tcp", agents.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	delivered := make(chan struct{})
	go func() {
		tunnel.Deliver(t.Context(), dialled)
		close(delivered)
	}()
	conn, err := agents.Accept()
	if err != nil {
		t.Fatal(err)
	}
	a := w.dialOver(t, conn, credentials.NewTLS(clientTLS(t, w.job)))
	a.send(&hodeipb.FromAgent_Hello{Hello: hello(0)})
	a.welcome()
	a.send(text(0, "abc"))
	a.ack(3, false)
	a.conn.Close()
	<-delivered
	w.server.Close()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}
