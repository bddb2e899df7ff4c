/* What /proc says of processes, parsed: status, stat, maps, threads, children. Reads only; pids as the engine sees them,
 * `inner` ones as the innermost pid namespace of the process has them. */
#pragma once
#include "../base/base.h"

struct proc_status {
    char state;                 /* R S D T t Z X I */
    char comm[32];
    pid_t tgid, ppid, tracer;
    pid_t inner_pid, inner_pgid, inner_sid; /* of this thread; innermost namespace */
    unsigned depth;             /* number of pid namespaces that know it, from the reader's down */
    uint64_t uid[4], gid[4];    /* real, effective, saved, file system */
    struct buf groups;          /* uint32_t */
    uint64_t cap_inheritable, cap_permitted, cap_effective, cap_bounding, cap_ambient;
    uint64_t pending, shared_pending, blocked, ignored, caught;
    uint64_t umask, no_new_privs, seccomp, seccomp_filters, threads, thp_enabled, rss_anon_kib, rss_shmem_kib, hugetlb_kib, voluntary_switches;
};
MUST_CHECK int proc_status_read(pid_t pid, pid_t tid, struct proc_status *out, struct err *e);
void proc_status_free(struct proc_status *s);
#define PROC_STATUS __attribute__((cleanup(proc_status_free)))

struct proc_stat {
    char comm[32], state;
    uint64_t flags, tty, start_time, start_code, end_code, start_stack, start_data, end_data, start_brk, arg_start, arg_end, env_start,
        env_end, exit_code;
    int64_t nice, exit_signal;
    uint64_t rt_priority, policy, processor;
};
MUST_CHECK int proc_stat_read(pid_t pid, pid_t tid, struct proc_stat *out, struct err *e);

struct proc_map {
    uint64_t start, end, prot, offset, ino;
    unsigned dev_major, dev_minor;
    bool shared;
    char *path;                 /* "" when anonymous; without " (deleted)" */
    bool deleted;
    uint64_t protection_key;    /* of smaps, 0 when not asked for */
    uint64_t page_bytes;        /* the same: what the kernel maps at once */
    uint64_t huge_kib;          /* the same: anonymous memory that is mapped by huge pages */
    char vmflags[256];          /* of smaps: " rd wr mr …  ", "" when not asked for */
};
struct proc_maps {
    struct proc_map *items;
    size_t count;
};
MUST_CHECK int proc_maps_read(pid_t pid, bool with_flags, struct proc_maps *out, struct err *e);
void proc_maps_free(struct proc_maps *m);
#define PROC_MAPS __attribute__((cleanup(proc_maps_free)))
bool proc_map_has(const struct proc_map *m, const char *flag); /* two letters */

struct pid_list {
    pid_t *items;
    size_t count;
};
void pid_list_add(struct pid_list *l, pid_t pid);
bool pid_list_has(const struct pid_list *l, pid_t pid);
void pid_list_free(struct pid_list *l);
#define PID_LIST __attribute__((cleanup(pid_list_free)))

/* Threads of a process, leader first; empty when it is gone. */
MUST_CHECK int proc_threads(pid_t pid, struct pid_list *out, struct err *e);
/* Through whom a process can be looked at: its number, or a living thread's where its first thread has ended. */
pid_t proc_living(pid_t pid);
/* A pidfd of a process, or of a thread that stands for one; -1. */
int proc_pidfd(pid_t pid);
/* All descendants of `root` (without it), parents before children. */
MUST_CHECK int proc_tree(pid_t root, struct pid_list *out, struct err *e);
/* The target of /proc/PID/NAME, allocated. */
MUST_CHECK int proc_link(pid_t pid, const char *name, char **out, struct err *e);
