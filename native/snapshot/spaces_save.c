/* See spaces.h: what was seen into the image. Contents of a file system are kept from each of its mounts that shows most of it. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../image/tree.h"
#include "check.h"
#include "spaces.h"
#include "sysv_save.h"

int spaces_take(struct snapshot *s, struct err *e)
{
    struct refusals r = {0};
    AUTO_FREE pid_t *pids = xcalloc(s->victim_count + 1, sizeof *pids);
    for (size_t k = 0; k < s->victim_count; k++)
        pids[k] = s->victims[k].thread_count ? s->victims[k].pid : 0;
    s->spaces = xcalloc(1, sizeof *s->spaces);
    spaces_look(s->pod, pids, s->victim_count, s->spaces, &r);
    int result = r.count ? err_set(e, E_UNSUPPORTED, "process %lu: %s", r.items[0].pid, r.items[0].words) : 0;
    refusals_free(&r);
    return result;
}

void spaces_drop(struct snapshot *s)
{
    if (s->spaces)
        spaces_free(s->spaces);
    free(s->spaces);
    s->spaces = NULL;
}

int spaces_mapped(struct spaces *s, const struct seen_mounts *m, const char *path, const struct stat *st, char **pods, struct err *e)
{
    if (!spaces_path_is(m, path, 0, st) && !spaces_path_is_overlaid(m, path, st))
        return err_set(e, E_UNSUPPORTED, "mapped file %s is not to be found by that path in its mount namespace", path);
    *pods = spaces_pod_path(s, m, path);
    if (*pods && (!s->mapped_count || strcmp(s->mapped[s->mapped_count - 1], *pods) != 0))
        *(char **)list_add((void **)&s->mapped, &s->mapped_count, sizeof *s->mapped) = xstrdup(*pods);
    return 0;
}

static void users_save(struct snapshot *s)
{
    for (size_t k = 0; k < s->spaces->users_count; k++)
        *LIST_ADD(&s->image, user_spaces) = s->spaces->users[k].image;
}

static char *copy(const char *s)
{
    return xstrdup(s ? s : "");
}

static void mounts_copy(const struct mount_space *from, struct mount_space *to)
{
    to->id = from->id;
    to->owner = from->owner;
    for (size_t k = 0; k < from->filesystems_count; k++) {
        struct own_fs *fs = LIST_ADD(to, filesystems);
        *fs = (struct own_fs){.id = from->filesystems[k].id, .type = copy(from->filesystems[k].type), .options = copy(from->filesystems[k].options),
                                .source = copy(from->filesystems[k].source)};
    }
    for (size_t k = 0; k < from->mounts_count; k++) {
        struct mounted *m = LIST_ADD(to, mounts);
        *m = from->mounts[k];
        m->place = copy(m->place);
        m->source = copy(m->source);
    }
}

/* ---- directories of processes: by a path that leads there */
static int directory_check(const struct spaces *all, const struct victim *v, const char *name, const char *link, struct err *e)
{
    struct stat st;
    AUTO_FREE char *path = xasprintf("/proc/%d/%s", v->pid, name);
    AUTO_CLOSE int fd = open(path, O_PATH | O_CLOEXEC);
    const struct seen_member *member = spaces_member(all, v->pid);
    const struct seen_mounts *own = member ? spaces_mounts(all, member->mounts) : NULL;
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(e, "its %s", name);
    uint64_t id = mount_id_of(fd);
    bool pods = mount_table_find(&all->pod_mounts, id) != SIZE_MAX;
    if (!own && (pods || !spaces_of_mount(all, id)))
        return 0;
    if (own && spaces_path_is(own, link, id, &st))
        return 0;
    return err_set(e, E_UNSUPPORTED, "process %d: its %s (%s) is not to be found by its path in its mount namespace", v->inner_pid, name, link);
}

static int directories_check(const struct snapshot *s, size_t k, struct err *e)
{
    const struct victim *v = &s->victims[k];
    const struct task *t = &s->image.tasks[k];
    if (!v->thread_count)
        return 0;
    if (directory_check(s->spaces, v, "cwd", t->cwd, e) < 0 || directory_check(s->spaces, v, "root", t->root, e) < 0)
        return -1;
    for (size_t i = 0; i < t->threads_count; i++) {
        AUTO_FREE char *cwd = xasprintf("task/%d/cwd", v->threads[i].tid), *root = xasprintf("task/%d/root", v->threads[i].tid);
        if (t->threads[i].cwd && t->threads[i].cwd[0] &&
            (directory_check(s->spaces, v, cwd, t->threads[i].cwd, e) < 0 || directory_check(s->spaces, v, root, t->threads[i].root, e) < 0))
            return -1;
    }
    return 0;
}

