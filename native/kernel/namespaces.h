/* Namespaces: starting a process as pid 1 of a new set of them, and joining those of a running process. */
#pragma once
#include "cgroup.h"

struct namespaces_new {
    int flags;                                /* CLONE_NEW*; CLONE_NEWPID and CLONE_NEWTIME hold for the child */
    int64_t monotonic_offset_ns, boottime_offset_ns; /* with CLONE_NEWTIME */
    uint64_t uid, gid;                        /* with CLONE_NEWUSER: what our own user and group are called inside */
    const struct pod_cgroups *groups;         /* for the new process */
};
/* Whether this user namespace knows a user and a group by these numbers. */
bool ids_are_mapped(uint64_t uid, uint64_t gid);
/* Run child(ctx) in new namespaces; its return value is the exit status. The caller must be a child subreaper: a helper between makes
 * the namespaces and ends, so that the caller's own children do not land in them; the child becomes the caller's.
 * *groups: which of its control groups it is in already (cgroups_attach_rest). */
MUST_CHECK int namespaces_spawn(const struct namespaces_new *spec, int (*child)(void *ctx), void *ctx, pid_t *pid, unsigned *groups, struct err *e);
/* Enter every namespace of `pid` (the pid namespace: for children of the caller). */
MUST_CHECK int namespaces_join(pid_t pid, struct err *e);
/* Whether `pid` lives in another user namespace than we do (an ordinary user's pod: its user has a name only in there). */
bool has_own_user_namespace(pid_t pid);
/* Enter for good the user, network and ipc namespace of `pid` if its user namespace is not ours: users then have the names that the
 * process itself sees. Nothing is lost that could be reached before: files are still ours. The caller must be single-threaded. */
MUST_CHECK int namespaces_join_user(pid_t pid, struct err *e);
/* Whether `pid` may change its groups (in an ordinary user's user namespace nobody may). */
bool groups_are_settable(pid_t pid);
/* Take out of a list of group ids (uint32_t) those that our user namespace has no name for: nobody in it can set or leave them. */
void groups_drop_nameless(struct buf *groups);
/* The pid of a process in its own (innermost) pid namespace; 0 if there is no such process. */
pid_t inside_pid(pid_t pid);
