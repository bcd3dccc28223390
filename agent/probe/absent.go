package probe

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// kernelTypes is where the kernel describes its own types (BTF): it is there with
// CONFIG_DEBUG_INFO_BTF, which the distributions have.
const kernelTypes = "/sys/kernel/btf/vmlinux"

// capability is a number of linux/capability.h with its name.
type capability struct {
	name   string
	number uint
}

var (
	capBPF      = capability{"BPF", unix.CAP_BPF}
	capPerfmon  = capability{"PERFMON", unix.CAP_PERFMON}
	capNetAdmin = capability{"NET_ADMIN", unix.CAP_NET_ADMIN}

	needNetwork = []capability{capBPF, capNetAdmin}
	needTracing = []capability{capBPF, capPerfmon} // they read the kernel's memory
)

// missing says which capabilities this process lacks, nil if none.
func missing(needed []capability) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read own capabilities: %w", err)
	}
	has := func(n uint) bool { return data[n/32].Effective&(1<<(n%32)) != 0 }
	if has(unix.CAP_SYS_ADMIN) {
		return nil // which stood for all of them until Linux 5.8, and still does
	}
	var names []string
	for _, c := range needed {
		if !has(c.number) {
			names = append(names, "CAP_"+c.name)
		}
	}
	switch len(names) {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("capability %s is missing in the agent's container", names[0])
	}
	return fmt.Errorf("capabilities %s are missing in the agent's container", strings.Join(names, " and "))
}

// absence is a reason that needs no explanation.
type absence string

func (a absence) Error() string { return string(a) }

const errGone = absence("the job's cgroup is gone")

// explain makes one line that a person understands of what the kernel answers.
func explain(err error) error {
	var reason absence
	var verifier *ebpf.VerifierError
	switch {
	case err == nil || errors.As(err, &reason):
		return err
	case !hasTypes():
		return fmt.Errorf("the kernel does not describe its types (no %s: CONFIG_DEBUG_INFO_BTF)", kernelTypes)
	case errors.As(err, &verifier):
		return fmt.Errorf("this kernel, %s, does not take the program: %w", release(), onLine(verifier))
	case errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("this kernel, %s, is too old or built without it: %w", release(), onLine(err))
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("the kernel forbids it in spite of the capabilities (lockdown, seccomp or a security module): %w", onLine(err))
	}
	return onLine(err)
}

// onLine is an error without what follows its first line: a verifier's has hundreds.
func onLine(err error) error {
	text := err.Error()
	var verifier *ebpf.VerifierError
	if errors.As(err, &verifier) && len(verifier.Log) > 0 {
		text = fmt.Sprintf("%v: %s", verifier.Cause, verifier.Log[max(0, len(verifier.Log)-2)])
	}
	text, _, _ = strings.Cut(text, "\n")
	return errors.New(text)
}

func hasTypes() bool {
	_, err := os.Stat(kernelTypes)
	return err == nil
}

// release is the kernel's version, as uname -r gives it.
func release() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	return unix.ByteSliceToString(u.Release[:])
}
