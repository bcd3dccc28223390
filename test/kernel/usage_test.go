package kernel

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// worker is where the virtual machine has it.
const worker = "/bin/hodei-worker"

// cgroup is one that the test has made, in the kernel's only hierarchy.
type cgroup struct {
	t    *testing.T
	path string
}

// newCgroup makes a cgroup with limits: contents of files by their names.
func newCgroup(t *testing.T, limits map[string]string) cgroup {
	t.Helper()
	path, err := os.MkdirTemp("/sys/fs/cgroup", "job") //nolint:usetesting // it has to be there
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	})
	for name, content := range limits {
		if err := os.WriteFile(filepath.Join(path, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return cgroup{t, path}
}

// figure reads one number: a file's only one, or the one behind a key.
func (c cgroup) figure(file, key string) uint64 {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.path, file))
	if err != nil {
		c.t.Fatal(err)
	}
	pattern := `^(\d+)`
	if key != "" {
		pattern = `(?m)(?:^|\s)` + key + `[ =](\d+)`
	}
	m := regexp.MustCompile(pattern).FindSubmatch(text)
	if m == nil {
		c.t.Fatalf("no %s in %s:\n%s", key, file, text)
	}
	n, err := strconv.ParseUint(string(m[1]), 10, 64)
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

// attempt is an agent and a launcher, as a Pod's two containers.
type attempt struct {
	group cgroup
	ebpf  string
	job   string
	// network, if not nil, is called in a network namespace that the job gets.
	network func()
}

// run runs the job to its end and returns the agent's word on it, from its
// container's termination message.
func (a attempt) run() *hodeipb.ExitRecord {
	t := a.group.t
	t.Helper()
	dir := t.TempDir()
	authority, err := certs.NewAuthority(0)
	if err != nil {
		t.Fatal(err)
	}
	id := certs.ID{Namespace: "jobs", Job: "measured"}
	c, err := authority.IssueJob(id)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"ca.crt": c.CA, "client.crt": c.ClientCert, "client.key": c.ClientKey} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join("/tmp", filepath.Base(a.group.path))
	agent := exec.Command(worker, "agent")
	agent.Env = []string{
		contract.EnvNamespace + "=" + id.Namespace,
		contract.EnvJob + "=" + id.Job,
		contract.EnvAttempt + "=pod-1",
		contract.EnvAttemptUID + "=uid-1",
		contract.EnvSocket + "=" + socket,
		contract.EnvSpoolDir + "=" + filepath.Join(dir, "spool"),
		contract.EnvSpoolBytes + "=1048576",
		contract.EnvListen + "=127.0.0.1:50051", contract.EnvServerName + "=" + id.ServerName(),
		contract.EnvCACertPath + "=" + filepath.Join(dir, "ca.crt"),
		contract.EnvClientCertPath + "=" + filepath.Join(dir, "client.crt"),
		contract.EnvClientKeyPath + "=" + filepath.Join(dir, "client.key"),
		contract.EnvStartTimeout + "=1m",
		contract.EnvTimeout + "=0",
		contract.EnvGrace + "=1s",
		contract.EnvLinger + "=10ms",
		contract.EnvTerminationLog + "=" + filepath.Join(dir, "termination"), contract.EnvEBPF + "=" + a.ebpf,
		"KUBERNETES_SERVICE_HOST=10.0.0.1", // as in a Pod it gives its capabilities up
	}
	said := start(t, agent)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	launcher := exec.Command(self, worker, "launch", "--socket="+socket, "--grace=1s", "--", self)
	launcher.Env = []string{containerVariable + "=1", jobVariable + "=" + a.job}
	group, err := os.Open(a.group.path)
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	launcher.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd()), Cloneflags: syscall.CLONE_NEWPID}
	waitFor(t, socket)
	a.inNetwork(func() { start(t, launcher) })
	_ = launcher.Wait()
	if err := agent.Wait(); err != nil {
		t.Fatalf("agent: %v\n%s", err, said)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the agent: %s", said)
		}
	})
	text, err := os.ReadFile(filepath.Join(dir, "termination"))
	if err != nil {
		t.Fatal(err)
	}
	record := &hodeipb.ExitRecord{}
	if err := protojson.Unmarshal(text, record); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	if record.Usage == nil {
		t.Fatalf("no usage in %s\n%s", text, said)
	}
	return record
}

