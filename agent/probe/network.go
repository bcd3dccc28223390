package probe

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Count is what went one way.
type Count struct {
	// Bytes are those of IP packets with their headers, retransmissions included. Many
	// packets that the network card or the kernel splits or joins are one here, with
	// one header.
	Bytes uint64
	// Packets are as many as go over the wire, as far as the kernel knows.
	Packets uint64
}

// Traffic is what the job's own sockets have received and transmitted since the
// probe was opened. IPv4 is what goes over the wire as that, by whatever socket.
// Answers of the kernel's own, without a socket, are not among it.
type Traffic struct {
	Receive4, Receive6, Transmit4, Transmit6 Count
}

// Receive is what came in.
func (t Traffic) Receive() Count { return t.Receive4.plus(t.Receive6) }

// Transmit is what went out.
func (t Traffic) Transmit() Count { return t.Transmit4.plus(t.Transmit6) }

func (c Count) plus(d Count) Count { return Count{c.Bytes + d.Bytes, c.Packets + d.Packets} }

// network counts by programs of type cgroup_skb (bpf/network.c).
type network struct {
	objects struct {
		Counts   *ebpf.Map     `ebpf:"counts"`
		Receive  *ebpf.Program `ebpf:"receive"`
		Transmit *ebpf.Program `ebpf:"transmit"`
	}
	links  []*link.RawLink
	perCPU []Count
}

func openNetwork(job job) (*network, error) {
	if job.dir == nil {
		return nil, absence("the job's cgroup v2 directory is not visible to its launcher: programs for sockets are attached to it")
	}
	spec, err := loadNetwork()
	if err != nil {
		return nil, err
	}
	n := &network{}
	if err := job.load(spec, &n.objects); err != nil {
		return nil, err
	}
	for _, at := range []struct {
		name    string
		program *ebpf.Program
		hook    ebpf.AttachType
	}{
		{"receive", n.objects.Receive, ebpf.AttachCGroupInetIngress},
		{"transmit", n.objects.Transmit, ebpf.AttachCGroupInetEgress},
	} {
		// A link is one more beside what the container's runtime or the network's plugin has
		// attached, and is gone with its descriptor.
		l, err := link.AttachRawLink(link.RawLinkOptions{Target: int(job.dir.Fd()), Program: at.program, Attach: at.hook})
		if err != nil {
			_ = n.close()
			switch {
			case errors.Is(err, unix.EPERM):
				return nil, absence("a program that was attached to a cgroup above the job's " +
					"lets no other one in below (BPF_F_ALLOW_MULTI)")
			case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV):
				return nil, errGone
			}
			return nil, fmt.Errorf("attach %s to the job's cgroup: %w", at.name, err)
		}
		n.links = append(n.links, l)
	}
	return n, nil
}

// Network is the job's traffic; false if the part is absent.
func (p *Probe) Network() (Traffic, bool) {
	if p == nil {
		return Traffic{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.network == nil {
		return Traffic{}, false
	}
	sum, err := p.network.read()
	return sum, err == nil
}

func (n *network) read() (sum Traffic, err error) {
	for entry, to := range [...]*Count{&sum.Receive4, &sum.Receive6, &sum.Transmit4, &sum.Transmit6} {
		if err := n.objects.Counts.Lookup(uint32(entry), &n.perCPU); err != nil {
			return Traffic{}, err
		}
		for _, c := range n.perCPU {
			*to = to.plus(c)
		}
	}
	return sum, nil
}

func (n *network) close() error {
	if n == nil {
		return nil
	}
	var errs []error
	for _, l := range n.links {
		errs = append(errs, l.Close())
	}
	return errors.Join(append(errs, n.objects.Receive.Close(), n.objects.Transmit.Close(), n.objects.Counts.Close())...)
}
