/* User and mount namespaces of the job, made anew: each by a helper child of podinit that is the pod's user, so that nothing in them can be what an
 * ordinary user could not have made. They are made before files are opened, and held by descriptors until every process has joined its own.
 * Mirrors snapshot/spaces.h. */
#pragma once
#include "restore.h"

/* ---- before anything is made (spaces_check.c) */
MUST_CHECK int spaces_validate(const struct image *image, struct err *e);

/* ---- in podinit (spaces_load.c) */
MUST_CHECK int spaces_load(struct restore *r, struct err *e);
/* Between the two, this process's paths are those of the namespace; 0: the pod's. */
MUST_CHECK int space_enter(const struct restore *r, uint64_t mount_space, struct err *e);
void space_leave(const struct restore *r, uint64_t mount_space);
/* The same, and new files in there are the pod's user's (with all rights of this process). */
MUST_CHECK int space_enter_maker(const struct restore *r, uint64_t mount_space, struct err *e);
void space_leave_maker(const struct restore *r, uint64_t mount_space);
/* Between the two, sockets are made in that network namespace; 0: the pod's. */
MUST_CHECK int net_enter(const struct restore *r, uint64_t net_space, struct err *e);
void net_leave(const struct restore *r, uint64_t net_space);
/* The same, and they belong to the pod's user (with all rights of this process). */
MUST_CHECK int net_enter_maker(const struct restore *r, uint64_t net_space, struct err *e);
void net_leave_maker(const struct restore *r, uint64_t net_space);
/* Rules of nftables, when nothing has to be sent any more that they might drop. */
MUST_CHECK int nets_rules_load(struct restore *r, struct err *e);
/* Descriptors that a task keeps until it has joined; free(). */
int *spaces_keep(const struct restore *r, size_t *count);
/* In a process that is being made, when all else is done that asks for rights in the pod; it has the pod's user and every right in its namespace. */
MUST_CHECK int space_join(const struct restore *r, const struct task *t, struct err *e);

/* ---- in the helper (mounts_load.c) */
struct space_asks { /* what only podinit may: reading the store */
    int (*fill)(void *ctx, size_t fs, size_t part, int dir, struct err *e);
    void *ctx;
};
/* In a mount namespace that is a copy of the pod's: make it what it was. */
MUST_CHECK int mounts_load(const struct mount_space *space, const struct space_asks *asks, struct err *e);

/* ---- thread_load.c, outside: a thread of a process in another user namespace cannot be given a number; the pod's next one is set instead */
MUST_CHECK int space_next_pid(const struct restore *r, uint64_t pid, struct err *e);
bool space_is_own(const struct task *t);
/* ---- in podinit: answers the above */
MUST_CHECK int next_pid_open(struct restore *r, struct err *e); /* before /proc/sys is sealed */
MUST_CHECK int next_pid_set(const struct restore *r, uint64_t pid, struct err *e);
