/* See spaces.h: host name, IPC, network and control group namespaces, each looked at by a child that enters it. Of the middle two only those in which
 * nothing is but what a new one has. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "spaces.h"

const char *const other_names[OTHER_KINDS] = {"uts", "ipc", "net", "cgroup"};
static const int other_flags[OTHER_KINDS] = {CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWCGROUP};

struct net_counts {
    int links, addresses, routes, rules, tables;
};
/* What a new network namespace has, with its loopback device down and up: making one takes long, and is done before the pause. */
static struct {
    bool known;
    struct net_counts counts;
} fresh_nets[2];

struct look {
    struct net_counts fresh;
    char hostname[65], domain[65], trouble[128];
    uint64_t lo_up;
    bool done;
};

static void trouble(struct look *out, const char *words)
{
    if (!out->trouble[0])
        snprintf(out->trouble, sizeof out->trouble, "%s", words);
}

/* ---- in the child */
static void uts_look(struct look *out)
{
    struct utsname u;
    uname(&u);
    snprintf(out->hostname, sizeof out->hostname, "%s", u.nodename);
    snprintf(out->domain, sizeof out->domain, "%s", u.domainname);
}

static bool queues_are_there(pid_t init_pid)
{
    AUTO_FREE char *path = xasprintf("/proc/%d/ns/mnt", init_pid);
    AUTO_CLOSE int pods = open(path, O_RDONLY | O_CLOEXEC), fs = -1, top = -1;
    if (pods < 0 || setns(pods, CLONE_NEWNS) < 0) /* an ordinary user may mount there only */
        return true;
    fs = fsopen("mqueue", FSOPEN_CLOEXEC);
    if (fs < 0)
        return errno != ENODEV;
    top = fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0 ? -1 : fsmount(fs, FSMOUNT_CLOEXEC, 0);
    int fd = top < 0 ? -1 : openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO_DIR DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    for (const struct dirent *d; dir && (d = readdir(dir));)
        if (d->d_name[0] != '.')
            return true;
    return !dir;
}

static void ipc_look(pid_t init_pid, struct look *out)
{
    struct shm_info segments;
    struct seminfo sets;
    struct msginfo queues;
    if (shmctl(0, SHM_INFO, (struct shmid_ds *)&segments) < 0 || segments.used_ids)
        trouble(out, "System V shared memory in it");
    if (semctl(0, 0, SEM_INFO, &sets) < 0 || sets.semusz)
        trouble(out, "System V semaphores in it");
    if (msgctl(0, MSG_INFO, (struct msqid_ds *)&queues) < 0 || queues.msgpool)
        trouble(out, "System V message queues in it");
    if (queues_are_there(init_pid))
        trouble(out, "POSIX message queues in it");
}

/* How many answers a dump gives; -1: none can be asked for. */
static int dump_count(int protocol, uint16_t type, size_t header)
{
    struct {
        struct nlmsghdr head;
        char body[64];
    } ask = {.head = {.nlmsg_len = (uint32_t)NLMSG_LENGTH(header), .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP}};
    _Alignas(8) char answer[65536];
    AUTO_CLOSE int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    int found = 0;
    if (fd < 0 || send(fd, &ask, ask.head.nlmsg_len, 0) < 0)
        return -1;
    for (;;) {
        ssize_t n = recv(fd, answer, sizeof answer, 0);
        if (n <= 0)
            return -1;
        size_t left = (size_t)n;
        for (const struct nlmsghdr *h = (const struct nlmsghdr *)answer; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            if (h->nlmsg_type == NLMSG_DONE)
                return found;
            if (h->nlmsg_type == NLMSG_ERROR)
                return -1;
            found++;
        }
    }
}

static struct net_counts net_count(void)
{
    return (struct net_counts){dump_count(NETLINK_ROUTE, RTM_GETLINK, sizeof(struct ifinfomsg)), dump_count(NETLINK_ROUTE, RTM_GETADDR, sizeof(struct ifaddrmsg)),
                               dump_count(NETLINK_ROUTE, RTM_GETROUTE, sizeof(struct rtmsg)), dump_count(NETLINK_ROUTE, RTM_GETRULE, sizeof(struct rtmsg)),
                               dump_count(NETLINK_NETFILTER, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE, sizeof(struct nfgenmsg))};
}

