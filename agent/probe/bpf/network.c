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

// What a program answers for a packet that is to go on; 0 would drop it.
#define PASS 1

struct count {
	__u64 bytes;
	__u64 packets;
};

// Entries of counts, as in network.go.
enum {
	RECEIVE4,
	RECEIVE6,
	TRANSMIT4,
	TRANSMIT6,
	ENTRIES,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ENTRIES);
	__type(key, __u32);
	__type(value, struct count);
} counts SEC(".maps");

// Atomic although each CPU has its own: an interrupt may come between, and send
// for another of the job's sockets.
static __always_inline int count(struct __sk_buff *skb, __u32 ip, __u32 ipv6)
{
	__u32 segments = skb->gso_segs, entry;
	struct count *to;

	if (skb->protocol == bpf_htons(ETH_P_IP))
		entry = ip;
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		entry = ipv6;
	else
		return PASS;
	to = bpf_map_lookup_elem(&counts, &entry);
	if (!to)
		return PASS;
	__sync_fetch_and_add(&to->bytes, skb->len);
	__sync_fetch_and_add(&to->packets, segments ? segments : 1);
	return PASS;
}

SEC("cgroup_skb/ingress")
int receive(struct __sk_buff *skb)
{
	return count(skb, RECEIVE4, RECEIVE6);
}

SEC("cgroup_skb/egress")
int transmit(struct __sk_buff *skb)
{
	return count(skb, TRANSMIT4, TRANSMIT6);
}
