/* SO_PEERCRED remembers who called socketpair(2), connect(2) or listen(2), SCM_CREDENTIALS who called sendmsg(2). Before the tree is made its pids are free: a helper with the
 * maker's pid and ids makes the call, on podinit's own table of descriptors, and is gone again. */
#pragma once
#include <sys/socket.h>

#include "files_load.h"

struct maker {
    uint64_t pid;            /* inside the pod; 0: podinit itself calls (the maker's pid is not known any more) */
    uid_t uid;
    gid_t gid;
};
/* Whom SO_PEERCRED of u shows; an unprivileged pod's image cannot name other users than the pod's. */
struct maker maker_of(const struct restore *r, const struct unix_socket *u);
/* As the system calls: 0, or -1 and errno. */
int maker_pair(const struct maker *m, int type, int fds[2]);
int maker_connect(const struct maker *m, int fd, const void *address, size_t len);
/* `creds` lies in the message's control data: it is filled in with who calls. */
int maker_send(const struct maker *m, int fd, const struct msghdr *message, struct ucred *creds);
int maker_listen(const struct maker *m, int fd, int backlog);
