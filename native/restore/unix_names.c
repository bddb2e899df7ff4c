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

static int address_of(const struct unix_socket *u, struct sockaddr_un *address, struct err *e)
{
    memset(address, 0, sizeof *address);
    if (u->name.len <= offsetof(struct sockaddr_un, sun_path) || u->name.len > sizeof *address)
        return err_set(e, E_BAD_IMAGE, "a Unix socket with a name of %zu bytes", u->name.len);
    memcpy(address, u->name.data, u->name.len);
    return address->sun_family == AF_UNIX ? 0 : err_set(e, E_BAD_IMAGE, "a Unix socket with a name of family %d", address->sun_family);
}

/* Relative names count from the directory that the image tells. */
static int dir_enter(const struct unix_socket *u, const struct sockaddr_un *address, struct err *e)
{
    bool relative = address->sun_path[0] && address->sun_path[0] != '/';
    if (relative && chdir(u->dir[0] ? u->dir : "/") < 0)
        return err_errno(e, "directory %s", u->dir);
    return 0;
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
static int place_clear(struct names *n, const struct unix_socket *u, const char *path, struct err *e)
{
    struct stat st;
    char *aside = NULL;
    bool there = lstat(path, &st) == 0;
    if (there && u->mode && S_ISSOCK(st.st_mode))
        return unlink(path) < 0 ? err_errno(e, "node %s", path) : 0;
    if (there) {
        aside = xasprintf("%s.aside-%d", path, (int)n->items_count);
        if (rename(path, aside) < 0)
            return err_errno(e, "put %s aside", path);
    } else if (u->mode)
        return 0;
    *LIST_ADD(n, items) = (struct borrowed){.dir = xstrdup(u->dir), .path = xstrdup(path), .aside = aside};
    return 0;
}

static int node_describe(const struct unix_socket *u, const char *path, struct err *e)
{
    if (u->mode && (io_chown(AT_FDCWD, path, u->uid, u->gid, AT_SYMLINK_NOFOLLOW) < 0 || chmod(path, (mode_t)(u->mode & 0777)) < 0))
        return err_errno(e, "owner and mode of %s", path);
    return 0;
}

int name_bind(struct names *n, int fd, const struct unix_socket *u, struct err *e)
{
    struct sockaddr_un address;
    char path[sizeof address.sun_path + 1] = "";
    if (address_of(u, &address, e) < 0 || dir_enter(u, &address, e) < 0)
        return -1;
    memcpy(path, address.sun_path, sizeof address.sun_path);
    int result = path[0] ? place_clear(n, u, path, e) : 0;
    if (result == 0 && bind(fd, (struct sockaddr *)&address, (socklen_t)u->name.len) < 0)
        result = err_errno(e, "name %s of a Unix socket", path[0] ? path : path + 1);
    if (result == 0 && path[0])
        result = node_describe(u, path, e);
    dir_leave();
    return result;
}

int name_connect(int fd, const struct unix_socket *u, const struct maker *maker, struct err *e)
{
    struct sockaddr_un address;
    if (address_of(u, &address, e) < 0 || dir_enter(u, &address, e) < 0)
        return -1;
    int result = maker ? maker_connect(maker, fd, &address, u->name.len) : connect(fd, (struct sockaddr *)&address, (socklen_t)u->name.len);
    if (result < 0)
        (void)err_errno(e, "connect a Unix socket");
    dir_leave();
    return result;
}

int names_finish(struct names *n, struct err *e)
{
    for (size_t i = n->items_count; i-- > 0;) {
        const struct borrowed *b = &n->items[i];
        if (b->path[0] != '/' && chdir(b->dir[0] ? b->dir : "/") < 0)
            return err_errno(e, "directory %s", b->dir);
        if (unlink(b->path) < 0 || (b->aside && rename(b->aside, b->path) < 0))
            return err_errno(e, "put %s right", b->path);
        dir_leave();
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
