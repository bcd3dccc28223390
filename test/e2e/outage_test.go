package e2e

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// Faults of the cluster, of the network and of our own machine, while a job
// prints: its output is whole, and its exit code known.

// clusterScript runs the cluster that the tests may break.
const clusterScript = "../cluster/cluster"

// ownCluster skips what ends parts of the cluster where that is not ours to break.
// Such a test is not parallel: it runs alone.
func ownCluster(t *testing.T) {
	t.Helper()
	env, err := exec.CommandContext(t.Context(), clusterScript, "env").Output()
	if err != nil || !strings.Contains(string(env), "export KUBECONFIG="+os.Getenv("KUBECONFIG")+"\n") {
		t.Skipf("ends parts of the cluster: runs on that of test/cluster alone (make test-cluster), and %s is not its KUBECONFIG (%v)",
			os.Getenv("KUBECONFIG"), err)
	}
}

// cluster has the script do something to it.
func cluster(t *testing.T, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // also in a cleanup
	defer cancel()
	if out, err := exec.CommandContext(ctx, clusterScript, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", clusterScript, strings.Join(args, " "), err, out)
	}
}

// long has the tests take their time.
var long = os.Getenv("HODEI_TEST_LONG") == "1"

// outageTime is how long the API server is away. Five minutes are more than any
// time-out of the cluster's or of ours, 45 s more than those of the keepalives.
func outageTime() time.Duration {
	if long {
		return 5 * time.Minute
	}
	return 45 * time.Second
}

// TestKilledParts ends parts of the cluster while a job prints, followed through
// the tunnel and by its container's log.
func TestKilledParts(t *testing.T) {
	ownCluster(t)
	t.Cleanup(func() { cluster(t, "start", "apiserver") }) // for the other tests, if a restart failed
	user := tunnelless(t)
	for part, seconds := range map[string]int{"apiserver": 8, "kubelet": 5, "containerd": 5} {
		t.Run(part, func(t *testing.T) {
			s, out := follow(t,
				command(t.Context(), append([]string{"run", "-q", "--name", jobName(t), "--workdir=/tmp", "--"}, steady(seconds)...)...))
			slow := start(t, "run", "-q", "--as", user, "--name", jobName(t), "--", "sh", "-c",
				"for i in $(seq 50); do echo $i; sleep 0.1; done; exit 7")
			out.await(t, 3_000_000)
			cluster(t, "restart", part)
			whole(t, s, out)
			if r := slow.end(t); r.code != printed || r.stdout != lines(50) {
				t.Errorf("by the container's log: exit code %d, want %d; %s; stderr:\n%s", r.code, printed,
					differ(r.stdout, lines(50)), r.stderr)
			}
		})
	}
}

// TestOutage: the API server is away, for one follower refusing and for another
// silent, while their jobs print and end.
func TestOutage(t *testing.T) {
	ownCluster(t)
	t.Cleanup(func() {
		cluster(t, "start", "apiserver")
		// Its watch sits out a back-off of up to a minute, and sees no new Pod before.
		cluster(t, "restart", "kubelet")
	})
	p := newProxy(t)
	patient := "--linger=" + (outageTime() + time.Minute).String()
	args := func(name, linger string) []string {
		return append([]string{"run", "-q", linger, "--name", name, "--workdir=/tmp", "--"}, steady(10)...)
	}
	name := jobName(t)
	direct, seen := follow(t, command(t.Context(), args(name, patient)...))
	silent, heard := follow(t, command(t.Context(), p.args(args(jobName(t), patient))...))
	// A Pod that waits less than the outage; it takes long, as its end is seen only
	// when the back-off of a watch is over.
	var hasty *started
	if long {
		var some *output
		hasty, some = follow(t, command(t.Context(), args(jobName(t), "--linger=10s")...))
		some.await(t, 3_000_000)
	}
	seen.await(t, 3_000_000)
	heard.await(t, 3_000_000)
	other := jobName(t)
	runDetached(t, "--name", other, "--", "sleep", "600")
	p.hold()
	cluster(t, "stop", "apiserver")
	outage := time.NewTimer(outageTime())
	defer outage.Stop()

	// What is stored here can be read all the same. Who is to follow a job waits, if it is
	// not for too long; who looks at it, or makes one, does not.
	late := start(t, "attach", other)
	late.await(t, "Kubernetes cluster not available: ")
	checkLook(t, hodei(t, "describe", other))
	r := hodei(t, "logs", name)
	if r.code != 0 || len(r.stdout) < 3_000_000 {
		t.Errorf("logs: exit code %d, %d bytes; stderr:\n%s", r.code, len(r.stdout), r.stderr)
	}
	checkFailure(t, hodei(t, "run", "--", "true"), "Kubernetes cluster not available")

	<-outage.C
	cluster(t, "start", "apiserver")
	p.release()
	if !long { // else it has given up
		late.await(t, "running: ")
		late.interrupt(t)
	}
	if r := late.end(t); r.code != job.ExitCancelled && !long || r.code != job.ExitFailed && long {
		t.Errorf("attach: %+v", r)
	}
	whole(t, direct, seen)
	whole(t, silent, heard)
	if hasty != nil {
		if r := hasty.end(t); r.code == 0 || !strings.Contains(r.stderr, "error: output is incomplete: ") {
			t.Errorf("exit code %d; stderr:\n%s", r.code, r.stderr)
		}
	}
}

// checkLook checks that a look at a cluster that is away ends with that.
func checkLook(t *testing.T, r result) {
	t.Helper()
	if r.code != 1 || !strings.HasPrefix(r.stderr, "error: Kubernetes cluster not available: ") {
		t.Errorf("%+v", r)
	}
}