// start starts a process, which is killed at the end of the test if it still runs.
func start(t *testing.T, cmd *exec.Cmd) *strings.Builder {
	t.Helper()
	said := &strings.Builder{}
	cmd.Stderr, cmd.WaitDelay = said, time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return said
}

// waitFor waits until the agent has made its socket.
func waitFor(t *testing.T, socket string) {
	t.Helper()
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, filepath.Dir(socket), unix.IN_CREATE|unix.IN_ATTRIB); err != nil {
		t.Fatal(err)
	}
	for {
		if info, err := os.Stat(socket); err == nil && info.Mode().Perm() == 0o666 {
			return
		} else if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if _, err := unix.Read(watch, make([]byte, 4096)); err != nil {
			t.Fatal(err)
		}
	}
}

// inNetwork calls f, in a network namespace of its own if there is to be one: it
// lasts as long as the processes that f starts.
func (a attempt) inNetwork(f func()) {
	if a.network == nil {
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with its namespace
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			a.group.t.Error(err)
			return
		}
		a.network()
		f()
	}()
	<-done
}

// near fails unless got is within 2 % of the kernel's own word, or within slack of it.
func near(t *testing.T, what string, got *uint64, want, slack uint64) {
	t.Helper()
	if got == nil {
		t.Fatalf("%s: absent, the kernel says %d", what, want)
	}
	if off := math.Abs(float64(*got) - float64(want)); off > max(0.02*float64(want), float64(slack)) {
		t.Errorf("%s: %d, the kernel says %d", what, *got, want)
	}
}

// interval is what a figure may be late by: the CPU time of the launcher itself after
// the last sample, on an emulated CPU.
const interval = uint64(100 * time.Millisecond)

