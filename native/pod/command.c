/* See command.h. */
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "root.h"

#define ENVIRONMENT_BYTES_MAX (4u << 20)

/* ---- environment */

int environment_read(const char *path, char ***envp, struct err *e)
{
    struct buf text = {0};
    size_t count = 0;
    if (io_slurp(AT_FDCWD, path, &text, ENVIRONMENT_BYTES_MAX, e) < 0) {
        buf_free(&text);
        return -1;
    }
    char **list = xcalloc(text.len + 2, sizeof *list);
    for (char *at = (char *)text.data, *end = at + text.len; at < end; at += strlen(at) + 1) {
        if (!strchr(at, '=') || *at == '=') {
            err_set(e, E_USAGE, "the environment %s: '%.80s' is not KEY=VALUE", path, at);
            buf_free(&text);
            free(list);
            return -1;
        }
        list[count++] = at;
    }
    if (!count)
        buf_free(&text);
    *envp = list;
    return 0;
}

char **environment_plain(const struct pod_facts *facts)
{
    char **list = xcalloc(6, sizeof *list);
    list[0] = xstrdup("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    list[1] = xstrdup("HOME=/tmp");
    list[2] = xasprintf("HOSTNAME=%s", facts->hostname);
    list[3] = xstrdup("LANG=C.UTF-8");
    return list;
}

/* ---- becoming COMMAND */

static int capabilities_drop(struct err *e)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    if (syscall(SYS_capset, &header, none) < 0)
        return err_errno(e, "drop capabilities");
    return 0;
}

static int bounding_drop(struct err *e)
{
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0)
            return err_errno(e, "drop capability %d", capability);
    return 0;
}

/* A user namespace made by an ordinary user may be forbidden to change groups at all; then they stay what the user's are. */
static int groups_clear(void)
{
    struct err ignored;
    AUTO_BUF struct buf text = {0};
    if (setgroups(0, NULL) == 0)
        return 0;
    bool denied = io_slurp(AT_FDCWD, "/proc/self/setgroups", &text, 64, &ignored) == 0 && text.data && strncmp((char *)text.data, "deny", 4) == 0;
    errno = EPERM;
    return denied ? 0 : -1;
}

static int credentials_set(uid_t uid, gid_t gid, struct err *e)
{
    if (bounding_drop(e) < 0)
        return -1;
    if (groups_clear() < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return err_errno(e, "become user %u, group %u", uid, gid);
    if (capabilities_drop(e) < 0)
        return -1;
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    CHECK(getuid() == uid && geteuid() == uid && getgid() == gid && (uid == 0 || setuid(0) < 0));
    return 0;
}

static void signals_reset(void)
{
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

int command_become(const struct pod_facts *facts, const struct command *command, struct err *e)
{
    uid_t uid = command->as_root ? 0 : (uid_t)facts->uid;
    gid_t gid = command->as_root ? 0 : (gid_t)facts->gid;
    setsid();
    signals_reset();
    umask(022);
    if (!facts->io_uring_allowed && pod_seccomp_io_uring(e) < 0)
        return -1;
    if (credentials_set(uid, gid, e) < 0)
        return -1;
    if (chdir(command->workdir ? command->workdir : "/") < 0) {
        err_errno(e, "the working directory %s", command->workdir);
        e->code = E_NO_COMMAND;
        return -1;
    }
    char **envp = command->envp ? command->envp : environment_plain(facts);
    environ = envp; /* execvp takes PATH from here */
    execvp(command->argv[0], command->argv);
    err_errno(e, "start %s", command->argv[0]);
    e->code = E_NO_COMMAND;
    return -1;
}

static _Noreturn void child_main(const struct pod *pod, const struct command *command, int report_fd)
{
    struct err error = {0}, ignored;
    int null = open("/dev/null", O_RDONLY);
    dup2(null, 0);
    dup2(pod->stdout_fd, 1);
    dup2(pod->stderr_fd, 2);
    close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
    command_become(&pod->facts, command, &error);
    if (io_write_all(report_fd, &error, sizeof error, &ignored) < 0)
        _exit(E_PROTOCOL);
    _exit((int)error.code);
}

int command_start(const struct pod *pod, const struct command *command, pid_t *pid, struct err *e)
{
    int ends[2];
    struct err outcome, ignored;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_errno(e, "pipe");
    *pid = fork();
    if (*pid == 0)
        child_main(pod, command, ends[1]);
    close(ends[1]);
    AUTO_CLOSE int report = ends[0];
    if (*pid < 0)
        return err_errno(e, "fork");
    if (io_read_all(report, &outcome, sizeof outcome, &ignored) < 0)
        return 0; /* its end closed by the execution of COMMAND */
    waitpid(*pid, NULL, 0);
    *e = outcome;
    return -1;
}
