/* A pod's control groups: one in each hierarchy that is there (the unified one, and of version 1 freezer, memory, cpu, cpuacct,
 * pids), below the caller's own groups or below the one named by CLUSTEROS_CGROUP. What cannot be made is left out. */
#pragma once
#include "../base/base.h"

enum cgroup_kind { CGROUP_UNIFIED, CGROUP_FREEZER, CGROUP_MEMORY, CGROUP_CPU, CGROUP_CPUACCT, CGROUP_PIDS, CGROUP_KINDS };
#define CGROUPS_ALL ((1u << CGROUP_KINDS) - 1)
extern const char *const cgroup_kind_names[CGROUP_KINDS];

struct pod_cgroups {
    char *dir[CGROUP_KINDS]; /* absolute, NULL where there is none */
};
struct cgroup_usage {
    uint64_t mem_bytes, cpu_ns, processes;
};

/* Where the groups would be: fills dir for every hierarchy that can be found. Makes nothing. */
void cgroups_plan(const char *name, struct pod_cgroups *out);
/* Make them; a hierarchy that refuses is dropped from `groups`. `missing` gets words for what will not hold ("" if all is well). */
void cgroups_make(struct pod_cgroups *groups, uint64_t mem_bytes, struct buf *missing);
/* Into all groups; that may take the kernel some 10 ms, in which it waits for all processors. */
MUST_CHECK int cgroups_attach(const struct pod_cgroups *groups, pid_t pid, struct err *e);
/* Only into those that are not in `done` (a bit for each kind). */
MUST_CHECK int cgroups_attach_rest(const struct pod_cgroups *groups, unsigned done, pid_t pid, struct err *e);
/* The caller, which has one thread, and whatever it forks from now on: into those groups in which the kernel then need not wait. What it got into. */
unsigned cgroups_enter(const struct pod_cgroups *groups);
/* fork(2) into the unified group; that of the caller where this cannot be: then *entered does not get its bit. */
pid_t cgroups_fork(const struct pod_cgroups *groups, unsigned *entered);
/* A process that is not to be frozen with the others goes into the group above; where that may not be it stays. */
void cgroups_freezer_leave(const struct pod_cgroups *groups, pid_t pid);
/* Kill what is inside and remove them; waits up to two seconds for the dying. */
MUST_CHECK int cgroups_remove(const struct pod_cgroups *groups, struct err *e);
/* Members as the caller sees them, from the first hierarchy that is there; zombies are left out. False: it cannot be read. */
bool cgroups_members(const struct pod_cgroups *groups, pid_t **out, size_t *count);
void cgroups_usage(const struct pod_cgroups *groups, struct cgroup_usage *out);
void cgroups_free(struct pod_cgroups *groups);

/* ---- the freezer (pod/pod.h has the pod's door to it) */
MUST_CHECK int cgroups_freeze(const struct pod_cgroups *groups, struct err *e);
MUST_CHECK int cgroups_thaw(const struct pod_cgroups *groups, struct err *e);
bool cgroups_frozen(const struct pod_cgroups *groups);
