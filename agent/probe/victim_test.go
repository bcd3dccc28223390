package probe

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// The workload "eat BYTES": fills that much memory page by page, under a name that
// the kernel cuts.
func init() {
	workloads["eat"] = func(args []string) error {
		size, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		// The process is named by its first thread.
		if err := os.WriteFile("/proc/self/comm", []byte("hungry-process-with-a-name"), 0); err != nil {
			return err
		}
		memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return err
		}
		for i := 0; i < size; i += os.Getpagesize() {
			memory[i] = 1
		}
		kept = memory
		return nil
	}
}

// limited is a cgroup of v2 with so much memory; where v1 has the memory controller,
// enter takes a process there too before it needs any.
func limited(t *testing.T, limit int) (job group, enter func(pid int)) {
	t.Helper()
	job = newGroup(t, "")
	if job.has("memory.max") {
		job.set(t, "memory.max", strconv.Itoa(limit))
		if job.has("memory.swap.max") {
			job.set(t, "memory.swap.max", "0")
		}
		return job, func(int) {}
	}
	root := filepath.Join(filepath.Dir(cgroup2(t)), "memory")
	if _, err := os.Stat(filepath.Join(root, "memory.limit_in_bytes")); err != nil {
		unable(t, "no memory controller: %v", err)
	}
	memory := newGroup(t, root)
	memory.set(t, "memory.limit_in_bytes", strconv.Itoa(limit))
	return job, func(pid int) { memory.set(t, "cgroup.procs", strconv.Itoa(pid)) }
}

func TestVictim(t *testing.T) {
	const limit = 24 << 20
	job, enter := limited(t, limit)
	p := job.opened(t, OOM)
	if v, ok := p.Victim(); ok {
		t.Fatalf("Victim() = %+v before there is one", v)
	}
	bystander := job.start(t, "use", "0", "4096")
	bystander.done(t)
	enter(bystander.cmd.Process.Pid)

	hungry := job.start(t, "wait-eat", strconv.Itoa(4*limit))
	if line := hungry.line(); line != "ready" {
		t.Fatal(line)
	}
	enter(hungry.cmd.Process.Pid)
	hungry.stdin.Close()
	if err := hungry.cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the hungry process: %v", err)
	}

	v, ok := p.Victim()
	if !ok {
		t.Fatal("nobody was chosen")
	}
	t.Logf("%+v", v)
	if v.Name != "hungry-process-" {
		t.Errorf("name %q", v.Name)
	}
	// The kernel's number is ours where we are in its first PID namespace.
	if ns, err := os.Readlink("/proc/self/ns/pid"); err == nil && ns == "pid:[4026531836]" && int(v.PID) != hungry.cmd.Process.Pid {
		t.Errorf("pid %d, want %d", v.PID, hungry.cmd.Process.Pid)
	}
	if v.Limit != limit {
		t.Errorf("limit %d, want %d", v.Limit, limit)
	}
	// The programs' text, which all processes share, is in it and not in the limit.
	if v.Bytes < limit/2 || v.Bytes > limit+32<<20 {
		t.Errorf("%d bytes", v.Bytes)
	}
	if v.Kills != 1 {
		t.Errorf("%d kills", v.Kills)
	}
}

func init() {
	workloads["wait-eat"] = func(args []string) error {
		if _, err := os.Stdout.WriteString("ready\n"); err != nil {
			return err
		}
		_, _ = os.Stdin.Read(make([]byte, 1)) // its end
		return workloads["eat"](args)
	}
}

// With memory.oom.group all are killed: the largest has to stay.
func TestVictimOfGroup(t *testing.T) {
	const limit = 48 << 20
	job, _ := limited(t, limit)
	if !job.has("memory.oom.group") {
		unable(t, "no cgroup v2 memory controller")
	}
	job.set(t, "memory.oom.group", "1")
	p := job.opened(t, OOM)
	var others []*process
	for range 3 {
		w := job.start(t, "use", "0", "65536")
		w.done(t)
		others = append(others, w)
	}
	hungry := job.start(t, "eat", strconv.Itoa(4*limit))
	for _, w := range append(others, hungry) {
		if err := w.cmd.Wait(); err == nil {
			t.Error("one is left")
		}
	}
	v, ok := p.Victim()
	t.Logf("%+v", v)
	if !ok || v.Name != "hungry-process-" || v.Bytes < limit/2 {
		t.Errorf("Victim() = %+v, %t", v, ok)
	}
	if v.Kills < 4 {
		t.Errorf("%d kills of 4", v.Kills)
	}
}

// Somebody else's victim is not the job's.
func TestVictimOutside(t *testing.T) {
	job := newGroup(t, "")
	p := job.opened(t, OOM)
	other, enter := limited(t, 24<<20)
	hungry := other.start(t, "wait-eat", strconv.Itoa(96<<20))
	hungry.line()
	enter(hungry.cmd.Process.Pid)
	hungry.stdin.Close()
	if err := hungry.cmd.Wait(); err == nil {
		t.Fatal("the hungry process was not killed")
	}
	if v, ok := p.Victim(); ok {
		t.Errorf("Victim() = %+v, who is not of the job", v)
	}
}

func TestNamesVictim(t *testing.T) {
	task := &btf.Pointer{Target: &btf.Struct{Name: "task_struct"}}
	tests := []struct {
		name   string
		params []btf.FuncParam
		want   bool
	}{
		{"a task", []btf.FuncParam{{Type: &btf.Pointer{Target: &btf.Void{}}}, {Type: task}, {Type: &btf.Int{Size: 4}}}, true},
		{"a number",
			[]btf.FuncParam{{Type: &btf.Pointer{Target: &btf.Void{}}}, {Type: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}}},
			false},
		{"nothing", []btf.FuncParam{{Type: &btf.Pointer{Target: &btf.Void{}}}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			point := &btf.Typedef{Name: "btf_trace_mark_victim",
				Type: &btf.Pointer{Target: &btf.FuncProto{Return: &btf.Void{}, Params: tt.params}}}
			if got := namesVictim(kernelWith(t, point)); got != tt.want {
				t.Errorf("namesVictim() = %t, want %t", got, tt.want)
			}
		})
	}
	if namesVictim(kernelWith(t, &btf.Int{Name: "int", Size: 4})) {
		t.Error("found where there is none")
	}
}

func TestHasMember(t *testing.T) {
	kernel := kernelWith(t,
		&btf.Struct{Name: "sched_info", Size: 8, Members: []btf.Member{{Name: "last_queued", Type: &btf.Int{Name: "u64", Size: 8}}}})
	for _, tt := range []struct {
		name, of, member string
		want             bool
	}{
		{"there", "sched_info", "last_queued", true},
		{"no such member", "sched_info", "pcount", false},
		{"no such struct", "cfs_rq", "rq", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := hasMember(kernel, tt.of, tt.member); got != tt.want {
				t.Errorf("hasMember() = %t, want %t", got, tt.want)
			}
		})
	}
}

// kernelWith is a kernel that has only one type.
func kernelWith(t *testing.T, typ btf.Type) *btf.Spec {
	t.Helper()
	builder, err := btf.NewBuilder([]btf.Type{typ}, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := builder.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := btf.LoadSpecFromReader(strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return spec
}