func TestUsage(t *testing.T) {
	requireVM(t)
	for _, ebpf := range []string{"off", "require"} {
		t.Run("ebpf "+ebpf, func(t *testing.T) {
			source := "cgroup2"
			if ebpf != "off" {
				source = "cgroup2+ebpf"
			}
			measure := func(t *testing.T, job string, limits map[string]string) (*hodeipb.ExitRecord, cgroup) {
				t.Helper()
				group := newCgroup(t, limits)
				record := attempt{group: group, ebpf: ebpf, job: job}.run()
				if record.Usage.Source != source {
					t.Errorf("the figures are from %q, want %q; probes %v", record.Usage.Source, source, record.Probes)
				}
				for _, p := range record.Probes {
					if p.Absent != "" {
						t.Errorf("the probe %s is absent: %s", p.Name, p.Absent)
					}
				}
				if want := map[string]int{"off": 0, "require": 4}[ebpf]; len(record.Probes) != want {
					t.Errorf("%d probes, want %d", len(record.Probes), want)
				}
				return record, group
			}
			t.Run("2 CPU-seconds", func(t *testing.T) {
				r, g := measure(t, "burn=2s", nil)
				completed(t, r)
				near(t, "CPU time", r.Usage.CpuNs, 1000*g.figure("cpu.stat", "usage_usec"), interval)
				near(t, "user time", r.Usage.CpuUserNs, 1000*g.figure("cpu.stat", "user_usec"), interval)
				near(t, "system time", r.Usage.CpuSystemNs, 1000*g.figure("cpu.stat", "system_usec"), interval)
				if *r.Usage.CpuNs < uint64(2*time.Second) {
					t.Errorf("%d ns of CPU time, the job has used 2 s itself", *r.Usage.CpuNs)
				}
				if (len(r.Usage.RunQueueWaits) > 0) != (ebpf != "off") {
					t.Errorf("run queue waits %v", r.Usage.RunQueueWaits)
				}
			})
			t.Run("watched", func(t *testing.T) {
				r, _ := measure(t, "burn=2500ms", nil)
				completed(t, r)
				// It looks for 25 ms at most, pauses for 2 s at most, and looks again for as long:
				// without capabilities.
				if watched := time.Duration(r.Usage.RunQueueWatchedNs); (watched >= 30*time.Millisecond) != (ebpf != "off") {
					t.Errorf("the run queue was watched for %v of more than 2.5 s", watched)
				}
			})
			t.Run("100 MiB", func(t *testing.T) {
				r, g := measure(t, "touch=100", map[string]string{"memory.max": "300M"})
				completed(t, r)
				near(t, "peak", r.Usage.MemoryPeakBytes, g.figure("memory.peak", ""), 0)
				near(t, "limit", r.Usage.MemoryLimitBytes, g.figure("memory.max", ""), 0)
				if *r.Usage.MemoryPeakBytes < 100<<20 || r.Usage.MemoryPeakSampled {
					t.Errorf("peak %d, sampled %t", *r.Usage.MemoryPeakBytes, r.Usage.MemoryPeakSampled)
				}
			})
			t.Run("out of memory", func(t *testing.T) {
				r, g := measure(t, "touch=200", map[string]string{"memory.max": "64M", "memory.swap.max": "0"})
				if r.Cause != contract.CauseOOMKilled || r.Code != 137 {
					t.Errorf("the record says %q, %d", r.Cause, r.Code)
				}
				near(t, "kills", r.Usage.OomKills, g.figure("memory.events", "oom_kill"), 0)
				near(t, "limits reached", r.Usage.MemoryMaxEvents, g.figure("memory.events", "max"), 0)
				near(t, "peak", r.Usage.MemoryPeakBytes, g.figure("memory.peak", ""), 0)
				if ebpf == "off" {
					return
				}
				// Its program's pages are not the cgroup's: somebody else read the file first.
				if v := r.Usage.OomVictim; v == nil || v.Name != "tests" || v.LimitBytes != 64<<20 || v.Bytes < 32<<20 || v.Bytes > 80<<20 {
					t.Errorf("victim %v", v)
				}
			})
			t.Run("throttled at 200m", func(t *testing.T) {
				r, g := measure(t, "throttled=500ms",
					map[string]string{"cpu.max": fmt.Sprintf("%d %d", quotaPeriod.Microseconds()/5, quotaPeriod.Microseconds())})
				completed(t, r)
				near(t, "throttled", r.Usage.CpuThrottledNs, 1000*g.figure("cpu.stat", "throttled_usec"), uint64(20*time.Millisecond))
				near(t, "periods", r.Usage.CpuPeriods, g.figure("cpu.stat", "nr_periods"), 2) // in which the launcher ends
				near(t, "throttled periods", r.Usage.CpuThrottledPeriods, g.figure("cpu.stat", "nr_throttled"), 0)
				if *r.Usage.CpuThrottledNs == 0 || r.Usage.CpuLimitMillis == nil || *r.Usage.CpuLimitMillis != 200 {
					t.Errorf("throttled %d ns at %v thousandths", *r.Usage.CpuThrottledNs, r.Usage.CpuLimitMillis)
				}
			})
			t.Run("64 MiB with fsync", func(t *testing.T) {
				path := filepath.Join("/disk", filepath.Base(t.TempDir()))
				defer os.Remove(path)
				r, g := measure(t, "write="+path, nil)
				completed(t, r)
				near(t, "bytes written", r.Usage.IoWriteBytes, g.figure("io.stat", "wbytes"), 0)
				near(t, "writes", r.Usage.IoWriteOps, g.figure("io.stat", "wios"), 0)
				if *r.Usage.IoWriteBytes < written {
					t.Errorf("%d bytes written, the job wrote %d", *r.Usage.IoWriteBytes, written)
				}
			})
			for _, address := range []string{"127.0.0.1", "::1"} {
				t.Run("8 MiB over "+address, func(t *testing.T) {
					before := loopbackBytes(t)
					r, _ := measure(t, "loopback="+address, nil)
					kernel := loopbackBytes(t) - before
					completed(t, r)
					if ebpf == "off" {
						if r.Usage.NetIpv4 != nil || r.Usage.NetIpv6 != nil {
							t.Errorf("network figures from nowhere: %v", r.Usage)
						}
						return
					}
					used, idle := r.Usage.NetIpv4, r.Usage.NetIpv6
					if strings.Contains(address, ":") {
						used, idle = idle, used
					}
					if used == nil || idle == nil {
						t.Fatalf("no network figures: %v", r.Usage)
					}
					// What the kernel sends again on a slow CPU is in it.
					near(t, "received", &used.ReceiveBytes, kernel, 0)
					near(t, "transmitted", &used.TransmitBytes, kernel, 0)
					if used.ReceiveBytes < transferred || used.TransmitBytes < transferred || used.ReceivePackets == 0 ||
						used.TransmitPackets == 0 {
						t.Errorf("%v for %d bytes", used, transferred)
					}
					if idle.ReceiveBytes+idle.TransmitBytes != 0 {
						t.Errorf("the other address family: %v", idle)
					}
				})
			}
		})
	}
}

