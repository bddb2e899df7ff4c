/* See spaces.h: host name, IPC and control group namespaces, each looked at by a child that enters it (network namespaces: nets_save.h). Of IPC only those without
 * POSIX queues. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "nets_save.h"

const char *const other_names[OTHER_KINDS] = {"uts", "ipc", "net", "cgroup"};
static const int other_flags[OTHER_KINDS] = {CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWCGROUP};

struct look {
    char hostname[65], domain[65], trouble[128];
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
    if (queues_are_there(init_pid))
        trouble(out, "POSIX message queues in it");
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
    _exit(io_write_all(to, &out, sizeof out, &ignored) < 0);
}

static int net_read(const struct spaces *s, int space, struct other_space *out, struct err *e)
{
    out->kind = CLONE_NEWNET;
    out->hostname = xstrdup("");
    out->domain = xstrdup("");
    return nets_read(space, s->users[out->owner - 1].fd, out, e);
}

int other_read(const struct spaces *s, int space, enum other_kind kind, struct other_space *out, struct err *e)
{
    int ends[2];
    struct look look = {0};
    if (kind == OTHER_NET)
        return net_read(s, space, out, e);
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
    if (told < 0 || !look.done)
        return err_wrap(e, "the helper that looks at it died");
    return look.trouble[0] ? err_set(e, E_UNSUPPORTED, "%s", look.trouble) : 0;
}
