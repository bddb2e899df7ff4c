/* Namespaces that the job made (all but process and clock namespaces), as seen from the engine: who lives in which, their maps, their mounts and
 * what each mount is made of, host names, and that nothing is in those for communication that nobody captures there.
 * Everything is read: by /proc, and by a helper child that enters the namespace and changes nothing there. What cannot be rebuilt is refused by
 * name. Mirrored by restore/spaces_load.c and restore/mounts_load.c.
 *
 * Known are the pod's mounts and what ordinary users may mount (tmpfs, devpts, overlay); the same file system mounted in two of the job's namespaces is not. */
#pragma once
#include "../kernel/mountinfo.h"
#include "snapshot.h"

/* A helper child in a mount namespace. */
struct visitor {
    pid_t pid;
    int channel, root;          /* root: O_PATH of the namespace's root */
};
struct seen_user {
    uint64_t ino;               /* of the namespace */
    int fd;
    struct user_space image;
};
struct seen_mounts {
    uint64_t ino;
    pid_t of;                   /* a process in it */
    struct visitor visitor;
    struct mount_table table;
    size_t *order;              /* parents first: image.mounts[k] is table.items[order[k]] */
    uint64_t *device;           /* parallel to image.filesystems */
    struct mount_space image;
    char trouble[256];          /* why it cannot be rebuilt */
};
struct seen_other {
    uint64_t ino;
    struct other_space image;
    char trouble[256];
};
enum other_kind { OTHER_UTS, OTHER_IPC, OTHER_NET, OTHER_CGROUP, OTHER_KINDS };
struct seen_member {
    pid_t pid;
    uint64_t user, mounts, others[OTHER_KINDS]; /* ids, 0: the pod's */
};
struct spaces {
    const struct pod *pod;
    uint64_t pods_user, pods_mounts; /* inodes */
    struct mount_table pod_mounts; /* read when the first namespace is met */
    int pod_root;
    struct seen_user *users;
    size_t users_count;
    struct seen_mounts *mounts;
    size_t mounts_count;
    struct seen_other *others;
    size_t others_count;
    struct seen_member *members; /* processes that are not in the pod's own */
    size_t members_count;
    char **mapped;              /* paths of the pod of what their programs have mapped */
    size_t mapped_count;
};
/* Of these processes; what stands in the way is added to `out`. */
void spaces_look(const struct pod *pod, const pid_t *pids, size_t count, struct spaces *s, struct refusals *out);
void spaces_free(struct spaces *s);
/* NULL: it lives in the pod's own. */
const struct seen_member *spaces_member(const struct spaces *s, pid_t pid);
const struct seen_mounts *spaces_mounts(const struct spaces *s, uint64_t id);

/* The mount namespace in which the job has mounted the file system of that device, 0: none. */
uint64_t spaces_of_device(const struct spaces *s, dev_t dev);
/* The namespace whose mount has this id, NULL if it is the pod's or nobody's. */
const struct seen_mounts *spaces_of_mount(const struct spaces *s, uint64_t mount_id);
/* `path` in the namespace as a path of the pod, where the mount that it is on shows something of the pod's; allocated, else NULL. */
char *spaces_pod_path(const struct spaces *s, const struct seen_mounts *m, const char *path);
/* A map of a user namespace of the job: one line that names the pod's user (`above`: what that is called in the parent), or none. */
MUST_CHECK int user_map_take(const char *text, uint64_t above, uint64_t *has, uint64_t *id, struct err *e);
/* `path` is what a process of that namespace has mapped: E_UNSUPPORTED unless it leads there. *pods: the path in the pod, NULL if it has none. */
MUST_CHECK int spaces_mapped(struct spaces *s, const struct seen_mounts *m, const char *path, const struct stat *st, char **pods, struct err *e);
void spaces_drop(struct snapshot *s);
/* Whether `path`, from the namespace's root and through no link, leads to this very file on this mount (0: any). */
bool spaces_path_is(const struct seen_mounts *m, const char *path, uint64_t mount_id, const struct stat *st);

/* The same of a mapping: that of a file of an overlay upon an overlay tells the lower one's device. */
bool spaces_path_is_overlaid(const struct seen_mounts *m, const char *path, const struct stat *st);

/* A nameless file of an overlay, by its device of none that is known, mapped where the job has mounted overlays: nobody can tell of which it is. */
bool spaces_overlay_hides(const struct spaces *s, pid_t pid, int fd);

/* The network namespace of the job that a socket was made in, 0: none. */
uint64_t spaces_net_of(const struct spaces *s, int fd);
/* A process in the network namespace of that id; 0: it is none. */
bool spaces_have_nets(const struct spaces *s);
pid_t spaces_net_member(const struct spaces *s, uint64_t id);

/* ---- mounts_plan.c: what each mount is made of, into m->image; words in m->trouble */
void mounts_plan(const struct spaces *s, struct seen_mounts *m);

/* ---- visitor.c */
/* `space`: descriptor of the mount namespace. The text of its mountinfo into `mounts`. */
MUST_CHECK int visitor_start(int space, struct visitor *out, struct buf *mounts, struct err *e);
/* A mount of its own of the file system that is mounted at `path`, without what is mounted below. */
MUST_CHECK int visitor_clone(const struct visitor *v, const char *path, struct err *e);
void visitor_end(struct visitor *v);
/* The maps of a user namespace, as its parent names them. */
MUST_CHECK int visitor_maps(int space, struct buf *uids, struct buf *gids, struct buf *setgroups, struct err *e);

/* ---- spaces_other.c: what is in one of the others, into *out; E_UNSUPPORTED names what cannot be rebuilt */
extern const char *const other_names[OTHER_KINDS]; /* as in /proc/PID/ns */
MUST_CHECK int other_read(const struct spaces *s, int space, enum other_kind kind, struct other_space *out, struct err *e);

/* ---- spaces_save.c */
MUST_CHECK int spaces_take(struct snapshot *s, struct err *e);       /* of the stopped tree */
MUST_CHECK int spaces_save(struct snapshot *s, struct err *e);       /* into the image and its tasks, after tasks_save; takes nothing yet */
MUST_CHECK int spaces_trees_save(struct snapshot *s, struct err *e); /* contents of the file systems that the job mounted */
