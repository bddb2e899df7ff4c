/* See spaces.h. A helper tells podinit of each step: content to be filled in, which only podinit may read, and at last its namespace. */
#include "spaces.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/netlink.h>
#include <linux/securebits.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../image/tree.h"
#include "../kernel/nettables.h"
#include "files_load.h"
#include "load.h"

struct helper_word {
    uint32_t done;              /* the descriptor is the namespace; else: content is wanted */
    uint32_t fs, part;
    struct err error;
};

/* ---- talk */
static int word_send(int channel, const struct helper_word *word, int fd, struct err *e)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec data = {(void *)(uintptr_t)word, sizeof *word};
    struct msghdr m = {.msg_iov = &data, .msg_iovlen = 1};
    if (fd >= 0) {
        m.msg_control = &control;
        m.msg_controllen = sizeof control.room;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    return sendmsg(channel, &m, MSG_NOSIGNAL) == (ssize_t)sizeof *word ? 0 : err_errno(e, "tell podinit of a namespace");
}

static int word_receive(int channel, struct helper_word *word, int *fd, struct err *e)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec data = {word, sizeof *word};
    struct msghdr m = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.room};
    *fd = -1;
    if (recvmsg(channel, &m, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof *word)
        return err_set(e, E_OS, "the helper that makes a namespace died");
    const struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (c && c->cmsg_type == SCM_RIGHTS)
        memcpy(fd, CMSG_DATA(c), sizeof *fd);
    if (word->error.code == E_OK)
        return 0;
    *e = word->error;
    return -1;
}

/* ---- in the helper */
struct helper {
    struct restore *r;
    int channel;
};

static bool is_owner_already(const struct restore *r)
{
    return r->pod->facts.uid && getuid() == r->pod->facts.uid;
}

/* The pod's user and nothing else, for good; still to be looked at by those like it. */
static int owner_become(const struct restore *r, const gid_t *group, size_t groups, struct err *e)
{
    uid_t uid = (uid_t)r->pod->facts.uid;
    gid_t gid = (gid_t)r->pod->facts.gid;
    if (!is_owner_already(r) && (setgroups(groups, group) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0))
        return err_errno(e, "become the pod's user");
    return prctl(PR_SET_DUMPABLE, 1) < 0 ? err_errno(e, "PR_SET_DUMPABLE") : 0;
}

static int fill_ask(void *ctx, size_t fs, size_t part, int dir, struct err *e)
{
    const struct helper *h = ctx;
    struct helper_word word = {.fs = (uint32_t)fs, .part = (uint32_t)part};
    char answer;
    if (word_send(h->channel, &word, dir, e) < 0)
        return -1;
    return recv(h->channel, &answer, 1, 0) == 1 ? 0 : err_set(e, E_ABORTED, "podinit does not go on");
}

static int maps_write(const struct user_space *u, uint64_t uid, uint64_t gid, struct err *e)
{
    if (!u->setgroups && io_putf(e, "/proc/self/setgroups", "deny") < 0)
        return -1;
    if (u->has_uid && io_putf(e, "/proc/self/uid_map", "%lu %lu 1", u->uid, uid) < 0)
        return -1;
    return u->has_gid ? io_putf(e, "/proc/self/gid_map", "%lu %lu 1", u->gid, gid) : 0;
}

static int user_make(struct helper *h, size_t k, struct err *e)
{
    const struct image *image = h->r->image;
    const struct user_space *u = &image->user_spaces[k], *above = u->parent ? &image->user_spaces[u->parent - 1] : NULL;
    if (above && setns(h->r->user_fds[u->parent - 1], CLONE_NEWUSER) < 0)
        return err_errno(e, "enter the user namespace above");
    if (unshare(CLONE_NEWUSER) < 0)
        return err_errno(e, "make a user namespace");
    if (maps_write(u, above ? above->uid : image->pod.uid, above ? above->gid : image->pod.gid, e) < 0)
        return -1;
    int fd = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
    return fd < 0 ? err_errno(e, "open a user namespace") : fd;
}

