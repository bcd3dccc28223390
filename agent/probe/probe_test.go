package probe

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// opensAs is what Open says in a process that has no capabilities but these.
// Descriptor 3 is the cgroup.
func init() {
	workloads["open"] = func(args []string) error {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		for _, arg := range args {
			n, err := strconv.Atoi(arg)
			if err != nil {
				return err
			}
			data[n/32].Effective |= 1 << (n % 32)
			data[n/32].Permitted |= 1 << (n % 32)
		}
		runtime.LockOSThread() // they are a thread's own
		if err := unix.Capset(&header, &data[0]); err != nil {
			return err
		}
		p := Open(Target{Dir: os.NewFile(3, "cgroup")})
		defer p.Close()
		for _, part := range p.Parts() {
			fmt.Printf("%s: %v\n", part.Name, part.Err)
		}
		return nil
	}
}

func TestCapabilities(t *testing.T) {
	const works = "<nil>"
	tests := []struct {
		name string
		caps []int
		want map[string]string
	}{
		{"none", nil, map[string]string{
			Network: "capabilities CAP_BPF and CAP_NET_ADMIN are missing in the agent's container",
			Stats:   "capabilities CAP_BPF and CAP_PERFMON are missing in the agent's container"}},
		{"for the network alone", []int{unix.CAP_BPF, unix.CAP_NET_ADMIN}, map[string]string{
			Network: works, Stats: "capability CAP_PERFMON is missing in the agent's container",
			OOM: "capability CAP_PERFMON is missing in the agent's container"}},
		{"for all but the network", []int{unix.CAP_BPF, unix.CAP_PERFMON}, map[string]string{
			Network: "capability CAP_NET_ADMIN is missing in the agent's container", Stats: works, OOM: works, RunQueue: works}},
		{"those of an agent", []int{unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_NET_ADMIN}, map[string]string{
			Network: works, Stats: works, OOM: works, RunQueue: works}},
	}
	job := newGroup(t, "")
	job.opened(t, RunQueue).Close() // it could, with all of them
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe")
			for _, c := range tt.caps {
				cmd.Args = append(cmd.Args, strconv.Itoa(c))
			}
			cmd.Env = append(os.Environ(), workloadVariable+"=open")
			cmd.ExtraFiles = []*os.File{job.dir}
			text, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			got := map[string]string{}
			for line := range strings.Lines(string(text)) {
				if name, reason, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
					got[name] = reason
				}
			}
			for part, want := range tt.want {
				if got[part] != want {
					t.Errorf("%s: %q, want %q", part, got[part], want)
				}
			}
		})
	}
}

func TestAbsent(t *testing.T) {
	dir, err := os.Open(t.TempDir()) // as a v1 hierarchy, it is not cgroup2
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	closed, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	tests := []struct {
		name   string
		target Target
		want   string
	}{
		{"no cgroup", Target{}, "the job's cgroup is not known"},
		{"the root, by its number", Target{ID: 1}, "in the root of cgroup v2"},
		{"the root, beside version 1", Target{Dir: dir, ID: 1}, "in the root of cgroup v2"},
		{"not version 2", Target{Dir: dir}, "cgroup v2 is needed"},
		{"closed", Target{Dir: closed}, "look at the job's cgroup"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := Open(tt.target)
			defer p.Close()
			if len(p.Parts()) != 4 {
				t.Errorf("parts %v", p.Parts())
			}
			for _, part := range p.Parts() {
				if part.Err == nil || !strings.Contains(part.Err.Error(), tt.want) || strings.Contains(part.Err.Error(), "\n") {
					t.Errorf("%s: %v, want %q", part.Name, part.Err, tt.want)
				}
			}
			givesNothing(t, p)
		})
	}
	t.Run("version 1, whose id is known", func(t *testing.T) {
		job := newGroup(t, "")
		id, err := cgroupID(job.dir)
		if err != nil {
			t.Fatal(err)
		}
		p := Open(Target{Dir: dir, ID: id})
		defer p.Close()
		requirePart(t, p, RunQueue)
		for _, part := range p.Parts() {
			if (part.Err == nil) != (part.Name != Network) {
				t.Errorf("%s: %v", part.Name, part.Err)
			}
		}
	})
	t.Run("nil", func(t *testing.T) {
		var p *Probe
		if p.Parts() != nil || p.Close() != nil {
			t.Error("a nil Probe has parts")
		}
		givesNothing(t, p)
	})
}