static void messages_copy(const struct other_space *from, struct other_space *to)
{
    for (size_t k = 0; k < from->messages_count; k++) {
        struct net_message *m = LIST_ADD(to, messages);
        *m = from->messages[k];
        m->body = (struct bytes){0};
        bytes_set(&m->body, from->messages[k].body.data, from->messages[k].body.len);
    }
}

static void others_save(struct snapshot *s)
{
    for (size_t k = 0; k < s->spaces->others_count; k++) {
        struct other_space *o = LIST_ADD(&s->image, other_spaces);
        *o = s->spaces->others[k].image;
        o->hostname = copy(o->hostname);
        o->domain = copy(o->domain);
        o->messages = NULL;
        o->messages_count = 0;
        messages_copy(&s->spaces->others[k].image, o);
    }
}

static void member_save(const struct seen_member *m, struct task *t)
{
    t->user_space = m->user;
    t->mount_space = m->mounts;
    t->uts_space = m->others[OTHER_UTS];
    t->ipc_space = m->others[OTHER_IPC];
    t->net_space = m->others[OTHER_NET];
    t->cgroup_space = m->others[OTHER_CGROUP];
}

int spaces_save(struct snapshot *s, struct err *e)
{
    if (!s->spaces->members_count)
        return 0;
    users_save(s);
    others_save(s);
    for (size_t k = 0; k < s->spaces->mounts_count; k++)
        mounts_copy(&s->spaces->mounts[k].image, LIST_ADD(&s->image, mount_spaces));
    for (size_t k = 0; k < s->victim_count; k++) {
        const struct seen_member *m = s->victims[k].thread_count ? spaces_member(s->spaces, s->victims[k].pid) : NULL;
        if (m)
            member_save(m, &s->image.tasks[k]);
        if (s->spaces->mounts_count && directories_check(s, k, e) < 0)
            return -1;
    }
    return sysv_attachments_check(s, e);
}

/* ---- contents */
static bool shows_more(const struct mount_space *space, const struct mounted *m, size_t k)
{
    const struct mounted *other = &space->mounts[k];
    if (other == m || other->fs != m->fs || other->hidden || !path_below(m->source, other->source))
        return false;
    return strcmp(other->source, m->source) != 0 || other < m;
}

static bool is_largest(const struct mount_space *space, const struct mounted *m)
{
    for (size_t k = 0; k < space->mounts_count; k++)
        if (shows_more(space, m, k))
            return false;
    return !m->hidden;
}

static int part_save(struct snapshot *s, const struct seen_mounts *seen, size_t k, struct own_fs *fs, struct err *e)
{
    const struct mounted *m = &seen->image.mounts[k];
    const char *place = seen->table.items[seen->order[k]].place;
    struct stand_ins leased = {s->leased, s->leased_count};
    struct stat st;
    AUTO_CLOSE int clone = visitor_clone(&seen->visitor, place, e);
    if (clone < 0 || fstat(clone, &st) < 0)
        return err_wrap(e, "what is mounted at %s", place);
    if (!S_ISDIR(st.st_mode))
        return err_set(e, E_UNSUPPORTED, "a file of a file system that is mounted nowhere as a whole, at %s", place);
    AUTO_CLOSE int dir = openat(clone, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct fs_part *part = LIST_ADD(fs, parts);
    part->root = xstrdup(m->source);
    if (dir < 0)
        return err_errno(e, "open %s", place);
    return tree_save(dir, "part", NULL, &leased, s->store, &part->tree, &s->image.new_bytes, e) < 0 ? err_wrap(e, "what is mounted at %s", place) : 0;
}

int spaces_trees_save(struct snapshot *s, struct err *e)
{
    for (size_t n = 0; n < s->spaces->mounts_count; n++) {
        const struct seen_mounts *seen = &s->spaces->mounts[n];
        struct mount_space *to = &s->image.mount_spaces[n];
        for (size_t k = 0; k < to->mounts_count; k++) {
            const struct mounted *m = &seen->image.mounts[k];
            bool tmpfs = m->fs && strcmp(to->filesystems[m->fs - 1].type, "tmpfs") == 0;
            if (tmpfs && is_largest(&seen->image, m) && part_save(s, seen, k, &to->filesystems[m->fs - 1], e) < 0)
                return -1;
        }
    }
    return 0;
}
