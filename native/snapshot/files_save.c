/* The descriptors of the stopped tree into the image: find them, group them into open file descriptions, let the saver of
 * each kind ask its description, then what lies across descriptions (locks, owners). See files_save.h. */
#include "files_save.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lease_save.h"
#include "spaces.h"

static int words_set(const struct saving *v, const struct source *src, struct err *e, enum code code, const char *words)
{
    return err_set(e, code, "process %d: descriptor %d: %s%s", v->s->victims[src->victim].inner_pid, src->number,
                   src->passed ? "a message that brings " : "", words);
}

int source_refuse(const struct saving *v, const struct source *src, struct err *e, const char *format, ...)
{
    char words[512];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    return words_set(v, src, e, E_UNSUPPORTED, words);
}

int source_busy(const struct saving *v, const struct source *src, struct err *e, const char *format, ...)
{
    char words[512];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    return words_set(v, src, e, E_BUSY, words);
}

void source_warn(const struct saving *v, const struct source *src, const char *name, const char *words)
{
    static pthread_mutex_t one_by_one = PTHREAD_MUTEX_INITIALIZER;
    AUTO_FREE char *whole = xasprintf("process %d: descriptor %d: %s", v->s->victims[src->victim].inner_pid, src->number, words);
    pthread_mutex_lock(&one_by_one);
    struct xattr *warning = LIST_ADD(&v->s->image, warnings);
    warning->name = xstrdup(name);
    bytes_set(&warning->value, whole, strlen(whole));
    pthread_mutex_unlock(&one_by_one);
}

uint64_t saving_inner_pid(const struct saving *v, pid_t pid)
{
    for (size_t i = 0; i < v->s->victim_count; i++)
        if (v->s->victims[i].leader == pid)
            return (uint64_t)v->s->victims[i].inner_pid;
    return pid == v->s->pod->init_pid ? 1 : 0;
}

int source_reopen(int fd, int flags, struct err *e)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int anew = open(path, flags | O_CLOEXEC);
    return anew < 0 ? err_errno(e, "open a file anew") : anew;
}

/* ---- kinds */
static int kind_save(struct saving *v, struct source *src, struct err *e)
{
    switch (src->kind) {
    case FILE_REGULAR: case FILE_DIRECTORY: case FILE_PATH_ONLY: case FILE_DEVICE: case FILE_PROC:
    case FILE_STDOUT: case FILE_STDERR:
        return file_save(v, src, e);
    case FILE_MEMOBJ:
        return memfile_save(v, src, e);
    case FILE_PIPE: case FILE_FIFO:
        return pipe_save(v, src, e);
    case FILE_UNIX:
        return unix_save(v, src, e);
    case FILE_TCP:
        return 0; /* tcps_save */
    case FILE_UDP:
        return udp_save(v, src, e);
    case FILE_RAW:
        return raw_save(v, src, e);
    case FILE_NETLINK:
        return netlink_save(v, src, e);
    case FILE_EPOLL:
        return epoll_save(v, src, e);
    case FILE_MQUEUE:
        return mqueue_save(v, src, e);
    case FILE_EVENTFD:
        return eventfd_save(v, src, e);
    case FILE_TIMERFD:
        return timerfd_save(v, src, e);
    case FILE_SIGNALFD:
        return signalfd_save(v, src, e);
    case FILE_INOTIFY:
        return inotify_save(v, src, e);
    case FILE_PIDFD:
        return pidfd_save(v, src, e);
    case FILE_PTY_MASTER: case FILE_PTY_SLAVE:
        return pty_save(v, src, e);
    default:
        return source_refuse(v, src, e, "a kind of descriptor that cannot be captured");
    }
}

static int socket_begin(const struct saving *v, struct source *src, struct err *e)
{
    char words[256];
    int trouble = socket_look(src->fd, &src->socket, words, e);
    if (trouble)
        return trouble < 0 ? err_wrap(e, "process %d: descriptor %d", v->s->victims[src->victim].inner_pid, src->number)
                           : source_refuse(v, src, e, "%s", words);
    src->kind = src->socket.kind;
    src->net = spaces_net_of(v->s->spaces, src->fd);
    if (src->kind != FILE_RAW && !src->net && v->s->spaces && v->s->spaces->others_count && socket_is_elsewhere(v->s->pod->init_pid, src->fd))
        return source_refuse(v, src, e, "a socket of another network namespace");
    const char *here = socket_trouble_there(src->fd, &src->socket, src->net != 0);
    if (here)
        return source_refuse(v, src, e, "%s", here);
    const char *passing = socket_passing(src->fd, &src->socket);
    return passing ? source_busy(v, src, e, "%s", passing) : 0;
}