// TestSilence: the network between us and the API server passes nothing for a
// while, less than any keepalive would notice, and then what it held.
func TestSilence(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	args := append([]string{"run", "-q", "--name", jobName(t), "--workdir=/tmp", "--"}, steady(6)...)
	s, out := follow(t, command(t.Context(), p.args(args)...))
	out.await(t, 3_000_000)
	p.hold()
	<-time.After(5 * time.Second)
	p.release()
	whole(t, s, out)
}

// proxy stands before the API server, and can stop passing bytes.
type proxy struct {
	listener net.Listener
	server   string // host and port of the API server
	name     string // for its certificate

	mu    sync.Mutex
	open  chan struct{} // closed while bytes pass
	links map[net.Conn]bool
}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	api, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{server: api.Host, name: config.ServerName, open: make(chan struct{}), links: map[net.Conn]bool{}}
	if p.name == "" {
		p.name = api.Hostname()
	}
	if api.Port() == "" {
		p.server = net.JoinHostPort(api.Hostname(), "443")
	}
	close(p.open)
	if p.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := p.listener.Accept()
			if err != nil {
				return
			}
			work.Go(func() { p.serve(ctx, conn) })
		}
	})
	t.Cleanup(func() {
		cancel()
		p.listener.Close()
		work.Wait()
	})
	return p
}

// args has hodei go through the proxy.
func (p *proxy) args(args []string) []string {
	return append([]string{args[0], "--server=https://" + p.listener.Addr().String(), "--tls-server-name=" + p.name}, args[1:]...)
}

// serve passes on what comes, and in the end the end.
func (p *proxy) serve(ctx context.Context, client net.Conn) {
	defer client.Close()
	var dialer net.Dialer
	if p.wait(ctx) != nil {
		return
	}
	server, err := dialer.DialContext(ctx, "tcp", p.server)
	if err != nil {
		return
	}
	defer server.Close()
	p.keep(client, true)
	defer p.keep(client, false)
	stop := context.AfterFunc(ctx, func() { client.Close(); server.Close() })
	defer stop()
	var work sync.WaitGroup
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		work.Go(func() {
			p.pass(ctx, way[1], way[0])
			client.Close()
			server.Close()
		})
	}
	work.Wait()
}

func (p *proxy) pass(ctx context.Context, to io.Writer, from io.Reader) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if p.wait(ctx) != nil {
			return
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// wait waits until bytes pass.
func (p *proxy) wait(ctx context.Context) error {
	p.mu.Lock()
	open := p.open
	p.mu.Unlock()
	select {
	case <-open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *proxy) keep(link net.Conn, there bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.links[link] = there; !there {
		delete(p.links, link)
	}
}

// cut ends all connections; new ones are let through.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for link := range p.links {
		link.Close()
	}
}

func (p *proxy) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = make(chan struct{})
}

func (p *proxy) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.open)
}

// TestKilledCoordinator: hodei run is killed. Another machine has all of the
// output, and this one too, though its log ends in half a write.
func TestKilledCoordinator(t *testing.T) {
	t.Parallel()
	name := jobName(t)
	here := t.TempDir()
	killed, shown := follow(t,
		elsewhere(here, command(t.Context(), append([]string{"run", "-q", "--name", name, "--workdir=/tmp", "--"}, steady(6)...)...)))
	shown.await(t, 3_000_000)
	if err := killed.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed.end(t)
	tear(t, here)
	there, all := follow(t, elsewhere(t.TempDir(), command(t.Context(), "attach", "-q", name)))
	again, also := follow(t, elsewhere(here, command(t.Context(), "attach", "-q", name)))
	whole(t, there, all)
	whole(t, again, also)
}

// tear leaves the last write to the one log in a state directory half done.
func tear(t *testing.T, state string) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(state, "hodei/jobs/*/*/*/*.log"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("segments %q (%v)", segments, err)
	}
	last := segments[len(segments)-1]
	info, err := os.Stat(last)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(last, info.Size()-1000); err != nil {
		t.Fatal(err)
	}
}

// TestFullDisk: our own disk is full. That is said, the job goes on, and once
// there is room attach has all.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make a small file system")
	}
	state := t.TempDir()
	mount := func(options string) {
		t.Helper()
		if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", state).CombinedOutput(); err != nil {
			t.Fatalf("mount: %v: %s", err, out)
		}
	}
	mount("size=1m")
	t.Cleanup(func() {
		if out, err := exec.Command("umount", state).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	name := jobName(t)
	var stdout bytes.Buffer
	s := startCommand(t, &stdout,
		elsewhere(state, command(t.Context(), append([]string{"run", "-q", "--name", name, "--workdir=/tmp", "--"}, steady(5)...)...)))
	r := s.end(t)
	want := "error: store output: no space left on device; job " + name + " goes on\n" +
		"hint: make room in " + filepath.Join(state, "hodei/jobs") + ", then: hodei attach " + name + "\n"
	if r.code != 125 || r.stderr != want || stdout.Len() > 1<<20 {
		t.Errorf("exit code %d, %d bytes on stdout, stderr:\n%swant:\n%s", r.code, stdout.Len(), r.stderr, want)
	}
	mount("remount,size=64m")
	again, all := follow(t, elsewhere(state, command(t.Context(), "attach", "-q", name)))
	whole(t, again, all)
}

// tunnelless makes a user who has all rights of hodei-user's but the tunnel.
func tunnelless(t *testing.T) string {
	t.Helper()
	return userWith(t, withoutTunnel(t))
}

// withoutTunnel are the rights of hodei-user's but the tunnel.
func withoutTunnel(t *testing.T) []rbacv1.PolicyRule {
	t.Helper()
	all, err := client.RbacV1().ClusterRoles().Get(t.Context(), "hodei-user", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return without(without(all.Rules, "get pods/portforward"), "create pods/portforward")
}
