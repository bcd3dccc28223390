// Counts what the job's sockets send and receive. The kernel calls these for
// sockets that were made in the cgroup or below it.
#include "kernel.h"
#include <bpf/bpf_endian.h>

char _license[] SEC("license") = "GPL";

// linux/bpf.h: what a program sees of a packet, as far as gso_segs.
struct __sk_buff {
	__u32 len;
	__u32 pkt_type;
	__u32 mark;
	__u32 queue_mapping;
	__u32 protocol;
	__u32 others[36];
	__u32 gso_segs;
};
_Static_assert(offsetof(struct __sk_buff, gso_segs) == 164, "linux/bpf.h fixes it");

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd

struct count {
	__u64 bytes;
	__u64 packets;
};

// traffic in the order of Traffic in network.go.
struct traffic {
	struct count receive4, receive6, transmit4, transmit6;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct traffic);
} counts SEC(".maps");

// Atomic although each CPU has its own: an interrupt may come between, and send
// for another of the job's sockets.
static __always_inline void add(struct count *to, struct __sk_buff *skb)
{
	__u32 segments = skb->gso_segs;

	__sync_fetch_and_add(&to->bytes, skb->len);
	__sync_fetch_and_add(&to->packets, segments ? segments : 1);
}

SEC("cgroup_skb/ingress")
int receive(struct __sk_buff *skb)
{
	__u32 key = 0;
	struct traffic *t = bpf_map_lookup_elem(&counts, &key);

	if (t && skb->protocol == bpf_htons(ETH_P_IP))
		add(&t->receive4, skb);
	else if (t && skb->protocol == bpf_htons(ETH_P_IPV6))
		add(&t->receive6, skb);
	return 1; // let it pass
}

SEC("cgroup_skb/egress")
int transmit(struct __sk_buff *skb)
{
	__u32 key = 0;
	struct traffic *t = bpf_map_lookup_elem(&counts, &key);

	if (t && skb->protocol == bpf_htons(ETH_P_IP))
		add(&t->transmit4, skb);
	else if (t && skb->protocol == bpf_htons(ETH_P_IPV6))
		add(&t->transmit6, skb);
	return 1; // let it pass
}
