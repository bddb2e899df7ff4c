/* What victims share that make namespaces of their own: small files, and a user namespace with one user. */
#pragma once
#include <fcntl.h>
#include <sched.h>

#include "victim.h"

static __attribute__((unused)) void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0640);
    MUST(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && close(fd) == 0);
}

static __attribute__((unused)) int has(const char *path, const char *text)
{
    char data[256] = {0};
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, data, sizeof data - 1);
    close(fd);
    return n >= 0 && strcmp(data, text) == 0;
}

/* Makes these namespaces (CLONE_NEW…, the user's among them) and is this user and group in there. */
static __attribute__((unused)) void become(int spaces, uid_t user, gid_t group)
{
    char uids[64], gids[64];
    snprintf(uids, sizeof uids, "%u %u 1", user, getuid());
    snprintf(gids, sizeof gids, "%u %u 1", group, getgid());
    MUST(unshare(spaces) == 0);
    put("/proc/self/setgroups", "deny");
    put("/proc/self/uid_map", uids);
    put("/proc/self/gid_map", gids);
}
