/* See unix_maker.h. */
#include "unix_maker.h"

#include <errno.h>
#include <linux/sched.h>
#include <string.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum operation { MAKE_PAIR, MAKE_CONNECT, MAKE_LISTEN, MAKE_SEND };

/* In memory that the helper shares: its answer comes back here. */
struct order {
    enum operation operation;
    int type, fd, backlog, fds[2];
    struct sockaddr_un address;
    socklen_t len;
    const struct msghdr *message; /* the helper has a copy of our memory */
    struct ucred *creds;
    int result, number;
};

struct maker maker_of(const struct restore *r, const struct unix_socket *u)
{
    const struct pod_facts *pod = &r->pod->facts;
    return (struct maker){.pid = u->peer_pid, .uid = (uid_t)(pod->uid ? pod->uid : u->peer_uid), .gid = (gid_t)(pod->uid ? pod->gid : u->peer_gid)};
}

static void order_do(struct order *o)
{
    switch (o->operation) {
    case MAKE_PAIR:
        o->result = socketpair(AF_UNIX, o->type | SOCK_CLOEXEC, 0, o->fds);
        break;
    case MAKE_CONNECT:
        o->result = connect(o->fd, (struct sockaddr *)&o->address, o->len);
        break;
    case MAKE_LISTEN:
        o->result = listen(o->fd, o->backlog);
        break;
    case MAKE_SEND:
        o->creds->pid = getpid();
        o->result = (int)sendmsg(o->fd, o->message, MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    }
    o->number = errno;
}

/* Only the ids that SO_PEERCRED shows: with all of them changed it could not reach every name. */
static _Noreturn void helper_run(const struct maker *m, struct order *o)
{
    if (syscall(SYS_setresgid, -1, m->gid, -1) == 0 && syscall(SYS_setresuid, -1, m->uid, -1) == 0) {
        syscall(SYS_setfsuid, 0);
        order_do(o);
    }
    _exit(0);
}

static bool helper_try(const struct maker *m, struct order *o)
{
    pid_t wanted = (pid_t)m->pid;
    struct clone_args args = {.flags = CLONE_FILES, .set_tid = (uint64_t)(uintptr_t)&wanted, .set_tid_size = 1};
    if (m->pid < 2 || m->pid > INT32_MAX)
        return false;
    o->result = -1;
    o->number = ECANCELED;
    long pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0)
        helper_run(m, o);
    if (pid < 0)
        return false;
    while (waitpid((pid_t)pid, NULL, __WALL) < 0 && errno == EINTR)
        ;
    return o->number != ECANCELED;
}

/* Without a helper the call is made here: all is right then but for what SO_PEERCRED shows. */
static int order_run(const struct maker *m, const struct order *order, int fds[2])
{
    static struct order *shared;
    if (!shared)
        shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    *shared = *order;
    if (!helper_try(m, shared)) {
        *shared = *order;
        order_do(shared);
    }
    if (fds)
        memcpy(fds, shared->fds, sizeof shared->fds);
    errno = shared->number;
    return shared->result;
}

int maker_pair(const struct maker *m, int type, int fds[2])
{
    return order_run(m, &(struct order){.operation = MAKE_PAIR, .type = type}, fds);
}

int maker_connect(const struct maker *m, int fd, const void *address, size_t len)
{
    struct order order = {.operation = MAKE_CONNECT, .fd = fd, .len = (socklen_t)len};
    if (len > sizeof order.address) {
        errno = EINVAL;
        return -1;
    }
    memcpy(&order.address, address, len);
    return order_run(m, &order, NULL);
}

int maker_listen(const struct maker *m, int fd, int backlog)
{
    return order_run(m, &(struct order){.operation = MAKE_LISTEN, .fd = fd, .backlog = backlog}, NULL);
}

int maker_send(const struct maker *m, int fd, const struct msghdr *message, struct ucred *creds)
{
    return order_run(m, &(struct order){.operation = MAKE_SEND, .fd = fd, .message = message, .creds = creds}, NULL);
}