// loopbackBytes is what this machine has sent to itself, all packets with their IP headers.
func loopbackBytes(t *testing.T) uint64 {
	t.Helper()
	text, err := os.ReadFile("/sys/class/net/lo/statistics/rx_bytes")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// completed fails unless the job did what it should.
func completed(t *testing.T, r *hodeipb.ExitRecord) {
	t.Helper()
	if r.Cause != contract.CauseCompleted {
		t.Fatalf("the job ended with %q, %d: %s", r.Cause, r.Code, r.Message)
	}
}

// Between two network namespaces, as between two Pods, each side counts its own.
func TestUsageBetweenNetworks(t *testing.T) {
	requireVM(t)
	const ours, theirs = "10.77.0.1", "10.77.0.2"
	var address string
	received := make(chan error, 1)
	a := attempt{group: newCgroup(t, nil), ebpf: "require", network: func() {
		ip(t, "link set lo up")
		ip(t, "link add v0 type veth")
		ip(t, fmt.Sprint("link set v0 netns ", os.Getpid()))
		ip(t, "addr add "+theirs+"/24 dev veth0")
		ip(t, "link set veth0 up")
	}}
	// The address is there before its interface: nobody is to wait for it.
	listen := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		control := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) })
		return errors.Join(control, err)
	}}
	l, err := listen.Listen(t.Context(), "tcp", ours+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	address = l.Addr().String()
	a.job = "send=" + address
	network := a.network
	a.network = func() {
		network()
		done := make(chan struct{}) // in a thread of the machine's own network
		go func() {
			defer close(done)
			ip(t, "addr add "+ours+"/24 dev v0")
			ip(t, "link set v0 up")
		}()
		<-done
	}
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, err = io.Copy(io.Discard, conn)
			conn.Close()
		}
		received <- err
	}()
	r := a.run()
	completed(t, r)
	if err := <-received; err != nil {
		t.Error(err)
	}
	if r.Usage.NetIpv4 == nil {
		t.Fatalf("no network figures: %v, probes %v", r.Usage, r.Probes)
	}
	near(t, "transmitted", &r.Usage.NetIpv4.TransmitBytes, transferred, 0)
	if r.Usage.NetIpv4.TransmitBytes < transferred || r.Usage.NetIpv4.TransmitPackets == 0 {
		t.Errorf("%v for %d bytes", r.Usage.NetIpv4, transferred)
	}
	if got, most := r.Usage.NetIpv4.ReceiveBytes, 120*r.Usage.NetIpv4.ReceivePackets; got == 0 || got > most {
		t.Errorf("received %d bytes, want acknowledgements, %d at most", got, most)
	}
}

// ip runs busybox's ip in the network namespace of this thread.
func ip(t *testing.T, arguments string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(arguments)...).CombinedOutput(); err != nil {
		t.Errorf("ip %s: %v: %s", arguments, err, out)
	}
}
