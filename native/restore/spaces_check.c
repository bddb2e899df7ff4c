/* What an image says of namespaces, before any is made: references, paths, options. Rights are no matter here: all is made by the pod's user
 * (spaces_load.c), who gets what the kernel gives to any ordinary user. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "../image/tree.h"
#include "../kernel/mountinfo.h"
#include "../kernel/netconf.h"
#include "files_load.h"
#include "spaces.h"

#define SPACES_MAX 256u
#define NAME_BYTES 64u
#define MOUNTS_MAX 20000u
#define ATTRIBUTES (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOATIME | MOUNT_ATTR_STRICTATIME | \
                    MOUNT_ATTR_NODIRATIME | MOUNT_ATTR_NOSYMFOLLOW)

static int bad(struct err *e, const char *words, uint64_t number)
{
    return err_set(e, E_BAD_IMAGE, "a namespace of the job: %s (%lu)", words, number);
}

/* "/" or "/a/b" without "." and "..". */
static bool is_plain(const char *path)
{
    if (path[0] != '/')
        return false;
    for (const char *part = path + 1; *part;) {
        size_t len = strcspn(part, "/");
        if (len == 0 || len > 255 || (len <= 2 && strncmp(part, "..", len) == 0) || (part[len] && !part[len + 1]))
            return false;
        part += len + (part[len] == '/');
    }
    return strlen(path) < PATH_BYTES;
}

static int user_validate(const struct image *image, size_t k, struct err *e)
{
    const struct user_space *u = &image->user_spaces[k];
    const struct user_space *above = u->parent && u->parent <= k ? &image->user_spaces[u->parent - 1] : NULL;
    if (u->id != k + 1 || u->parent > k)
        return bad(e, "user namespaces out of order", u->id);
    if ((u->has_uid && (u->uid >= UINT32_MAX || (above && !above->has_uid))) || (u->has_gid && (u->gid >= UINT32_MAX || (above && !above->has_gid))))
        return bad(e, "an impossible user", u->uid);
    return u->has_gid && u->setgroups ? bad(e, "groups that may be changed", u->id) : 0;
}

/* Of an overlay: paths in its namespace, which its mounter's rights lead to. */
static bool options_are_known(const char *type, const char *options)
{
    static const char *const plain[] = {"size=", "nr_blocks=", "nr_inodes=", "mode=", "ptmxmode=", "max=", NULL};
    static const char *const overlays[] = {"lowerdir=/", "upperdir=/", "workdir=/", "userxattr", "redirect_dir=", "xino=", "uuid=", "metacopy=off", "index=off", "nfs_export=off", NULL};
    const char *const *known = strcmp(type, "overlay") == 0 ? overlays : plain;
    AUTO_FREE char *copy = xstrdup(options);
    char *save = NULL;
    for (char *word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        bool found = false;
        for (size_t k = 0; known[k]; k++)
            found |= strncmp(word, known[k], strlen(known[k])) == 0;
        if (!found)
            return false;
    }
    return true;
}

static int filesystem_validate(const struct image *image, const struct own_fs *fs, struct err *e)
{
    bool known = strcmp(fs->type, "tmpfs") == 0 || strcmp(fs->type, "devpts") == 0 || strcmp(fs->type, "overlay") == 0;
    if (!known || !options_are_known(fs->type, fs->options))
        return bad(e, "a file system that an ordinary user does not mount", fs->id);
    for (size_t k = 0; k < fs->parts_count; k++) {
        if (!is_plain(fs->parts[k].root) || strcmp(fs->type, "tmpfs") != 0)
            return bad(e, "content at an impossible place", fs->id);
        if (tree_check_powers(&fs->parts[k].tree, image->pod.uid, image->pod.gid, e) < 0)
            return -1;
    }
    return 0;
}

