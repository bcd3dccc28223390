// Whose task it is.
#pragma once

#include "kernel.h"

// The job's cgroup in the v2 hierarchy: its id and its depth. A depth of -1 is
// unknown: then cgroups that the job has made below its own are not its own.
const volatile __u64 job_id;
const volatile __s32 job_level;

// It runs at every switch of every task of the machine, so that it reads what is
// likely to differ first.
static __always_inline bool of_job(struct task_struct *task)
{
	struct cgroup *group = task->cgroups->dfl_cgrp;

	if (job_level >= 0) {
		int level = group->level;

		if (level < job_level)
			return false;
		if (level > job_level) {
			struct cgroup **above = __builtin_preserve_access_index(&group->ancestors[0]);

			if (bpf_probe_read_kernel(&group, sizeof(group), above + job_level))
				return false;
			return BPF_CORE_READ(group, kn, id) == job_id;
		}
	}
	return group->kn->id == job_id;
}
