// How long the job's tasks wait for a CPU. The scheduler itself notes when a task
// was queued (task_struct.sched_info, of which /proc/PID/schedstat is made): one
// subtraction at the switch gives the wait that it is about to add to run_delay.
// No clock is read, nothing is kept for a task, and wake-ups are left alone: it may
// begin and end at any time.
#include "job.h"

char _license[] SEC("license") = "GPL";

#define BUCKETS 26 // as in runqueue.go

struct waits {
	__u64 sum; // ns
	__u64 buckets[BUCKETS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct waits);
} waits SEC(".maps");

// The number of bits that n takes.
static __always_inline __u32 bits(__u32 n)
{
	__u32 r = 0;

	if (n >> 16) {
		n >>= 16;
		r += 16;
	}
	if (n >> 8) {
		n >>= 8;
		r += 8;
	}
	if (n >> 4) {
		n >>= 4;
		r += 4;
	}
	if (n >> 2) {
		n >>= 2;
		r += 2;
	}
	if (n >> 1) {
		n >>= 1;
		r += 1;
	}
	return r + n;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	__u64 queued, now, us, bucket = BUCKETS - 1;
	struct waits *w;
	__u32 key = 0;

	if (!of_job(next))
		return 0;
	queued = next->sched_info.last_queued;
	now = next->se.cfs_rq->rq->clock;
	if (!queued || now < queued) // it was not queued: the scheduler counts it no more than we do
		return 0;
	w = bpf_map_lookup_elem(&waits, &key);
	if (!w)
		return 0;
	us = (now - queued) / 1000;
	if (us < 1ULL << (BUCKETS - 2))
		bucket = bits(us);
	barrier_var(bucket);
	if (bucket >= BUCKETS) // never; the verifier wants to see it
		return 0;
	// Interrupts are off while a CPU switches: nobody comes between.
	w->sum += now - queued;
	w->buckets[bucket]++;
	return 0;
}
