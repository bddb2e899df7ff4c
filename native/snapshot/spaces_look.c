/* See spaces.h: which namespaces there are, and who lives in them. */
#include "spaces.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <linux/openat2.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "../kernel/procfs.h"
#include "files_facts.h"

#define LEVELS_MAX 8

static uint64_t space_ino(pid_t pid, const char *name)
{
    struct stat st;
    AUTO_FREE char *path = xasprintf("/proc/%d/ns/%s", pid, name);
    return stat(path, &st) < 0 ? 0 : st.st_ino;
}

static uint64_t fd_ino(int fd)
{
    struct stat st;
    return fstat(fd, &st) < 0 ? 0 : st.st_ino;
}

/* ---- user namespaces */

int user_map_take(const char *text, uint64_t above, uint64_t *has, uint64_t *id, struct err *e)
{
    unsigned long inside, outside, count;
    const char *line = text + strspn(text, " \n");
    *has = 0;
    if (!*line)
        return 0;
    const char *end = strchr(line, '\n');
    if (sscanf(line, "%lu %lu %lu", &inside, &outside, &count) != 3 || count != 1 || outside != above || (end && end[1]))
        return err_set(e, E_UNSUPPORTED, "it names others than the pod's user");
    *has = 1;
    *id = inside;
    return 0;
}

static int user_read(const struct spaces *s, int fd, const struct user_space *above, struct user_space *out, struct err *e)
{
    AUTO_BUF struct buf uids = {0}, gids = {0}, setgroups = {0};
    uid_t owner;
    if (visitor_maps(fd, &uids, &gids, &setgroups, e) < 0)
        return -1;
    if (ioctl(fd, NS_GET_OWNER_UID, &owner) < 0 || owner != s->pod->facts.uid)
        return err_set(e, E_UNSUPPORTED, "it belongs to another user");
    if (user_map_take((char *)uids.data, above ? above->uid : s->pod->facts.uid, &out->has_uid, &out->uid, e) < 0 ||
        user_map_take((char *)gids.data, above ? above->gid : s->pod->facts.gid, &out->has_gid, &out->gid, e) < 0)
        return -1;
    out->setgroups = strncmp((char *)setgroups.data, "allow", 5) == 0;
    if (out->setgroups && out->has_gid)
        return err_set(e, E_UNSUPPORTED, "it may change its groups");
    return 0;
}

static struct seen_user *user_find(const struct spaces *s, uint64_t ino)
{
    for (size_t k = 0; k < s->users_count; k++)
        if (s->users[k].ino == ino)
            return &s->users[k];
    return NULL;
}

/* Takes fd; 0 is the pod's own. The ones above first. */
static int user_add(struct spaces *s, int fd, unsigned level, uint64_t *id, struct err *e)
{
    const struct seen_user *known = user_find(s, fd_ino(fd));
    uint64_t parent = 0;
    *id = known ? known->image.id : 0;
    if (known || fd_ino(fd) == s->pods_user) {
        close(fd);
        return 0;
    }
    int above = level < LEVELS_MAX ? ioctl(fd, NS_GET_PARENT) : -1;
    if (above < 0 || user_add(s, above, level + 1, &parent, e) < 0) {
        close(fd);
        return above < 0 ? err_set(e, E_UNSUPPORTED, "it lies too deep") : -1;
    }
    struct seen_user *u = list_add((void **)&s->users, &s->users_count, sizeof *u);
    *u = (struct seen_user){.ino = fd_ino(fd), .fd = fd};
    u->image = (struct user_space){.id = s->users_count, .parent = parent};
    *id = u->image.id;
    return user_read(s, fd, parent ? &s->users[parent - 1].image : NULL, &u->image, e);
}

/* ---- mount namespaces */
static int pod_read(struct spaces *s, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    AUTO_FREE char *path = xasprintf("/proc/%d/root", s->pod->init_pid);
    if (s->pod_root >= 0)
        return 0;
    s->pod_root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (s->pod_root < 0)
        return err_errno(e, "root of the pod");
    if (io_slurpf(&text, 16ul << 20, e, "/proc/%d/mountinfo", s->pod->init_pid) < 0)
        return -1;
    return mount_table_parse((char *)text.data, &s->pod_mounts, e);
}

