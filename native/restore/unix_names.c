/* See unix_names.h. */
#include "unix_names.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../kernel/inside.h"
#include "spaces.h"

static int address_of(const struct unix_socket *u, struct sockaddr_un *address, struct err *e)
{
    memset(address, 0, sizeof *address);
    if (u->name.len <= offsetof(struct sockaddr_un, sun_path) || u->name.len > sizeof *address)
        return err_set(e, E_BAD_IMAGE, "a Unix socket with a name of %zu bytes", u->name.len);
    memcpy(address, u->name.data, u->name.len);
    return address->sun_family == AF_UNIX ? 0 : err_set(e, E_BAD_IMAGE, "a Unix socket with a name of family %d", address->sun_family);
}

/* Relative names count from the directory that the image tells. */
static int dir_enter(const char *dir, const char *path, struct err *e)
{
    if (!path[0] || path[0] == '/')
        return 0;
    AUTO_CLOSE int fd = inside_open(dir[0] ? dir : "/", O_PATH | O_DIRECTORY, 0);
    return fd < 0 || fchdir(fd) < 0 ? err_errno(e, "directory %s", dir) : 0;
}

static void dir_leave(void)
{
    CHECK(chdir("/") == 0);
}

bool name_equal(const struct bytes *a, const struct bytes *b)
{
    return a->len && a->len == b->len && !memcmp(a->data, b->data, a->len);
}

/* What stands at the place: the socket's own node goes (it comes anew), anything else waits aside. */
static int place_clear(struct names *n, const struct unix_socket *u, const char *path, int above, const char *name, struct err *e)
{
    struct stat st;
    char *aside = NULL;
    bool there = fstatat(above, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (there && u->mode && S_ISSOCK(st.st_mode))
        return unlinkat(above, name, 0) < 0 ? err_errno(e, "node %s", path) : 0;
    if (there) {
        aside = xasprintf("%s.aside-%d", name, (int)n->items_count);
        if (renameat(above, name, above, aside) < 0) {
            free(aside);
            return err_errno(e, "put %s aside", path);
        }
    } else if (u->mode)
        return 0;
    *LIST_ADD(n, items) = (struct borrowed){.mount_space = u->mount_space, .dir = xstrdup(u->dir), .path = xstrdup(path), .aside = aside};
    return 0;
}

/* The node that bind(2) just made. In the pod's own namespace again: that has a /proc. */
static int node_describe(const struct unix_socket *u, const char *path, int fd, struct err *e)
{
    struct stat st;
    char self[64];
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode))
        return err_set(e, E_BAD_IMAGE, "the name %s of a Unix socket leads elsewhere", path);
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    if (u->mode && (io_chown(fd, "", u->uid, u->gid, AT_EMPTY_PATH) < 0 || chmod(self, (mode_t)(u->mode & 0777)) < 0))
        return err_errno(e, "owner and mode of %s", path);
    return 0;
}

