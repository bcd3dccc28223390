// Gives the counters of one cgroup as one struct.
#include "kernel.h"

char _license[] SEC("license") = "GPL";

const volatile __u64 page_size;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__cgroup {
	struct bpf_iter_meta *meta;
	struct cgroup *cgroup;
};

// What a kernel has of these differs: until 6.15 the first, which sums up all there
// is; then the second, which sums up one controller and takes no other than the
// cgroup itself from us.
extern void cgroup_rstat_flush(struct cgroup *group) __ksym __weak;
extern void css_rstat_flush(struct cgroup_subsys_state *css) __ksym __weak;
// Since 7.0.
extern struct mem_cgroup *bpf_get_mem_cgroup(struct cgroup_subsys_state *css) __ksym __weak;
extern void bpf_put_mem_cgroup(struct mem_cgroup *group) __ksym __weak;
extern void bpf_mem_cgroup_flush_stats(struct mem_cgroup *group) __ksym __weak;
extern unsigned long bpf_mem_cgroup_page_state(struct mem_cgroup *group, int item) __ksym __weak;

// Groups of figures that are there, as in stats.go.
#define HAVE_BANDWIDTH (1 << 0)
#define HAVE_MEMORY (1 << 1)
#define HAVE_MEMORY_STAT (1 << 2)
// The places of anon and file in the kernel's table are by its source, not its BTF.
#define MEMORY_STAT_ASSUMED (1 << 3)
#define HAVE_PIDS (1 << 4)

struct record {
	__u64 id;
	__u32 have;
	__s32 level;
	__u64 usage, user, system;
	__u64 period, quota, throttled;
	__u32 periods, throttled_periods;
	__u64 memory, memory_peak, memory_max;
	__u64 swap;
	__u64 events_max, events_oom, events_oom_kill;
	__u64 anon, file, kernel;
	__u64 pids, pids_limit;
};

static __always_inline struct cgroup_subsys_state *controller(struct cgroup *group, __u64 id)
{
	struct cgroup_subsys_state **all = __builtin_preserve_access_index(&group->subsys[0]), *css = NULL;

	bpf_probe_read_kernel(&css, sizeof(css), all + id);
	return css;
}

static __always_inline void read_bandwidth(struct record *r, struct cgroup_subsys_state *css)
{
	struct task_group *group = (void *)css - bpf_core_field_offset(struct task_group, css);

	r->have |= HAVE_BANDWIDTH;
	r->period = BPF_CORE_READ(group, cfs_bandwidth.period);
	r->quota = BPF_CORE_READ(group, cfs_bandwidth.quota);
	r->periods = BPF_CORE_READ(group, cfs_bandwidth.nr_periods);
	r->throttled_periods = BPF_CORE_READ(group, cfs_bandwidth.nr_throttled);
	r->throttled = BPF_CORE_READ(group, cfs_bandwidth.throttled_time);
}

static __always_inline __u64 event(struct mem_cgroup *group, __u64 which)
{
	atomic_long_t *events = __builtin_preserve_access_index(&group->memory_events[0]);
	__u64 n = 0;

	bpf_probe_read_kernel(&n, sizeof(n), events + which);
	return n;
}

static __always_inline __u64 state(struct memcg_vmstats *stats, __u64 which)
{
	long *all = __builtin_preserve_access_index(&stats->state[0]), n = 0;

	bpf_probe_read_kernel(&n, sizeof(n), all + which);
	return n < 0 ? 0 : n * page_size; // CPUs that are not yet summed up may make it negative
}

// The table of memcg_vmstats has one place for each item until Linux 6.10, and
// after that only places for those that are counted, in the order of lists in
// mm/memcontrol.c: items of the node first, and of the early ones three are left out.
#define LEFT_OUT_BEFORE_ANON 3