func givesNothing(t *testing.T, p *Probe) {
	t.Helper()
	if traffic, ok := p.Network(); ok || traffic != (Traffic{}) {
		t.Errorf("Network() = %+v, %t", traffic, ok)
	}
	if c := (Counters{}); p.Stats(&c) || c != (Counters{}) {
		t.Errorf("Stats() = %+v", c)
	}
	if v, ok := p.Victim(); ok || v != (Victim{}) {
		t.Errorf("Victim() = %+v", v)
	}
	if h, ok := p.RunQueue(); ok || h != (Histogram{}) {
		t.Errorf("RunQueue() = %+v", h)
	}
}

// Nothing may be left behind in the kernel, and nobody else's may go.
func TestClose(t *testing.T) {
	job := newGroup(t, "")
	beside := job.opened(t, Network) // another's, which stays
	p := job.opened(t, Network)
	requirePart(t, p, Stats)
	requirePart(t, p, OOM)
	requirePart(t, p, RunQueue)

	var programs []ebpf.ProgramID
	var maps []ebpf.MapID
	for _, program := range []*ebpf.Program{p.network.objects.Receive, p.network.objects.Transmit, p.stats.objects.Stats,
		p.victim.objects.MarkVictim, p.waits.objects.SchedSwitch} {
		info, err := program.Info()
		if err != nil {
			t.Fatal(err)
		}
		id, _ := info.ID()
		programs = append(programs, id)
		ids, _ := info.MapIDs()
		maps = append(maps, ids...)
	}
	var links []link.ID
	for _, l := range []link.Link{p.network.links[0], p.network.links[1],
		p.victim.link} { // that of the waits comes and goes, and holds its program

		info, err := l.Info()
		if err != nil {
			t.Fatal(err)
		}
		links = append(links, info.ID)
	}

	for range 2 {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	givesNothing(t, p)
	var left []any
	defer func() { t.Logf("of %v, %v, %v there are left %v", programs, maps, links, left) }()
	eventually(t, "programs, maps and links are gone", func() bool {
		left = nil
		for _, id := range programs {
			if program, err := ebpf.NewProgramFromID(id); !errors.Is(err, os.ErrNotExist) {
				program.Close()
				left = append(left, id)
			}
		}
		for _, id := range maps {
			if m, err := ebpf.NewMapFromID(id); !errors.Is(err, os.ErrNotExist) {
				m.Close()
				left = append(left, id)
			}
		}
		for _, id := range links {
			if l, err := link.NewFromID(id); !errors.Is(err, os.ErrNotExist) {
				if err == nil {
					l.Close()
				}
				left = append(left, id)
			}
		}
		return len(left) == 0
	})
	if len(maps) < 5 {
		t.Errorf("saw %d maps", len(maps))
	}

	address, end := serve(t, "127.0.0.1:0", 1000, 0)
	w := job.start(t, "transfer", address, "1000", "0")
	w.line()
	w.done(t)
	<-end
	if traffic, ok := beside.Network(); !ok || traffic.Transmit().Bytes < 1000 {
		t.Errorf("the other probe has %+v", traffic)
	}
}

func TestExplain(t *testing.T) {
	if !hasTypes() {
		t.Skip("no BTF")
	}
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"nothing", nil, ""},
		{"said already", fmt.Errorf("open: %w", absence("no cgroup")), "open: no cgroup"},
		{"forbidden", fmt.Errorf("load: %w", unix.EPERM),
			"the kernel forbids it in spite of the capabilities (lockdown, seccomp or a security module): load: operation not permitted"},
		{"too old", fmt.Errorf("x: %w", ebpf.ErrNotSupported),
			"this kernel, " + release() + ", is too old or built without it: x: not supported"},
		{"a verifier's log", &ebpf.VerifierError{Cause: unix.EINVAL, Log: []string{"1: r1 = r2", "R2 !read_ok", "processed 1 insns"}},
			"this kernel, " + release() + ", does not take the program: invalid argument: R2 !read_ok"},
		{"many lines", errors.New("one\ntwo"), "one"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := explain(tt.err); got == nil && tt.want != "" || got != nil && got.Error() != tt.want {
				t.Errorf("explain() = %v, want %q", got, tt.want)
			}
		})
	}
}
