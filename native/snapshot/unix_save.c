/* Unix sockets of all three types: names, peers (from sock_diag: no descriptor tells), connections that wait to be
 * accepted, credentials of whoever made the other side. Their queues were looked at before (queues_save.c). */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "../kernel/tcpstate.h" /* Unix sockets borrow the numbers of TCP's states */
#include "files_save.h"
#include "inner_creds.h"
#include "spaces.h"

/* ---- names */
/* By its number; where numbers are given anew in every file system, by that too. */
static bool node_is(int root, const char *dir, const char *name, const struct diag_unix *d, struct stat *st)
{
    struct statfs fs;
    struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
    AUTO_FREE char *path = xasprintf("%s/%s", dir, name);
    AUTO_CLOSE int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof how);
    if (fd < 0 || fstat(fd, st) < 0 || fstatfs(fd, &fs) < 0 || !S_ISSOCK(st->st_mode) || (uint32_t)st->st_ino != d->node_ino)
        return false;
    return fs.f_type != TMPFS_MAGIC || st->st_dev == makedev((unsigned)(d->node_dev >> 20), (unsigned)(d->node_dev & 0xfffff));
}

static char *cwd_of(pid_t pid)
{
    char path[64], link[PATH_BYTES];
    snprintf(path, sizeof path, "/proc/%d/cwd", pid);
    ssize_t n = readlink(path, link, sizeof link - 1);
    link[n < 0 ? 0 : n] = 0;
    return xstrdup(n < 0 ? "/" : link);
}

/* In which namespace the path leads to the node. */
static bool node_stat(const struct view *view, const char *dir, const char *name, const struct diag_unix *d, struct stat *st, uint64_t *space)
{
    *space = 0;
    if (node_is(view->root, dir, name, d, st))
        return true;
    for (size_t k = 0; view->spaces && k < view->spaces->mounts_count; k++)
        if (node_is(view->spaces->mounts[k].visitor.root, dir, name, d, st)) {
            *space = view->spaces->mounts[k].image.id;
            return true;
        }
    return false;
}

/* Fills dir, mode, uid, gid if the node that the socket was bound to still has its name. */
static bool node_at(const struct view *view, const char *dir, const char *name, const struct diag_unix *d, struct unix_socket *u)
{
    struct stat st;
    uint64_t space;
    if (!node_stat(view, dir, name, d, &st, &space))
        return false;
    u->mount_space = space;
    u->mode = st.st_mode;
    u->uid = st.st_uid;
    u->gid = st.st_gid;
    return true;
}

/* A relative name counts from the working directory at the time of bind(2): look for the node from those of today. */
static void node_find(struct saving *v, const struct source *src, const struct diag_unix *d, const char *name, struct unix_socket *u)
{
    if (name[0] == '/') {
        node_at(&v->view, "", name, d, u);
        return;
    }
    free(u->dir);
    u->dir = cwd_of(v->s->victims[src->victim].pid);
    if (node_at(&v->view, u->dir, name, d, u))
        return;
    for (size_t i = 0; i < v->s->victim_count; i++) {
        AUTO_FREE char *dir = cwd_of(v->s->victims[i].pid);
        if (!node_at(&v->view, dir, name, d, u))
            continue;
        free(u->dir);
        u->dir = xstrdup(dir);
        return;
    }
}

static bool is_abstract(const struct unix_socket *u)
{
    return u->name.len > offsetof(struct sockaddr_un, sun_path) && !u->name.data[offsetof(struct sockaddr_un, sun_path)];
}

/* Names in messages tell no namespace. */
static int names_differ(const struct saving *v, const struct source *src, const struct unix_socket *u, struct err *e)
{
    for (size_t k = 0; k < v->s->image.unix_sockets_count; k++) {
        const struct unix_socket *other = &v->s->image.unix_sockets[k];
        if (other != u && (other->mount_space != u->mount_space || (is_abstract(u) && other->net_space != u->net_space)) && other->name.len && other->name.len == u->name.len &&
            memcmp(other->name.data, u->name.data, u->name.len) == 0)
            return source_refuse(v, src, e, "Unix sockets of the same name in two namespaces");
    }
    return 0;
}

static int name_save(struct saving *v, const struct source *src, const struct diag_unix *d, struct unix_socket *u, struct err *e)
{
    struct sockaddr_un address = {0};
    socklen_t len = sizeof address;
    u->dir = xstrdup("");
    if (getsockname(src->fd, (struct sockaddr *)&address, &len) < 0)
        return err_errno(e, "name of a Unix socket");
    if (len <= offsetof(struct sockaddr_un, sun_path))
        return 0;
    bytes_set(&u->name, &address, len < sizeof address ? len : sizeof address);
    if (address.sun_path[0]) {
        char name[sizeof address.sun_path + 1] = "";
        memcpy(name, address.sun_path, sizeof address.sun_path);
        const struct seen_member *member = spaces_member(v->s->spaces, v->s->victims[src->victim].pid);
        u->mount_space = member ? member->mounts : 0; /* where its name is gone */
        node_find(v, src, d, name, u);
    }
    return names_differ(v, src, u, e);
}