/* The entries come first, all of them, so that pointers to them stay. */
static int entries_make(struct saving *v, struct err *e)
{
    struct image *image = &v->s->image;
    image->files = xcalloc(v->sources_count + v->s->victim_count + 1, sizeof *image->files); /* and room for directories_save */
    image->files_count = v->sources_count;
    for (size_t i = 0; i < v->sources_count; i++) {
        struct source *src = &v->sources[i];
        if (src->kind == FACTS_SOCKET && socket_begin(v, src, e) < 0)
            return -1;
        src->file = &image->files[i];
        src->file->id = i + 1;
        src->file->kind = src->kind;
        src->file->flags = src->facts.flags;
        src->file->offset = src->facts.offset;
        src->file->mode = src->facts.st.st_mode;
        src->file->rdev = src->facts.st.st_rdev;
        src->file->path = xstrdup("");
    }
    return 0;
}

static int tcp_look(struct saving *v, struct err *e)
{
    for (size_t i = 0; i < v->sources_count; i++)
        if (v->sources[i].kind == FILE_TCP)
            return diag_add_tcp(v->s->pod->init_pid, &v->view.diag, e);
    return 0;
}

static void numbers_save(struct saving *v)
{
    for (size_t i = 0; i < v->slots_count; i++) {
        const struct slot *slot = &v->slots[i];
        struct task *task = &v->s->image.tasks[slot->victim];
        struct fd *fd = LIST_ADD(task, fds);
        *fd = (struct fd){.number = (uint64_t)slot->number, .file = slot->source + 1, .cloexec = slot->facts.cloexec};
    }
}

/* ---- F_SETOWN */
static uint64_t owner_inside(const struct saving *v, const struct f_owner_ex *owner)
{
    if (owner->type == F_OWNER_PGRP) { /* a group has the number of its (perhaps dead) leader: ask a living member */
        for (size_t i = 0; i < v->s->victim_count; i++)
            if (getpgid(v->s->victims[i].pid) == owner->pid)
                return v->s->image.tasks[i].pgid;
        return 0;
    }
    return pid_inside(owner->pid);
}

static int owner_save(struct saving *v, struct source *src, struct err *e)
{
    struct f_owner_ex owner = {0};
    if (src->facts.flags & O_PATH)
        return 0;
    int number = fcntl(src->fd, F_GETSIG);
    src->file->owner_signal = number > 0 ? (uint64_t)number : 0;
    if (fcntl(src->fd, F_GETOWN_EX, &owner) < 0 || owner.pid == 0)
        return 0;
    if (src->kind == FILE_DIRECTORY) /* nobody else owns a directory; what was asked for cannot be read */
        return source_refuse(v, src, e, "a directory with notifications by signal (F_NOTIFY)");
    uint64_t inside = owner_inside(v, &owner);
    if (!inside)
        return 0; /* the owner has ended: it gets no signal, as before */
    if (owner.type == F_OWNER_TID && !saving_inner_pid(v, owner.pid) && (src->kind == FILE_PIDFD || src->kind == FILE_PROC))
        return source_refuse(v, src, e, "its owner (F_SETOWN_EX) is a thread, and it tells nobody anything");
    if (inside > INT32_MAX)
        return source_refuse(v, src, e, "its owner (F_SETOWN) has an impossible number");
    if (src->passed)
        return source_busy(v, src, e, "a descriptor with an owner (F_SETOWN)");
    src->file->owner_type = (uint64_t)owner.type;
    src->file->owner_pid = (int64_t)inside;
    return 0;
}

static int sources_save(struct saving *v, struct err *e)
{
    for (size_t i = 0; i < v->sources_count; i++) {
        struct source *src = &v->sources[i];
        if (kind_save(v, src, e) < 0 || owner_save(v, src, e) < 0)
            return e->code == E_UNSUPPORTED || e->code == E_BUSY
                       ? -1
                       : err_wrap(e, "process %d: descriptor %d (%s)", v->s->victims[src->victim].inner_pid, src->number,
                                  src->facts.link);
    }
    return 0;
}

int files_save(struct snapshot *s, struct err *e)
{
    static int (*const steps[])(struct saving *v, struct err *e) = {
        scan_slots, scan_sources, leases_look, queues_look, groups_read, entries_make, tcp_look, tcp_check_orphans, tcps_save, mqueues_messages_save, sources_save,
        directories_save, pipes_finish, ptys_finish, locks_save,
    };
    struct saving v = {.s = s};
    if (view_open(s->pod, s->spaces, &v.view, e) < 0)
        return -1;
    int result = 0;
    for (size_t i = 0; i < ARRAY_LENGTH(steps) && result == 0; i++)
        result = steps[i](&v, e);
    if (result == 0)
        numbers_save(&v);
    free(v.groups);
    scan_free(&v);
    view_close(&v.view);
    return result;
}
