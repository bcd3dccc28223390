// Package followtest is what tests of pkg/follow and of its users share: certificates as the two
// sides of a job use them, and an agent that tries to shake hands. It is for tests alone.
package followtest

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/provider/tunnel"
)

// Certs issues the certificates of a job by an authority of its own, as the coordinator and
// the agent of that job use them.
func Certs(t *testing.T, id certs.ID) (server, agent *tls.Config) {
	t.Helper()
	authority, err := certs.NewAuthority(0)
	if err != nil {
		t.Fatal(err)
	}
	c, err := authority.IssueJob(id)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := certs.Files{CA: filepath.Join(dir, "ca"), Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key")}
	for path, data := range map[string][]byte{files.CA: c.CA, files.Cert: c.ClientCert, files.Key: c.ClientKey} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if server, err = c.ServerConfig(); err != nil {
		t.Fatal(err)
	}
	if agent, err = files.ClientConfig(id.ServerName()); err != nil {
		t.Fatal(err)
	}
	return server, agent
}

// Shake delivers a connection every 15 s and tries to shake hands on it as an agent does, until
// ctx ends. What comes of it the other side tells.
func Shake(ctx context.Context, way *tunnel.Tunnel, config *tls.Config) {
	for ctx.Err() == nil {
		ours, theirs := net.Pipe()
		var delivery sync.WaitGroup
		delivery.Go(func() { way.Deliver(ctx, ours) })
		_ = tls.Client(theirs, config).HandshakeContext(ctx)
		theirs.Close()
		delivery.Wait()
		select {
		case <-ctx.Done():
		case <-time.After(15 * time.Second):
		}
	}
}