static int mount_validate(const struct mount_space *space, size_t k, struct err *e)
{
    const struct mounted *m = &space->mounts[k];
    if (m->id != k + 1 || m->parent > k || (k && !m->parent))
        return bad(e, "mounts out of order", m->id);
    if (!is_plain(m->place) || m->kind < MOUNTED_POD || m->kind > MOUNTED_OWN || (m->kind == MOUNTED_ALONG && !m->parent))
        return bad(e, "a mount of an unknown kind, or at an impossible place", m->id);
    if (m->kind != MOUNTED_ALONG && !is_plain(m->source))
        return bad(e, "a mount of an impossible path", m->id);
    if ((m->kind == MOUNTED_OWN) != (m->fs != 0) || m->fs > space->filesystems_count)
        return bad(e, "a mount of a file system that is not there", m->id);
    bool known = m->propagation == 0 || m->propagation == MS_SHARED || m->propagation == MS_UNBINDABLE;
    return m->attributes & ~(uint64_t)ATTRIBUTES || !known ? bad(e, "unknown options of a mount", m->id) : 0;
}

static int mounts_validate(const struct image *image, size_t n, struct err *e)
{
    const struct mount_space *space = &image->mount_spaces[n];
    if (space->id != n + 1 || !space->owner || space->owner > image->user_spaces_count || !space->mounts_count || space->mounts_count > MOUNTS_MAX)
        return bad(e, "a mount namespace of nobody, or without a root", space->id);
    for (size_t k = 0; k < space->filesystems_count; k++)
        if (space->filesystems[k].id != k + 1 || filesystem_validate(image, &space->filesystems[k], e) < 0)
            return space->filesystems[k].id == k + 1 ? -1 : bad(e, "file systems out of order", k);
    for (size_t k = 0; k < space->mounts_count; k++)
        if (mount_validate(space, k, e) < 0)
            return -1;
    return 0;
}

/* A process has rights over its mount namespace, or it could not have come there. */
static bool is_at_or_below(const struct image *image, uint64_t user, uint64_t owner)
{
    while (user && user != owner)
        user = image->user_spaces[user - 1].parent;
    return user == owner;
}

static int others_validate(const struct image *image, struct err *e)
{
    for (size_t k = 0; k < image->other_spaces_count; k++) {
        const struct other_space *o = &image->other_spaces[k];
        bool known = o->kind == CLONE_NEWUTS || o->kind == CLONE_NEWIPC || o->kind == CLONE_NEWNET || o->kind == CLONE_NEWCGROUP;
        if (o->id != k + 1 || !known || !o->owner || o->owner > image->user_spaces_count || strlen(o->hostname) > NAME_BYTES || strlen(o->domain) > NAME_BYTES)
            return bad(e, "one of an unknown kind, or of nobody", o->id);
        if (o->messages_count && o->kind != CLONE_NEWNET)
            return bad(e, "network devices in one of another kind", o->id);
        if (netconf_validate(o->messages, o->messages_count, e) < 0)
            return -1;
    }
    return 0;
}

static int others_of_validate(const struct image *image, const struct task *t, struct err *e)
{
    const uint64_t ids[][2] = {{t->uts_space, CLONE_NEWUTS}, {t->ipc_space, CLONE_NEWIPC}, {t->net_space, CLONE_NEWNET}, {t->cgroup_space, CLONE_NEWCGROUP}};
    for (size_t k = 0; k < ARRAY_LENGTH(ids); k++) {
        if (ids[k][0] > image->other_spaces_count)
            return bad(e, "a process in one that is not there", t->pid);
        const struct other_space *o = ids[k][0] ? &image->other_spaces[ids[k][0] - 1] : NULL;
        if (o && (o->kind != ids[k][1] || !is_at_or_below(image, t->user_space, o->owner)))
            return bad(e, "a process without rights in one of another kind", t->pid);
    }
    return 0;
}

static int net_validate(const struct image *image, uint64_t net, uint64_t id, struct err *e)
{
    if (net > image->other_spaces_count || (net && image->other_spaces[net - 1].kind != CLONE_NEWNET))
        return bad(e, "a socket in one of another kind", id);
    return 0;
}