/* ---- the other side */
static const struct diag_unix *listener_of(const struct diag *d, uint32_t client, size_t *order)
{
    for (size_t i = 0; i < d->unixes_count; i++)
        for (size_t k = 0; k < d->unixes[i].pending_count; k++)
            if (d->unixes[i].pending[k] == client) {
                *order = k + 1;
                return &d->unixes[i];
            }
    return NULL;
}

static int pending_save(const struct saving *v, const struct source *src, const struct diag_unix *listener, size_t order,
                        struct unix_socket *u, struct err *e)
{
    int queued = 0;
    const struct source *other = scan_find_inode(v, listener->ino, FILE_UNIX, FILE_UNIX);
    if (!other)
        return source_refuse(v, src, e, "a Unix socket connected to a listener outside of the pod");
    if (ioctl(src->fd, SIOCOUTQ, &queued) < 0)
        return err_errno(e, "queue of a Unix socket");
    if (queued)
        return source_busy(v, src, e, "a Unix socket that has sent before it was accepted");
    u->pending_on = other->file->id;
    u->pending_order = order;
    return 0;
}

static int peer_save(const struct saving *v, const struct source *src, const struct diag_unix *d, struct unix_socket *u, struct err *e)
{
    size_t order = 0;
    const struct diag_unix *listener = d->state == TCP_ESTABLISHED && !d->peer ? listener_of(&v->view.diag, d->ino, &order) : NULL;
    if (listener)
        return pending_save(v, src, listener, order, u, e);
    if (!d->peer)
        return 0;
    const struct source *other = scan_find_inode(v, d->peer, FILE_UNIX, FILE_UNIX);
    const struct diag_unix *peer = diag_find_unix(&v->view.diag, d->peer);
    if (!other || !peer)
        return source_refuse(v, src, e, "a Unix socket whose other side is outside of the pod or on its way in a message");
    if (peer->peer != d->ino && peer->name_len == 0)
        return source_refuse(v, src, e, "a Unix socket connected to a nameless one that is connected elsewhere");
    u->peer = other->file->id;
    return 0;
}

/* Whose credentials SO_PEERCRED shows: of the maker of the other side, of a listener itself. */
static void makers_save(const struct saving *v, const struct source *src, struct unix_socket *u)
{
    struct ucred creds = {0};
    socklen_t len = sizeof creds;
    if (getsockopt(src->fd, SOL_SOCKET, SO_PEERCRED, &creds, &len) < 0 || creds.pid <= 0)
        return;
    u->peer_pid = inner_peer(v->s->pod, src->fd, creds.pid);
    u->peer_uid = creds.uid;
    u->peer_gid = creds.gid;
}

/* The one error that a Unix connection can have: its other side went away without reading all. */
static int error_save(const struct saving *v, const struct source *src, struct unix_socket *u, struct err *e)
{
    struct pollfd state = {.fd = src->fd};
    if (poll(&state, 1, 0) < 0)
        return err_errno(e, "state of a Unix socket");
    if (!(state.revents & POLLERR))
        return 0;
    if (u->type != SOCK_STREAM || u->peer || u->state != TCP_ESTABLISHED)
        return source_busy(v, src, e, "a Unix socket with an error that was not read yet");
    u->error = ECONNRESET;
    return 0;
}

/* ---- the whole */
int unix_save(struct saving *v, struct source *src, struct err *e)
{
    const struct diag_unix *d = diag_find_unix(&v->view.diag, src->facts.st.st_ino);
    if (!d)
        return source_refuse(v, src, e, "a Unix socket of another network namespace");
    struct unix_socket *u = LIST_ADD(&v->s->image, unix_sockets);
    u->id = src->file->ref = src->file->id;
    u->type = d->type;
    u->net_space = src->net;
    u->state = d->state;
    u->shutdown = d->shutdown;
    u->backlog = d->state == TCP_LISTEN ? d->send_len : 0;
    makers_save(v, src, u);
    if (name_save(v, src, d, u, e) < 0 || peer_save(v, src, d, u, e) < 0 ||
        sockbufs_save(src->fd, &u->sndbuf, &u->rcvbuf, &u->buf_lock, e) < 0 || error_save(v, src, u, e) < 0)
        return -1;
    if (d->state == TCP_LISTEN && d->receive_len != d->pending_count)
        return source_busy(v, src, e, "a Unix connection that was not accepted and whose maker is gone");
    if (sockfilter_save(src->fd, &u->options, &u->options_count, e) < 0)
        return source_refuse(v, src, e, "%s", e->message);
    sockopts_save(src->fd, OPT_UNIX, &u->options, &u->options_count);
    u->queue = src->queue;
    u->queue_count = src->queue_count;
    src->queue = NULL;
    src->queue_count = 0;
    return 0;
}