static int mounts_make(struct helper *h, size_t k, struct err *e)
{
    const struct mount_space *m = &h->r->image->mount_spaces[k];
    const struct space_asks asks = {fill_ask, h};
    if (setns(h->r->user_fds[m->owner - 1], CLONE_NEWUSER) < 0 || unshare(CLONE_NEWNS) < 0)
        return err_errno(e, "make a mount namespace");
    AUTO_CLOSE int fd = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "open a mount namespace");
    return mounts_load(m, &asks, e) < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static int lo_up(struct err *e)
{
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    AUTO_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return fd < 0 || ioctl(fd, SIOCSIFFLAGS, &lo) < 0 ? err_errno(e, "bring a loopback device up") : 0;
}

static int other_fill(const struct other_space *o, struct err *e)
{
    if (o->kind == CLONE_NEWNET && o->messages_count) {
        if (netconf_apply(o->messages, o->messages_count, e) < 0)
            return -1;
        netconf_settle();
        return 0;
    }
    if (o->kind == CLONE_NEWNET && o->lo_up)
        return lo_up(e);
    if (o->kind == CLONE_NEWUTS && (sethostname(o->hostname, strlen(o->hostname)) < 0 || setdomainname(o->domain, strlen(o->domain)) < 0))
        return err_errno(e, "set a host name");
    return 0;
}

static int other_make(struct helper *h, size_t k, struct err *e)
{
    const struct other_space *o = &h->r->image->other_spaces[k];
    const char *name = o->kind == CLONE_NEWUTS ? "uts" : o->kind == CLONE_NEWIPC ? "ipc" : o->kind == CLONE_NEWNET ? "net" : "cgroup";
    AUTO_FREE char *path = xasprintf("/proc/self/ns/%s", name);
    if (setns(h->r->user_fds[o->owner - 1], CLONE_NEWUSER) < 0 || unshare((int)o->kind) < 0)
        return err_errno(e, "make a namespace (%s)", name);
    if (other_fill(o, e) < 0)
        return -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? err_errno(e, "open a namespace") : fd;
}

static _Noreturn void helper_main(struct helper *h, int (*make)(struct helper *h, size_t k, struct err *e), size_t k)
{
    struct helper_word word = {.done = 1};
    struct err ignored;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    umask(0);
    int fd = owner_become(h->r, NULL, 0, &word.error) < 0 ? -1 : make(h, k, &word.error);
    _exit(word_send(h->channel, &word, fd, &ignored) < 0);
}

/* ---- in podinit */
/* New files get the pod's owner, and every right stays: the store is root's. */
static void filler_begin(const struct restore *r)
{
    if (is_owner_already(r))
        return;
    CHECK(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP) == 0);
    setfsgid((gid_t)r->pod->facts.gid);
    setfsuid((uid_t)r->pod->facts.uid);
}

static void filler_end(const struct restore *r)
{
    if (is_owner_already(r))
        return;
    setfsuid(0);
    setfsgid(0);
    CHECK(prctl(PR_SET_SECUREBITS, 0) == 0 && prctl(PR_SET_DUMPABLE, 1) == 0);
}

static int part_fill(struct restore *r, size_t space, const struct helper_word *word, int dir, struct err *e)
{
    const struct mount_space *m = &r->image->mount_spaces[space];
    if (word->fs >= m->filesystems_count || word->part >= m->filesystems[word->fs].parts_count)
        return err_set(e, E_PROTOCOL, "content that is not there");
    const struct tree *tree = &m->filesystems[word->fs].parts[word->part].tree;
    filler_begin(r);
    int result = tree_load(dir, tree, r->store, e);
    filler_end(r);
    return result;
}

static int helper_serve(struct restore *r, int channel, size_t k, int *out, struct err *e)
{
    for (;;) {
        struct helper_word word;
        int fd;
        if (word_receive(channel, &word, &fd, e) < 0)
            return -1;
        if (word.done) {
            *out = fd < 0 ? -1 : high_place(r, fd, e);
            return *out < 0 ? -1 : 0;
        }
        AUTO_CLOSE int dir = fd;
        if (part_fill(r, k, &word, dir, e) < 0)
            return -1;
        if (send(channel, "", 1, MSG_NOSIGNAL) != 1)
            return err_errno(e, "answer a helper");
    }
}

static int helper_run(struct restore *r, int (*make)(struct helper *h, size_t k, struct err *e), size_t k, int *out, struct err *e)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return err_errno(e, "socketpair");
    pid_t pid = helper_spawn(r, SIGCHLD);
    if (pid == 0) {
        close(ends[0]);
        helper_main(&(struct helper){r, ends[1]}, make, k);
    }
    close(ends[1]);
    int result = pid < 0 ? err_errno(e, "start a helper") : helper_serve(r, ends[0], k, out, e);
    close(ends[0]);
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    return result;
}