static int sockets_validate(const struct image *image, struct err *e)
{
    for (size_t k = 0; k < image->unix_sockets_count; k++)
        if (net_validate(image, image->unix_sockets[k].net_space, image->unix_sockets[k].id, e) < 0)
            return -1;
    for (size_t k = 0; k < image->tcp_sockets_count; k++)
        if (net_validate(image, image->tcp_sockets[k].net_space, image->tcp_sockets[k].id, e) < 0)
            return -1;
    for (size_t k = 0; k < image->udp_sockets_count; k++)
        if (net_validate(image, image->udp_sockets[k].net_space, image->udp_sockets[k].id, e) < 0)
            return -1;
    for (size_t k = 0; k < image->raw_sockets_count; k++)
        if (raw_validate(&image->raw_sockets[k], e) < 0 || net_validate(image, image->raw_sockets[k].net_space, image->raw_sockets[k].id, e) < 0)
            return -1;
    for (size_t k = 0; k < image->netlink_sockets_count; k++)
        if (net_validate(image, image->netlink_sockets[k].net_space, image->netlink_sockets[k].id, e) < 0)
            return -1;
    return 0;
}

static bool is_ipc(const struct image *image, uint64_t space)
{
    return !space || (space <= image->other_spaces_count && image->other_spaces[space - 1].kind == CLONE_NEWIPC);
}

static int sysv_validate(const struct image *image, struct err *e)
{
    for (size_t k = 0; k < image->sysv_segments_count; k++)
        if (!is_ipc(image, image->sysv_segments[k].ipc_space))
            return bad(e, "System V shared memory in one of another kind", image->sysv_segments[k].shmid);
    for (size_t k = 0; k < image->sysv_semaphores_count; k++)
        if (!is_ipc(image, image->sysv_semaphores[k].ipc_space))
            return bad(e, "System V semaphores in one of another kind", image->sysv_semaphores[k].semid);
    for (size_t k = 0; k < image->sysv_queues_count; k++)
        if (!is_ipc(image, image->sysv_queues[k].ipc_space))
            return bad(e, "a System V queue in one of another kind", image->sysv_queues[k].msqid);
    return 0;
}

static int references_validate(const struct image *image, struct err *e)
{
    for (size_t k = 0; k < image->tasks_count; k++) {
        const struct task *t = &image->tasks[k];
        if (t->user_space > image->user_spaces_count || t->mount_space > image->mount_spaces_count)
            return bad(e, "a process in one that is not there", t->pid);
        if (t->mount_space && !is_at_or_below(image, t->user_space, image->mount_spaces[t->mount_space - 1].owner))
            return bad(e, "a process without rights in its mount namespace", t->pid);
        if (others_of_validate(image, t, e) < 0)
            return -1;
    }
    for (size_t k = 0; k < image->files_count; k++) {
        const struct file *f = &image->files[k];
        if (f->mount_space > image->mount_spaces_count || (f->mount_space && !is_plain(f->place)))
            return bad(e, "a file in one that is not there", f->id);
    }
    for (size_t k = 0; k < image->unix_sockets_count; k++)
        if (image->unix_sockets[k].mount_space > image->mount_spaces_count)
            return bad(e, "a Unix socket in one that is not there", image->unix_sockets[k].id);
    for (size_t k = 0; k < image->memobjs_count; k++)
        if (image->memobjs[k].mount_space > image->mount_spaces_count)
            return bad(e, "an unlinked file in one that is not there", image->memobjs[k].id);
    for (size_t k = 0; k < image->pipes_count; k++)
        if (image->pipes[k].mount_space > image->mount_spaces_count)
            return bad(e, "a FIFO in one that is not there", image->pipes[k].id);
    for (size_t k = 0; k < image->inotifies_count; k++)
        for (size_t n = 0; n < image->inotifies[k].watches_count; n++)
            if (image->inotifies[k].watches[n].mount_space > image->mount_spaces_count)
                return bad(e, "a watch in one that is not there", image->inotifies[k].id);
    return 0;
}

int spaces_validate(const struct image *image, struct err *e)
{
    if (image->user_spaces_count > SPACES_MAX || image->mount_spaces_count > SPACES_MAX || image->other_spaces_count > SPACES_MAX)
        return bad(e, "too many", image->user_spaces_count);
    for (size_t k = 0; k < image->user_spaces_count; k++)
        if (user_validate(image, k, e) < 0)
            return -1;
    for (size_t k = 0; k < image->mount_spaces_count; k++)
        if (mounts_validate(image, k, e) < 0)
            return -1;
    return others_validate(image, e) < 0 || sysv_validate(image, e) < 0 || sockets_validate(image, e) < 0 ? -1 : references_validate(image, e);
}
