/* A restore, seen from inside the pod (ordinary C code in podinit and in the processes that it makes) and from outside (the tracer).
 *
 * In podinit (restore/tree_load.c):  files_load_shared -> make the process tree by clone3(set_tid), parents before children, sessions
 *   and groups right (helpers stand in for dead leaders) -> in each process: files_load_task, cwd, root, umask, limits, credentials
 *   last -> it reports over the channel and waits in a loop that the tracer knows.
 * Outside (restore/inject.c): seize each process; remote batches drop the engine's mappings, move vDSO/vvar, map the image's vmas,
 *   fill pages, PR_SET_MM_MAP, threads by clone3(set_tid), signals, timers; registers last; `ready`, barrier, `go`: files_load_late,
 *   network unlocked, all detached at once.
 * Descriptors are handed down by fork: podinit makes every open file description once, at numbers behind those that tasks use, all tasks inherit
 * them, each dup3()s what it needs to its place and closes the rest. What remembers its maker is made in its owner. */
#pragma once
#include "../kernel/remote.h"
#include "../pod/pager.h"

#define RESTORE_FD_BASE 5000 /* numbers that tasks use from here on need not lie before those */

/* Open files that no image carries and that have changed since: told, cause to refuse, or taken back where that can be done. */
enum files_policy { FILES_KEEP, FILES_REFUSE, FILES_RESTORE };
struct restore {
    struct pod *pod;
    struct store *store;
    const struct image *image;
    int *file_fds;        /* parallel to image->files: descriptor in the making process, -1 not made (yet) */
    int *memobj_fds;      /* parallel to image->memobjs */
    int stdout_fd, stderr_fd; /* the new log files */
    struct tree_board *board; /* tree_load.c: shared by the processes that are being made */
    struct birth *births;     /* plan.c: parallel to image->tasks */
    const char *lower;        /* the root below the pod's changes, "/" by default */
    struct shared_vma *shares; /* share.h; in memory that podinit and the tracer see */
    size_t shares_count, *share_models; /* of each task: the first of its relatives */
    struct outside_cut *cuts; /* outside_cut.h; in memory that podinit and the tracer see */
    size_t cuts_count;
    struct pager *pager;      /* lazy.h; NULL: all memory is there before anything runs */
    uint64_t *lazy_bytes;     /* what comes later; in memory that all see, NULL: not asked for */
    char *image_dir, *store_dir;
    struct digest digest;
    bool barrier;             /* print ready, wait for go */
    bool groups_settable;     /* act: by the pod's processes */
    struct fill *fills;       /* act: fill.h, parallel to image->tasks */
    struct victim *victims;   /* act: parallel to image->tasks, no threads for zombies */
    struct tcp_peer *tcp_peers; /* tcp_peer.c, in podinit */
    size_t tcp_peers_count;
    int *user_fds, *mount_fds, *other_fds, home_fd, home_net_fd; /* spaces.h, in podinit and the processes that are being made: namespaces of the job, and the pod's own */
    int next_pid_fd, sysctl_fd; /* in podinit; the latter: /proc/sys/kernel */
    int act_channel;          /* act: to podinit */
    uint64_t started_ns, ready_ns;
};

/* ---- in podinit, as root of the pod, network up and locked; trees already filled. Makes memobjs and every shared description. */
MUST_CHECK int files_load_shared(struct restore *r, struct err *e);
/* ---- in the process of `task`, before its credentials: its descriptors at their numbers with close-on-exec set, per-owner things
 * (listen() where credentials matter, POSIX locks, F_SETOWN). Closes every other inherited descriptor but those in keep_fds. */
MUST_CHECK int files_load_task(struct restore *r, const struct task *task, const int *keep_fds, size_t keep_count, struct err *e);
/* ---- in each process, after every process of the pod passed files_load_task (a barrier lies between): epoll watches. */
MUST_CHECK int files_load_epolls(struct restore *r, const struct task *task, struct err *e);
/* ---- in podinit before the tree runs, after all else of the files: what TCP needs at the very end (leave repair mode, unsent data). Called with the network
 * still locked, right before the descriptors of podinit are closed. */
MUST_CHECK int files_load_finish(struct restore *r, struct err *e);

/* ---- outside, by the tracer, after the task's mappings are there (closing a file that was mapped drops the POSIX locks on it): sets them by remote
 * calls. To be called in victim_fill after vmas_load. */
MUST_CHECK int locks_load_remote(struct restore *r, struct victim *v, const struct task *task, struct err *e);

/* ---- taking an image back (restore/restore.c) */
struct restore_options {
    const char *digest;           /* of the manifest, as hexadecimal digits; NULL: any */
    const char *image, *store, *pod, *net, *hostname, *hosts, *lower, *stdout_path, *stderr_path, *cpus;
    uint64_t uid, gid, mem_bytes; /* UINT64_MAX: as in the image; else the image must say the same uid and gid */
    bool barrier, lazy;
    enum files_policy files;
};
MUST_CHECK int restore_image(const struct restore_options *options, struct err *e);