static __always_inline void read_memory_stat(struct record *r, struct mem_cgroup *group)
{
	struct memcg_vmstats *stats = BPF_CORE_READ(group, vmstats);
	__u64 places = bpf_core_field_size(stats->state) / sizeof(long);
	__u64 anon = bpf_core_enum_value(enum node_stat_item, NR_ANON_MAPPED);
	__u64 file = bpf_core_enum_value(enum node_stat_item, NR_FILE_PAGES);
	__u64 kernel = bpf_core_enum_value(enum memcg_stat_item, MEMCG_KMEM);

	if (places != bpf_core_enum_value(enum memcg_stat_item, MEMCG_NR_STAT)) {
		struct lruvec_stats *node = NULL;

		anon -= LEFT_OUT_BEFORE_ANON;
		file -= LEFT_OUT_BEFORE_ANON;
		kernel -= bpf_core_enum_value(enum memcg_stat_item, MEMCG_SWAP);
		kernel += bpf_core_field_size(node->state) / sizeof(long);
		r->have |= MEMORY_STAT_ASSUMED;
	}
	r->have |= HAVE_MEMORY_STAT;
	r->anon = state(stats, anon);
	r->file = state(stats, file);
	r->kernel = state(stats, kernel);
}

static __always_inline void read_memory(struct record *r, struct cgroup_subsys_state *css)
{
	struct mem_cgroup *group = (void *)css - bpf_core_field_offset(struct mem_cgroup, css);

	r->have |= HAVE_MEMORY;
	r->memory = BPF_CORE_READ(group, memory.usage.counter) * page_size;
	r->memory_peak = BPF_CORE_READ(group, memory.watermark) * page_size;
	r->memory_max = BPF_CORE_READ(group, memory.max);
	r->swap = BPF_CORE_READ(group, swap.usage.counter) * page_size;
	r->events_max = event(group, bpf_core_enum_value(enum memcg_memory_event, MEMCG_MAX));
	r->events_oom = event(group, bpf_core_enum_value(enum memcg_memory_event, MEMCG_OOM));
	r->events_oom_kill = event(group, bpf_core_enum_value(enum memcg_memory_event, MEMCG_OOM_KILL));
	if (!exists(bpf_get_mem_cgroup))
		read_memory_stat(r, group);
}

// With the kernel's own functions, which know the places.
static __always_inline void ask_memory_stat(struct record *r, struct cgroup *group)
{
	struct mem_cgroup *memory = bpf_get_mem_cgroup(&group->self);

	if (!memory)
		return;
	bpf_mem_cgroup_flush_stats(memory);
	r->have |= HAVE_MEMORY_STAT;
	r->anon = bpf_mem_cgroup_page_state(memory, bpf_core_enum_value(enum node_stat_item, NR_ANON_MAPPED));
	r->file = bpf_mem_cgroup_page_state(memory, bpf_core_enum_value(enum node_stat_item, NR_FILE_PAGES));
	r->kernel = bpf_mem_cgroup_page_state(memory, bpf_core_enum_value(enum memcg_stat_item, MEMCG_KMEM));
	bpf_put_mem_cgroup(memory);
}

static __always_inline void read_pids(struct record *r, struct cgroup_subsys_state *css)
{
	struct pids_cgroup *group = (void *)css - bpf_core_field_offset(struct pids_cgroup, css);

	r->have |= HAVE_PIDS;
	r->pids = BPF_CORE_READ(group, counter.counter);
	r->pids_limit = BPF_CORE_READ(group, limit.counter);
}

// For a test of the other side: it need not be loaded.
const volatile struct record record_size;

SEC("iter.s/cgroup")
int stats(struct bpf_iter__cgroup *ctx)
{
	struct cgroup *group = ctx->cgroup;
	struct cgroup_subsys_state *css;
	struct record r = {};

	if (!group) // the end
		return 0;
	// Each CPU keeps what it has counted to itself until somebody asks.
	if (exists(css_rstat_flush))
		css_rstat_flush(&group->self);
	else if (exists(cgroup_rstat_flush))
		cgroup_rstat_flush(group);
	r.id = BPF_CORE_READ(group, kn, id);
	r.level = group->level;
	r.usage = group->bstat.cputime.sum_exec_runtime;
	r.user = group->bstat.cputime.utime;
	r.system = group->bstat.cputime.stime;
	css = controller(group, bpf_core_enum_value(enum cgroup_subsys_id, cpu_cgrp_id));
	if (css && bpf_core_type_exists(struct cfs_bandwidth))
		read_bandwidth(&r, css);
	css = controller(group, bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id));
	if (css) {
		read_memory(&r, css);
		if (exists(bpf_get_mem_cgroup))
			ask_memory_stat(&r, group);
	}
	css = controller(group, bpf_core_enum_value(enum cgroup_subsys_id, pids_cgrp_id));
	if (css)
		read_pids(&r, css);
	bpf_seq_write(ctx->meta->seq, &r, sizeof(r));
	return 0;
}
