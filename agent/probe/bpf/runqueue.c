// How long the job's tasks wait for a CPU. The scheduler itself notes when a task
// was queued (task_struct.sched_info, of which /proc/PID/schedstat is made): one
// subtraction at the switch gives the wait that it is about to add to run_delay.
// No clock is read, and wake-ups are left alone: it may begin and end at any time.
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

// A task that is moved while it waits is queued anew, and what it has waited until
// then is in run_delay already: it shows by what that was when the task last got a
// CPU. Two tasks may want the same place; the later one has it.
#define TASKS 1024

struct seen {
	__u32 pid;
	__u32 arrivals;
	__u64 run_delay;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TASKS);
	__type(key, __u32);
	__type(value, struct seen);
} tasks SEC(".maps");

// What the task has waited before it was queued where it is now, and a note of this
// arrival, at which it waits so long.
static __always_inline __u64 moved(struct task_struct *task, __u64 now, __u64 wait)
{
	__u64 run_delay = task->sched_info.run_delay, before = 0;
	__u32 arrivals = task->sched_info.pcount, pid = task->pid, place = pid % TASKS;
	struct seen *seen = bpf_map_lookup_elem(&tasks, &place);

	if (!seen)
		return 0;
	if (seen->pid == pid && seen->arrivals == arrivals)
		before = run_delay - seen->run_delay;
	else if (!arrivals)
		before = run_delay;
	seen->pid = pid;
	seen->arrivals = arrivals + 1;
	seen->run_delay = run_delay + wait;
	// More it can't be: two CPUs have noted two tasks in one place at once.
	return before > now - task->sched_info.last_arrival ? 0 : before;
}

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
	__u64 queued, now, wait, us, bucket = BUCKETS - 1;
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
	wait = now - queued;
	wait += moved(next, now, wait);
	us = wait / 1000;
	if (us < 1ULL << (BUCKETS - 2))
		bucket = bits(us);
	barrier_var(bucket);
	if (bucket >= BUCKETS) // never; the verifier wants to see it
		return 0;
	// Interrupts are off while a CPU switches: nobody comes between.
	w->sum += wait;
	w->buckets[bucket]++;
	return 0;
}
