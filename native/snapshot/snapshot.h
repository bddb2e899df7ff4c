/* One snapshot of one pod while it is being taken. Rooms: stop.c (the tree), task_save.c, memory_save.c, thread_save.c,
 * files_save.c and one file per kind of descriptor; restore/ mirrors each as *_load. */
#pragma once
#include <sys/stat.h>

#include "../kernel/remote.h"
#include "../image/tree.h"
#include "../pod/pod.h"
#include "plain_files.h"

struct spaces;
struct snapshot {
    struct pod *pod;
    struct store *store;
    const struct image *parent;   /* NULL for a full one */
    bool *parent_of_use;          /* of each of its tasks: its memory (parent_pages.h) */
    uint64_t kept_bytes;          /* of memory that the parent image has */
    const struct map_flags *map_flags; /* NULL: read in the pause */
    struct tracks *tracks;        /* what was written since; NULL: not known */
    uint64_t copy_bytes;          /* of shared memory and files, to be copied in the pause; about */
    struct image image;           /* being filled */
    struct victim *victims;       /* the same order as image.tasks (zombies have pid set and no threads) */
    size_t victim_count;
    const struct sleeper_list *sleepers; /* seen before the stop (sleep_save.h) */
    struct plain_files plain_files; /* of this stop */
    struct plain_files regular;   /* mapped files that were regular ones before it; their changed copies are looked for at the stop */
    int upper;                    /* where the pod's overlay keeps changed copies; -1: nowhere */
    bool queues_hold;             /* some POSIX message queue holds messages */
    struct stand_in *leased;      /* files that must not be opened (lease_save.h) */
    size_t leased_count;
    struct spaces *spaces;        /* namespaces that the job made, of this stop (spaces.h) */
};

/* What cannot be captured: collected, not thrown. `check` prints them all; snapshot fails with E_UNSUPPORTED and the first. */
struct refusal {
    uint64_t pid;                 /* inner pid, 0 for the pod as a whole */
    int64_t fd;                   /* descriptor, or -1 */
    uint64_t address;             /* mapping, or 0 */
    char words[256];              /* "io_uring instance", "userfaultfd", ... */
};
struct refusals {
    struct refusal *items;
    size_t count;
};
void refuse(struct refusals *r, uint64_t pid, int64_t fd, uint64_t address, const char *format, ...) PRINTF(5, 6);

/* ---- descriptors (snapshot/files_save.c and one file per kind).
 * For the files' room: Open MPI's mpirun gives every rank a pseudo terminal as its output (no controlling terminal): ptys are needed. */
/* While the job runs: look at every descriptor of the tree from outside (/proc only, nothing touched) and name what cannot be captured. */
MUST_CHECK int files_check(const struct pod *pod, const struct spaces *spaces, const pid_t *pids, size_t count, struct refusals *out, struct err *e);
/* In the pause, all stopped, network locked: fill files, pipes, sockets, epolls, … of s->image, and the fds of each task. Descriptions
 * shared between descriptors are found by kcmp and saved once. TCP sockets are put into repair mode and taken out again here
 * (journalled: "repair PID FD"). What turns out to be impossible: -1 with E_UNSUPPORTED, everything put back. */
MUST_CHECK int files_save(struct snapshot *s, struct err *e);
/* A shared memory object by its inode (mapped shared anonymous, memfd, unlinked file): the id of the memobj with its
 * content saved once, made on first sight. `fd` is any descriptor of it (memfd, /proc/PID/map_files entry). */
MUST_CHECK int memobj_save(struct snapshot *s, int fd, uint64_t kind, const char *name, uint64_t *id, struct err *e);
/* The same with content from a copy: `fd` holds the content, `as` says which object it is. */
MUST_CHECK int memobj_save_as(struct snapshot *s, int fd, const struct stat *as, uint64_t kind, const char *name, uint64_t *id, struct err *e);
bool memobj_is_saved(const struct snapshot *s, dev_t dev, ino_t ino, uint64_t *id);

/* ---- taking one (snapshot/take.c) */
enum then { THEN_RUN, THEN_STOP, THEN_KILL };
struct snapshot_options {
    const char *pod, *image, *store, *parent;
    enum then then;
    bool barrier;      /* print prepared, wait for stop; print captured, wait for go; anything else undoes everything */
    bool live;         /* contents of memory after the pause, from a copy-on-write child */
};
MUST_CHECK int snapshot_take(const struct snapshot_options *options, struct err *e);