static short lo_flags(int fd, short set)
{
    struct ifreq lo = {.ifr_name = "lo"};
    if (ioctl(fd, SIOCGIFFLAGS, &lo) < 0)
        return 0;
    if (!set)
        return lo.ifr_flags;
    lo.ifr_flags = set;
    return ioctl(fd, SIOCSIFFLAGS, &lo) < 0 ? 0 : set;
}

static bool lo_is_plain(int fd)
{
    struct ifreq lo = {.ifr_name = "lo"}, mtu = {.ifr_name = "lo"};
    struct sockaddr_in address;
    if (ioctl(fd, SIOCGIFMTU, &mtu) < 0 || mtu.ifr_mtu != 65536)
        return false;
    if (ioctl(fd, SIOCGIFADDR, &lo) < 0)
        return errno == EADDRNOTAVAIL;
    memcpy(&address, &lo.ifr_addr, sizeof address);
    return address.sin_addr.s_addr == htonl(INADDR_LOOPBACK);
}

static struct net_counts fresh_count(struct look *out)
{
    if (unshare(CLONE_NEWNET) < 0)
        trouble(out, "no network namespace can be made to compare it with");
    AUTO_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (out->lo_up && !lo_flags(fd, (short)(IFF_UP | IFF_RUNNING)))
        trouble(out, "a loopback device that cannot be brought up");
    return net_count();
}

/* Compared with a new one, whose loopback device is as this one's. */
static void net_look(struct look *out)
{
    struct net_counts own = net_count();
    AUTO_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    short flags = lo_flags(fd, 0);
    bool plain = lo_is_plain(fd);
    out->lo_up = (flags & IFF_UP) != 0;
    if (own.links != 1)
        trouble(out, "network devices in it");
    if (own.tables != 0)
        trouble(out, "nftables rules in it, or they cannot be read");
    if (!plain)
        trouble(out, "a loopback device that is not as in a new one");
    out->fresh = fresh_nets[out->lo_up].known ? fresh_nets[out->lo_up].counts : fresh_count(out);
    const struct net_counts *fresh = &out->fresh;
    if (own.addresses != fresh->addresses || own.routes != fresh->routes || own.rules != fresh->rules || own.routes < 0)
        trouble(out, "addresses, routes or rules in it that a new one has not");
}

static _Noreturn void look_main(pid_t init_pid, int space, enum other_kind kind, int to)
{
    struct look out = {.done = true};
    struct err ignored;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (setns(space, other_flags[kind]) < 0)
        trouble(&out, "it cannot be entered");
    else if (kind == OTHER_UTS)
        uts_look(&out);
    else if (kind == OTHER_IPC)
        ipc_look(init_pid, &out);
    else if (kind == OTHER_NET)
        net_look(&out);
    _exit(io_write_all(to, &out, sizeof out, &ignored) < 0);
}

int other_read(const struct spaces *s, int space, enum other_kind kind, struct other_space *out, struct err *e)
{
    int ends[2];
    struct look look = {0};
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_errno(e, "pipe");
    pid_t child = fork();
    if (child == 0)
        look_main(s->pod->init_pid, space, kind, ends[1]);
    close(ends[1]);
    AUTO_CLOSE int from = ends[0];
    if (child < 0)
        return err_errno(e, "fork");
    int told = io_read_all(from, &look, sizeof look, e);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        continue;
    out->kind = (uint64_t)other_flags[kind];
    out->hostname = xstrdup(look.hostname);
    out->domain = xstrdup(look.domain);
    out->lo_up = look.lo_up;
    if (told < 0 || !look.done)
        return err_wrap(e, "the helper that looks at it died");
    if (kind == OTHER_NET && !look.trouble[0]) {
        fresh_nets[look.lo_up].counts = look.fresh;
        fresh_nets[look.lo_up].known = true;
    }
    return look.trouble[0] ? err_set(e, E_UNSUPPORTED, "%s", look.trouble) : 0;
}