static int mounts_read(struct spaces *s, struct seen_mounts *m, int fd, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    int owner = ioctl(fd, NS_GET_USERNS);
    if (owner < 0)
        return err_errno(e, "owner of a mount namespace");
    if (user_add(s, owner, 0, &m->image.owner, e) < 0 || pod_read(s, e) < 0 || visitor_start(fd, &m->visitor, &text, e) < 0)
        return -1;
    if (!m->image.owner)
        return err_set(e, E_UNSUPPORTED, "it belongs to the pod");
    if (mount_table_parse((char *)text.data, &m->table, e) < 0)
        return -1;
    mounts_plan(s, m);
    return m->trouble[0] ? err_set(e, E_UNSUPPORTED, "%s", m->trouble) : 0;
}

static int mounts_add(struct spaces *s, pid_t pid, uint64_t ino, uint64_t *id, struct err *e)
{
    for (size_t k = 0; k < s->mounts_count; k++)
        if (s->mounts[k].ino == ino) {
            *id = k + 1;
            return s->mounts[k].trouble[0] ? err_set(e, E_UNSUPPORTED, "%s", s->mounts[k].trouble) : 0;
        }
    AUTO_FREE char *path = xasprintf("/proc/%d/ns/mnt", pid);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "its mount namespace");
    struct seen_mounts *m = list_add((void **)&s->mounts, &s->mounts_count, sizeof *m);
    *m = (struct seen_mounts){.ino = ino, .of = pid, .visitor = {.channel = -1, .root = -1}};
    *id = m->image.id = s->mounts_count;
    if (mounts_read(s, m, fd, e) == 0)
        return 0;
    snprintf(m->trouble, sizeof m->trouble, "%.200s", e->message);
    return -1;
}

/* ---- all others */
static int other_add(struct spaces *s, pid_t pid, enum other_kind kind, uint64_t ino, uint64_t *id, struct err *e)
{
    for (size_t k = 0; k < s->others_count; k++)
        if (s->others[k].ino == ino) {
            *id = k + 1;
            return s->others[k].trouble[0] ? err_set(e, E_UNSUPPORTED, "%s", s->others[k].trouble) : 0;
        }
    AUTO_FREE char *path = xasprintf("/proc/%d/ns/%s", pid, other_names[kind]);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct other_space image = {.hostname = NULL};
    int owner = fd < 0 ? -1 : ioctl(fd, NS_GET_USERNS);
    if (owner < 0)
        return err_errno(e, "its namespace");
    int result = user_add(s, owner, 0, &image.owner, e);
    if (result == 0)
        result = image.owner ? other_read(s, fd, kind, &image, e) : err_set(e, E_UNSUPPORTED, "it belongs to the pod");
    struct seen_other *o = list_add((void **)&s->others, &s->others_count, sizeof *o);
    *o = (struct seen_other){.ino = ino, .image = image};
    *id = o->image.id = s->others_count;
    if (result < 0)
        snprintf(o->trouble, sizeof o->trouble, "%.200s", e->message);
    return result;
}

static void others_look(struct spaces *s, struct seen_member *m, struct refusals *out)
{
    for (enum other_kind k = 0; k < OTHER_KINDS; k++) {
        uint64_t own = space_ino(m->pid, other_names[k]), pods = space_ino(s->pod->init_pid, other_names[k]);
        struct err why = {0};
        if (own && pods && own != pods && other_add(s, m->pid, k, own, &m->others[k], &why) < 0)
            refuse(out, pid_inside(m->pid), -1, 0, "it made a namespace of its own (%s): %.200s", other_names[k], why.message);
    }
}