int spaces_load(struct restore *r, struct err *e)
{
    const struct image *image = r->image;
    r->user_fds = xcalloc(image->user_spaces_count + 1, sizeof *r->user_fds);
    r->mount_fds = xcalloc(image->mount_spaces_count + 1, sizeof *r->mount_fds);
    r->other_fds = xcalloc(image->other_spaces_count + 1, sizeof *r->other_fds);
    r->home_fd = -1;
    if (!image->user_spaces_count)
        return 0;
    int home = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    r->home_fd = home < 0 ? err_errno(e, "the pod's mount namespace") : high_place(r, home, e);
    int net = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    r->home_net_fd = net < 0 ? err_errno(e, "the pod's network namespace") : high_place(r, net, e);
    if (r->home_fd < 0 || r->home_net_fd < 0)
        return -1;
    for (size_t k = 0; k < image->user_spaces_count; k++)
        if (helper_run(r, user_make, k, &r->user_fds[k], e) < 0)
            return err_wrap(e, "user namespace %zu of the job", k + 1);
    for (size_t k = 0; k < image->mount_spaces_count; k++)
        if (helper_run(r, mounts_make, k, &r->mount_fds[k], e) < 0)
            return err_wrap(e, "mount namespace %zu of the job", k + 1);
    for (size_t k = 0; k < image->other_spaces_count; k++)
        if (helper_run(r, other_make, k, &r->other_fds[k], e) < 0)
            return err_wrap(e, "namespace %zu of the job", k + 1);
    return 0;
}

/* Numbers of namespaces begin with 1; 0: the pod's own, in which we are. */
static int enter(uint64_t space, const int *fds, int kind, struct err *e)
{
    if (setns(fds[space - 1], kind) < 0)
        return err_errno(e, "enter a %s namespace of the job", kind == CLONE_NEWNET ? "network" : "mount");
    return 0;
}

static void leave(int home_fd, int kind)
{
    int number = errno;
    CHECK(setns(home_fd, kind) == 0);
    errno = number;
}

static int rules_make(struct helper *h, size_t k, struct err *e)
{
    const struct other_space *o = &h->r->image->other_spaces[k];
    if (setns(h->r->user_fds[o->owner - 1], CLONE_NEWUSER) < 0 || setns(h->r->other_fds[k], CLONE_NEWNET) < 0)
        return err_errno(e, "enter a network namespace of the job");
    return nettables_apply(o->messages, o->messages_count, e) < 0 ? -1 : fcntl(h->r->other_fds[k], F_DUPFD_CLOEXEC, 0);
}

static bool has_rules(const struct other_space *o)
{
    for (size_t k = 0; k < o->messages_count; k++)
        if (o->messages[k].protocol == NETLINK_NETFILTER)
            return true;
    return false;
}

int nets_rules_load(struct restore *r, struct err *e)
{
    for (size_t k = 0; k < r->image->other_spaces_count; k++) {
        int held = -1;
        if (!has_rules(&r->image->other_spaces[k]))
            continue;
        if (helper_run(r, rules_make, k, &held, e) < 0)
            return err_wrap(e, "namespace %zu of the job", k + 1);
        close(held);
    }
    return 0;
}

int space_enter(const struct restore *r, uint64_t mount_space, struct err *e)
{
    return mount_space ? enter(mount_space, r->mount_fds, CLONE_NEWNS, e) : 0;
}

void space_leave(const struct restore *r, uint64_t mount_space)
{
    if (mount_space)
        leave(r->home_fd, CLONE_NEWNS);
}

int net_enter(const struct restore *r, uint64_t net_space, struct err *e)
{
    return net_space ? enter(net_space, r->other_fds, CLONE_NEWNET, e) : 0;
}

void net_leave(const struct restore *r, uint64_t net_space)
{
    if (net_space)
        leave(r->home_net_fd, CLONE_NEWNET);
}

int net_enter_maker(const struct restore *r, uint64_t net_space, struct err *e)
{
    if (net_enter(r, net_space, e) < 0)
        return -1;
    if (net_space)
        filler_begin(r);
    return 0;
}

