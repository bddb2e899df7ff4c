/* What /proc tells of a descriptor without touching it, what kind of thing it is, and why it cannot be captured if
 * it cannot. Used by `check` while the job runs and by the snapshot in the pause: one opinion, not two. */
#pragma once
#include <sys/stat.h>

#include "../kernel/sockdiag.h"
#include "snapshot.h"

/* Kinds of enum file_kind; a socket's family is found later. */
#define FACTS_SOCKET 1000u

struct facts {
    pid_t pid;               /* as the engine sees it */
    int number;
    struct stat st;
    uint64_t fs_type;        /* statfs f_type */
    uint64_t flags, offset, mount_id;
    bool cloexec;
    char *link;              /* readlink of /proc/PID/fd/N */
    char *fdinfo;            /* the whole text */
    uint64_t space;          /* the mount namespace of the job that its mount is in, 0: the pod's */
    bool own;                /* on a file system that the job has mounted; else link is a path of the pod */
    char *place;             /* its path in that namespace */
};

/* The pod as descriptors are judged by. */
struct view {
    const struct pod *pod;
    int root;                /* O_PATH of the pod's root */
    int upper;               /* the overlay's upper directory, or -1 */
    uint64_t *mounts;        /* ids of the pod's mounts, ascending */
    size_t mounts_count;
    struct diag diag;
    const struct spaces *spaces; /* may be NULL */
    struct stat log[2];      /* stdout's and stderr's file; st_ino 0: none */
};

MUST_CHECK int view_open(const struct pod *pod, const struct spaces *spaces, struct view *out, struct err *e);
void view_close(struct view *v);

/* 1: the descriptor is gone (a running process closed it). */
MUST_CHECK int facts_read(pid_t pid, int number, struct facts *out, struct err *e);
/* Where it is, if its mount is one of the job's. */
void facts_locate(const struct view *v, struct facts *f);
void facts_free(struct facts *f);
/* The value behind "key:" in fdinfo, NULL if there is none. */
const char *facts_field(const struct facts *f, const char *key);

/* The path without the kernel's mark of a name that is gone. */
char *facts_path(const struct facts *f);
/* The kind (FACTS_SOCKET for any socket), or 0 and words that name what cannot be captured. */
uint64_t facts_kind(const struct view *v, const struct facts *f, char words[256]);
/* True if `path` inside the pod is this very file. */
bool view_path_is(const struct view *v, const char *path, const struct stat *st);
/* Some name of this very file in the pod's trees, or NULL. */
char *view_find_name(const struct view *v, const struct stat *st);
/* A path in the pod's trees of that inode as the pod sees it, or NULL. */
char *view_find_inode(const struct view *v, uint64_t dev, uint64_t ino);
/* The file lies in the host's part of the root: in no captured tree. */
bool view_in_host_part(const struct view *v, const struct facts *f);
/* It lies in none of the captured trees and not in the host's part of the root: on a file system that the machine has mounted. */
bool view_is_outside(const struct facts *f);
/* The pid of a process inside the pod; 0 if it is gone. */
uint64_t pid_inside(pid_t pid);