/* ---- processes */
/* Only who has rights over a network may leave it, so only in a user namespace of the job. */
static void threads_look(pid_t pid, struct refusals *out)
{
    PID_LIST struct pid_list tids = {0};
    struct err gone;
    uint64_t own = space_ino(pid, "net");
    if (proc_threads(pid, &tids, &gone) < 0)
        return;
    for (size_t k = 0; k < tids.count; k++) {
        uint64_t its = tids.items[k] == pid ? own : space_ino(tids.items[k], "net");
        if (own && its && its != own) {
            refuse(out, pid_inside(pid), -1, 0, "one of its threads made a namespace of its own (net)");
            return;
        }
    }
}

static void one_look(struct spaces *s, pid_t pid, struct refusals *out)
{
    uint64_t user = space_ino(pid, "user"), mounts = space_ino(pid, "mnt");
    struct seen_member m = {.pid = pid};
    struct err why = {0};
    if (!user || !mounts || !s->pods_user || !s->pods_mounts || (user == s->pods_user && mounts == s->pods_mounts))
        return; /* it has ended, or it lives in the pod's: none of the others is made without a user namespace */
    AUTO_FREE char *path = xasprintf("/proc/%d/ns/user", pid);
    int fd = user != s->pods_user ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (user != s->pods_user && (fd < 0 || user_add(s, fd, 0, &m.user, &why) < 0))
        refuse(out, pid_inside(pid), -1, 0, "it made a namespace of its own (user): %.200s", why.message);
    else if (mounts != s->pods_mounts && mounts_add(s, pid, mounts, &m.mounts, &why) < 0)
        refuse(out, pid_inside(pid), -1, 0, "it made a namespace of its own (mnt): %.200s", why.message);
    others_look(s, &m, out);
    threads_look(pid, out);
    *(struct seen_member *)list_add((void **)&s->members, &s->members_count, sizeof m) = m;
}

void spaces_look(const struct pod *pod, const pid_t *pids, size_t count, struct spaces *s, struct refusals *out)
{
    *s = (struct spaces){.pod = pod, .pod_root = -1, .pods_user = space_ino(pod->init_pid, "user"), .pods_mounts = space_ino(pod->init_pid, "mnt")};
    for (size_t k = 0; k < count; k++)
        if (pids[k] > 0)
            one_look(s, pids[k], out);
}

void spaces_free(struct spaces *s)
{
    for (size_t k = 0; k < s->users_count; k++) {
        close(s->users[k].fd);
        user_space_free(&s->users[k].image);
    }
    for (size_t k = 0; k < s->mounts_count; k++) {
        struct seen_mounts *m = &s->mounts[k];
        visitor_end(&m->visitor);
        mount_table_free(&m->table);
        mount_space_free(&m->image);
        free(m->order);
        free(m->device);
    }
    for (size_t k = 0; k < s->others_count; k++)
        other_space_free(&s->others[k].image);
    free(s->others);
    if (s->pod)
        cleanup_close(&s->pod_root);
    mount_table_free(&s->pod_mounts);
    free(s->users);
    free(s->mounts);
    for (size_t k = 0; k < s->mapped_count; k++)
        free(s->mapped[k]);
    free(s->mapped);
    free(s->members);
    *s = (struct spaces){0};
}

const struct seen_member *spaces_member(const struct spaces *s, pid_t pid)
{
    for (size_t k = 0; s && k < s->members_count; k++)
        if (s->members[k].pid == pid)
            return &s->members[k];
    return NULL;
}

const struct seen_mounts *spaces_mounts(const struct spaces *s, uint64_t id)
{
    return id && id <= s->mounts_count ? &s->mounts[id - 1] : NULL;
}

const struct seen_mounts *spaces_of_mount(const struct spaces *s, uint64_t mount_id)
{
    for (size_t k = 0; s && k < s->mounts_count; k++)
        if (!s->mounts[k].trouble[0] && mount_table_find(&s->mounts[k].table, mount_id) != SIZE_MAX)
            return &s->mounts[k];
    return NULL;
}

uint64_t spaces_of_device(const struct spaces *s, dev_t dev)
{
    for (size_t k = 0; s && k < s->mounts_count; k++)
        for (size_t n = 0; n < s->mounts[k].image.filesystems_count; n++)
            if (s->mounts[k].device[n] == dev)
                return s->mounts[k].image.id;
    return 0;
}

