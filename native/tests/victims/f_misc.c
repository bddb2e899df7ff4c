/* The rest: UDP with a waiting datagram, netlink, inotify, locks of all three kinds, a descriptor that sends SIGIO to its owner.
 * COVERAGE: inotify | captured | rootless: not in the host's part of the root
 * COVERAGE: file lock (flock, POSIX, OFD) | captured |
 * COVERAGE: owner and signal of a descriptor (F_SETOWN, F_SETSIG, O_ASYNC) | captured |
 * COVERAGE: netlink socket | captured | bound and its groups */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "victim.h"

static volatile sig_atomic_t rung;
static void ring(int number)
{
    (void)number;
    rung++;
}
static void locks_check(void)
{
    pid_t pid = fork();
    int status;
    if (pid == 0) {
        struct flock l = {.l_type = F_WRLCK, .l_len = 20};
        int file = open("/tmp/locked", O_RDWR);
        MUST(flock(open("/proc/self/fd/1", O_WRONLY), LOCK_EX | LOCK_NB) < 0 || errno == ENXIO);
        MUST(flock(open("/dev/zero", O_RDONLY), LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK);
        MUST(flock(open("/tmp/flocked", O_RDWR), LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK);
        MUST(fcntl(file, F_GETLK, &l) == 0 && l.l_type == F_WRLCK && l.l_start == 5 && l.l_len == 3 && l.l_pid == getppid());
        l = (struct flock){.l_type = F_WRLCK, .l_start = 100};
        MUST(fcntl(file, F_GETLK, &l) == 0 && l.l_type == F_RDLCK && l.l_start == 200 && l.l_pid == -1);
        _exit(0);
    }
    MUST(waitpid(pid, &status, 0) == pid && status == 0);
}

int main(void)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_nl link = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    socklen_t len = sizeof any;
    char text[4096];
    int a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0), nl = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    MUST(bind(a, (void *)&any, sizeof any) == 0 && getsockname(a, (void *)&any, &len) == 0 && connect(b, (void *)&any, sizeof any) == 0);
    MUST(send(b, "datagram", 8, 0) == 8 && send(b, "another", 7, 0) == 7 && bind(nl, (void *)&link, sizeof link) == 0);
    MUST(mkdir("/tmp/watched", 0700) == 0);
    int watcher = inotify_init1(IN_NONBLOCK), wd = inotify_add_watch(watcher, "/tmp/watched", IN_CREATE);
    int flocked = open("/tmp/flocked", O_RDWR | O_CREAT, 0600), locked = open("/tmp/locked", O_RDWR | O_CREAT, 0600);
    struct flock posix = {.l_type = F_WRLCK, .l_start = 5, .l_len = 3}, ofd = {.l_type = F_RDLCK, .l_start = 200};
    MUST(flock(1, LOCK_EX) == 0 && flock(open("/dev/zero", O_RDONLY), LOCK_SH) == 0);
    MUST(flock(flocked, LOCK_EX) == 0 && fcntl(locked, F_SETLK, &posix) == 0 && fcntl(locked, F_OFD_SETLK, &ofd) == 0);
    int pair[2];
    signal(SIGIO, ring);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && fcntl(pair[0], F_SETOWN, getpid()) == 0);
    MUST(fcntl(pair[0], F_SETFL, O_ASYNC) == 0);
    victim_wait();
    MUST(recv(a, text, 64, MSG_DONTWAIT) == 8 && recv(a, text, 64, MSG_DONTWAIT) == 7 && send(b, "more", 4, 0) == 4 && recv(a, text, 64, 0) == 4);
    struct {
        struct nlmsghdr head;
        struct ifinfomsg link;
    } ask = {.head = {sizeof ask, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0}};
    MUST(send(nl, &ask, sizeof ask, 0) == sizeof ask && recv(nl, text, sizeof text, 0) > 100);
    MUST(close(open("/tmp/watched/new", O_CREAT | O_RDWR, 0600)) == 0 && read(watcher, text, sizeof text) > 0);
    MUST(((struct inotify_event *)(void *)text)->wd == wd);
    locks_check();
    rung = 0;
    MUST(fcntl(pair[0], F_GETOWN) == getpid() && write(pair[1], "x", 1) == 1 && rung > 0);
    return victim_ok();
}
