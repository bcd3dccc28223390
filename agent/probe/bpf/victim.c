// Notes whom the OOM killer chose among the job's processes. The kernel holds its
// oom_lock while it chooses: no two of these run at once.
#include "job.h"

char _license[] SEC("license") = "GPL";

const volatile __u64 page_size;

// linux/mm_types_task.h: an enum without a name, which CO-RE can't look up.
enum {
	MM_FILEPAGES,
	MM_ANONPAGES,
	MM_SWAPENTS,
	MM_SHMEMPAGES,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

// Before Linux 6.2.
struct mm_rss_stat {
	atomic_long_t count[4];
};

struct mm_struct___before62 {
	struct mm_rss_stat rss_stat;
};

#pragma clang attribute pop

struct victim {
	__u64 kills; // odd while the rest is being written: twice the number of kills
	__u64 bytes;
	__u64 limit;
	__u32 pid;
	char name[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct victim);
} victims SEC(".maps");

static __always_inline __u64 resident(struct mm_struct *mm)
{
	__s64 pages, file, anon, shmem;

	if (bpf_core_type_exists(struct mm_rss_stat)) {
		struct mm_struct___before62 *old = (void *)mm;

		file = BPF_CORE_READ(old, rss_stat.count[MM_FILEPAGES].counter);
		anon = BPF_CORE_READ(old, rss_stat.count[MM_ANONPAGES].counter);
		shmem = BPF_CORE_READ(old, rss_stat.count[MM_SHMEMPAGES].counter);
	} else {
		file = BPF_CORE_READ(mm, rss_stat[MM_FILEPAGES].count);
		anon = BPF_CORE_READ(mm, rss_stat[MM_ANONPAGES].count);
		shmem = BPF_CORE_READ(mm, rss_stat[MM_SHMEMPAGES].count);
	}
	pages = (file > 0 ? file : 0) + (anon > 0 ? anon : 0) + (shmem > 0 ? shmem : 0);
	return pages * page_size;
}

static __always_inline __u64 limit(struct task_struct *task)
{
	struct css_set *set = task->cgroups;
	struct cgroup_subsys_state **all = __builtin_preserve_access_index(&set->subsys[0]), *css;
	struct mem_cgroup *group;

	if (bpf_probe_read_kernel(&css, sizeof(css), all + bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id)) || !css)
		return 0;
	group = (void *)css - bpf_core_field_offset(struct mem_cgroup, css);
	return BPF_CORE_READ(group, memory.max);
}

SEC("tp_btf/mark_victim")
int BPF_PROG(mark_victim, struct task_struct *task)
{
	__u32 key = 0;
	struct victim *v;
	__u64 bytes;

	if (!of_job(task))
		return 0;
	v = bpf_map_lookup_elem(&victims, &key);
	if (!v)
		return 0;
	bytes = resident(task->mm);
	__sync_fetch_and_add(&v->kills, 1);
	// The largest stays: with memory.oom.group the rest is killed after it.
	if (bytes >= v->bytes) {
		v->bytes = bytes;
		v->limit = limit(task);
		v->pid = task->tgid;
		// Whose first thread has ended already is told by another one, with a name of its own.
		BPF_CORE_READ_STR_INTO(&v->name, task, group_leader, comm);
	}
	__sync_fetch_and_add(&v->kills, 1);
	return 0;
}