/* bind(2) walks the path itself, for the socket remembers it as it was given: `above` was opened first, without magic links. */
static int path_bind(struct names *n, int fd, const struct unix_socket *u, const struct sockaddr_un *address, const char *path, int *node, struct err *e)
{
    const char *name;
    AUTO_CLOSE int above = inside_parent(path, &name);
    if (above < 0)
        return err_errno(e, "name %s of a Unix socket", path);
    struct inside_times times = inside_times_keep(above);
    struct stat before;
    bool anew = fstatat(above, name, &before, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(before.st_mode);
    if (place_clear(n, u, path, above, name, e) < 0)
        return -1;
    if (bind(fd, (const struct sockaddr *)address, (socklen_t)u->name.len) < 0)
        return err_errno(e, "name %s of a Unix socket", path);
    if (anew)
        (void)!utimensat(above, name, (struct timespec[]){before.st_atim, before.st_mtim}, AT_SYMLINK_NOFOLLOW);
    inside_times_set(above, &times);
    *node = openat(above, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    return 0;
}

int name_bind(struct names *n, int fd, const struct unix_socket *u, struct err *e)
{
    struct sockaddr_un address;
    char path[sizeof address.sun_path + 1] = "";
    if (address_of(u, &address, e) < 0)
        return -1;
    memcpy(path, address.sun_path, sizeof address.sun_path);
    if (!path[0] && bind(fd, (struct sockaddr *)&address, (socklen_t)u->name.len) < 0)
        return err_errno(e, "name %s of a Unix socket", path + 1);
    if (!path[0])
        return 0;
    AUTO_CLOSE int node = -1;
    if (space_enter_maker(n->r, u->mount_space, e) < 0)
        return -1;
    int result = dir_enter(u->dir, path, e) < 0 ? -1 : path_bind(n, fd, u, &address, path, &node, e);
    dir_leave();
    space_leave_maker(n->r, u->mount_space);
    return result < 0 ? -1 : node_describe(u, path, node, e);
}

/* A node is reached by a descriptor of it, whatever links its path may hold. */
int name_reach(const struct restore *r, const struct unix_socket *u, struct sockaddr_un *out, size_t *len, int *held, struct err *e)
{
    struct stat st;
    char path[sizeof out->sun_path + 1] = "";
    *held = -1;
    if (address_of(u, out, e) < 0)
        return -1;
    *len = u->name.len;
    memcpy(path, out->sun_path, sizeof out->sun_path);
    if (!path[0])
        return 0;
    if (space_enter(r, u->mount_space, e) < 0)
        return -1;
    *held = dir_enter(u->dir, path, e) < 0 ? -1 : inside_open(path, O_PATH, 0);
    dir_leave();
    space_leave(r, u->mount_space);
    if (*held < 0 || fstat(*held, &st) < 0 || !S_ISSOCK(st.st_mode))
        return err_set(e, E_BAD_IMAGE, "no Unix socket is at %s", path);
    memset(out->sun_path, 0, sizeof out->sun_path);
    snprintf(out->sun_path, sizeof out->sun_path, "/proc/self/fd/%d", *held);
    *len = sizeof *out;
    return 0;
}

int name_connect(const struct restore *r, int fd, const struct unix_socket *u, const struct maker *maker, struct err *e)
{
    struct sockaddr_un address;
    size_t len;
    AUTO_CLOSE int held = -1;
    if (name_reach(r, u, &address, &len, &held, e) < 0)
        return -1;
    int result = maker ? maker_connect(maker, fd, &address, len) : connect(fd, (struct sockaddr *)&address, (socklen_t)len);
    return result < 0 ? err_errno(e, "connect a Unix socket") : 0;
}

static int place_restore(const struct borrowed *b, struct err *e)
{
    const char *name;
    AUTO_CLOSE int above = inside_parent(b->path, &name);
    struct inside_times times = inside_times_keep(above);
    if (above < 0 || unlinkat(above, name, 0) < 0 || (b->aside && renameat(above, b->aside, above, name) < 0))
        return err_errno(e, "put %s right", b->path);
    inside_times_set(above, &times);
    return 0;
}

int names_finish(struct names *n, struct err *e)
{
    for (size_t i = n->items_count; i-- > 0;) {
        const struct borrowed *b = &n->items[i];
        if (space_enter_maker(n->r, b->mount_space, e) < 0)
            return -1;
        int result = dir_enter(b->dir, b->path, e) < 0 ? -1 : place_restore(b, e);
        dir_leave();
        space_leave_maker(n->r, b->mount_space);
        if (result < 0)
            return -1;
    }
    return 0;
}

void names_free(struct names *n)
{
    for (size_t i = 0; i < n->items_count; i++) {
        free(n->items[i].dir);
        free(n->items[i].path);
        free(n->items[i].aside);
    }
    free(n->items);
    *n = (struct names){0};
}