void net_leave_maker(const struct restore *r, uint64_t net_space)
{
    int number = errno;
    if (net_space)
        filler_end(r);
    net_leave(r, net_space);
    errno = number;
}

int space_enter_maker(const struct restore *r, uint64_t mount_space, struct err *e)
{
    if (space_enter(r, mount_space, e) < 0)
        return -1;
    if (mount_space)
        filler_begin(r);
    return 0;
}

void space_leave_maker(const struct restore *r, uint64_t mount_space)
{
    int number = errno;
    if (mount_space)
        filler_end(r);
    space_leave(r, mount_space);
    errno = number;
}

int *spaces_keep(const struct restore *r, size_t *count)
{
    const struct image *image = r->image;
    int *out = xcalloc(image->memobjs_count + image->user_spaces_count + image->mount_spaces_count + image->other_spaces_count + 1, sizeof *out);
    memcpy(out, r->memobj_fds, image->memobjs_count * sizeof *out);
    *count = image->memobjs_count;
    for (size_t k = 0; k < image->user_spaces_count; k++)
        out[(*count)++] = r->user_fds[k];
    for (size_t k = 0; k < image->mount_spaces_count; k++)
        out[(*count)++] = r->mount_fds[k];
    for (size_t k = 0; k < image->other_spaces_count; k++)
        out[(*count)++] = r->other_fds[k];
    return out;
}

bool space_is_own(const struct task *t)
{
    return t->user_space != 0;
}

/* Those of its namespaces that belong to this user namespace. */
static int owned_join(const struct restore *r, const struct task *t, uint64_t owner, struct err *e)
{
    const struct image *image = r->image;
    const uint64_t others[] = {t->uts_space, t->ipc_space, t->net_space, t->cgroup_space};
    if (t->mount_space && image->mount_spaces[t->mount_space - 1].owner == owner && setns(r->mount_fds[t->mount_space - 1], CLONE_NEWNS) < 0)
        return err_errno(e, "join its mount namespace");
    for (size_t k = 0; k < ARRAY_LENGTH(others); k++)
        if (others[k] && image->other_spaces[others[k] - 1].owner == owner &&
            setns(r->other_fds[others[k] - 1], (int)image->other_spaces[others[k] - 1].kind) < 0)
            return err_errno(e, "join a namespace of its own");
    return 0;
}

/* From above to below: in an inner user namespace it has no rights over what belongs to an outer one. */
static int users_join(const struct restore *r, const struct task *t, uint64_t user, struct err *e)
{
    uint64_t above = r->image->user_spaces[user - 1].parent;
    if (above && users_join(r, t, above, e) < 0)
        return -1;
    if (setns(r->user_fds[user - 1], CLONE_NEWUSER) < 0)
        return err_errno(e, "join its user namespace");
    return owned_join(r, t, user, e);
}

int space_join(const struct restore *r, const struct task *t, struct err *e)
{
    const struct image *image = r->image;
    gid_t group = (gid_t)image->pod.gid;
    if (t->user_space) {
        if (owner_become(r, &group, t->threads[0].creds.groups.len ? 1 : 0, e) < 0)
            return -1;
        if (users_join(r, t, t->user_space, e) < 0)
            return -1;
        if (prctl(PR_SET_DUMPABLE, 1) < 0)
            return err_errno(e, "PR_SET_DUMPABLE");
    }
    for (size_t k = 0; k < image->user_spaces_count; k++)
        close(r->user_fds[k]);
    for (size_t k = 0; k < image->mount_spaces_count; k++)
        close(r->mount_fds[k]);
    for (size_t k = 0; k < image->other_spaces_count; k++)
        close(r->other_fds[k]);
    return 0;
}

/* ---- numbers of threads */
int next_pid_open(struct restore *r, struct err *e)
{
    r->next_pid_fd = -1;
    if (!r->image->user_spaces_count)
        return 0;
    int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
    r->next_pid_fd = fd < 0 ? err_errno(e, "open ns_last_pid") : high_place(r, fd, e);
    return r->next_pid_fd < 0 ? -1 : 0;
}

int next_pid_set(const struct restore *r, uint64_t pid, struct err *e)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%lu", pid - 1);
    if (r->next_pid_fd < 0 || pwrite(r->next_pid_fd, text, (size_t)n, 0) != n)
        return err_errno(e, "set the next number of a thread");
    return 0;
}