uint64_t spaces_net_of(const struct spaces *s, int fd)
{
    AUTO_CLOSE int space = s && s->others_count ? ioctl(fd, SIOCGSKNS) : -1;
    uint64_t ino = space < 0 ? 0 : fd_ino(space);
    for (size_t k = 0; ino && k < s->others_count; k++)
        if (s->others[k].ino == ino && !s->others[k].trouble[0])
            return s->others[k].image.id;
    return 0;
}

bool spaces_have_nets(const struct spaces *s)
{
    for (size_t k = 0; s && k < s->others_count; k++)
        if (spaces_net_member(s, k + 1))
            return true;
    return false;
}

pid_t spaces_net_member(const struct spaces *s, uint64_t id)
{
    for (size_t k = 0; k < s->members_count; k++)
        if (s->members[k].others[OTHER_NET] == id)
            return s->members[k].pid;
    return 0;
}

static int path_open(const struct seen_mounts *m, const char *path)
{
    struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS};
    return (int)syscall(SYS_openat2, m->visitor.root, path, &how, sizeof how);
}

bool spaces_path_is(const struct seen_mounts *m, const char *path, uint64_t mount_id, const struct stat *st)
{
    struct stat found;
    AUTO_CLOSE int fd = path_open(m, path);
    return fd >= 0 && fstat(fd, &found) == 0 && found.st_dev == st->st_dev && found.st_ino == st->st_ino && (!mount_id || mount_id_of(fd) == mount_id);
}

bool spaces_path_is_overlaid(const struct seen_mounts *m, const char *path, const struct stat *st)
{
    struct stat found;
    struct statfs fs;
    AUTO_CLOSE int fd = path_open(m, path);
    return fd >= 0 && fstatfs(fd, &fs) == 0 && fs.f_type == OVERLAYFS_SUPER_MAGIC && fstat(fd, &found) == 0 && found.st_ino == st->st_ino &&
           (!st->st_nlink || (found.st_size == st->st_size && found.st_mtim.tv_sec == st->st_mtim.tv_sec));
}

static const struct mounted *mounted_of(const struct seen_mounts *m, uint64_t mount_id)
{
    for (size_t k = 0; k < m->image.mounts_count; k++)
        if (m->table.items[m->order[k]].id == mount_id)
            return &m->image.mounts[k];
    return NULL;
}

/* By the pod's mount of the same file system that shows it at a path that leads there. */
char *spaces_pod_path(const struct spaces *s, const struct seen_mounts *m, const char *path)
{
    AUTO_CLOSE int fd = path_open(m, path);
    uint64_t id = fd < 0 ? 0 : mount_id_of(fd);
    size_t line = mount_table_find(&m->table, id);
    const struct mounted *mounted = mounted_of(m, id);
    struct stat st, there;
    if (!mounted || mounted->kind == MOUNTED_OWN || line == SIZE_MAX || fstat(fd, &st) < 0)
        return NULL;
    const struct mount_line *own = &m->table.items[line];
    const char *below = path_below(path, own->place);
    AUTO_FREE char *position = xasprintf("%s%s", strcmp(own->root, "/") == 0 ? "" : own->root, below ? below : "");
    for (size_t k = 0; k < s->pod_mounts.count; k++) {
        const struct mount_line *p = &s->pod_mounts.items[k];
        const char *rest = p->dev == own->dev ? path_below(position[0] ? position : "/", p->root) : NULL;
        if (!rest)
            continue;
        char *found = xasprintf("%s%s", strcmp(p->place, "/") == 0 && *rest ? "" : p->place, rest);
        struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS};
        AUTO_CLOSE int in_pod = (int)syscall(SYS_openat2, s->pod_root, found, &how, sizeof how);
        if (in_pod >= 0 && fstat(in_pod, &there) == 0 && there.st_ino == st.st_ino && there.st_dev == st.st_dev)
            return found;
        free(found);
    }
    return NULL;
}
