/* A tree: sessions, groups, a dead group leader, a session whose leader is dead, a zombie, a stopped child, an orphan of podinit.
 * COVERAGE: tree of processes: sessions, groups, dead group and session leaders | captured |
 * COVERAGE: zombie | captured | with its exit status, name and owner
 * COVERAGE: stopped process | captured |
 * COVERAGE: orphan of process 1 | captured | */
#include <errno.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "victim.h"

static void stay(const char *what, pid_t sid, pid_t pgid, pid_t ppid)
{
    while (!asked) {
        if (getsid(0) != sid || getpgid(0) != pgid || (ppid && getppid() != ppid))
            fail(what);
        usleep(10000);
    }
    _exit(7);
}
static pid_t born(void)
{
    pid_t pid = fork();
    MUST(pid >= 0);
    return pid;
}

/* A zombie keeps its name and its owner. */
static void look_at_dead(pid_t pid)
{
    char path[64], line[256], name[32] = "", own[32] = "";
    unsigned uid = 12345;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *status = fopen(path, "r");
    while (status && fgets(line, sizeof line, status)) {
        sscanf(line, "Name: %31s", name);
        sscanf(line, "Uid: %u", &uid);
    }
    fclose(status);
    MUST(prctl(PR_GET_NAME, own) == 0 && strcmp(name, own) == 0 && uid == getuid());
}

int main(void)
{
    int back[2];
    pid_t me = getpid(), zombie, stopped, orphan, dead_session, deep, killed;
    MUST(pipe(back) == 0);
    struct sigaction a = {.sa_handler = victim_ask};
    sigaction(SIGUSR1, &a, NULL);
    if ((zombie = born()) == 0)
        _exit(42);
    if ((killed = born()) == 0) {
        raise(SIGKILL);
        _exit(1);
    }
    if ((stopped = born()) == 0)
        stay("stopped", me, me, me);
    kill(stopped, SIGSTOP);
    MUST(waitpid(stopped, NULL, WUNTRACED) == stopped);
    if ((deep = born()) == 0) { /* a child older than its parent's own session */
        pid_t old = born();
        if (old == 0)
            stay("older than the session", me, me, getppid());
        setsid();
        pid_t young = born();
        if (young == 0) {
            setpgid(0, 0);
            stay("group of its own", getppid(), getpid(), getppid());
        }
        while (!asked)
            pause();
        kill(old, SIGUSR1), kill(young, SIGUSR1);
        int status;
        MUST(waitpid(old, &status, 0) == old && WEXITSTATUS(status) == 7);
        MUST(waitpid(young, &status, 0) == young && WEXITSTATUS(status) == 7);
        _exit(8);
    }
    pid_t middle = born();
    if (middle == 0) { /* leaves an orphan in our session and group */
        pid_t pid = born();
        if (pid == 0)
            stay("orphan", me, me, 0);
        MUST(write(back[1], &pid, sizeof pid) == sizeof pid);
        _exit(0);
    }
    MUST(read(back[0], &orphan, sizeof orphan) == sizeof orphan && waitpid(middle, NULL, 0) == middle);
    pid_t daemon_middle = born();
    if (daemon_middle == 0) { /* a session whose leader is dead, in a group whose leader is dead */
        setsid();
        pid_t pid = born();
        if (pid == 0)
            stay("session of the dead", getppid() == 1 ? getsid(0) : getppid(), getpgid(0), 0);
        MUST(write(back[1], &pid, sizeof pid) == sizeof pid);
        _exit(0);
    }
    MUST(read(back[0], &dead_session, sizeof dead_session) == sizeof dead_session && waitpid(daemon_middle, NULL, 0) == daemon_middle);
    pid_t old_session = getsid(dead_session), old_group = getpgid(dead_session), stopped_group = getpgid(stopped);
    MUST(old_session == daemon_middle && old_group == daemon_middle);
    usleep(50000);
    victim_ready();
    while (!asked)
        usleep(10000);
    int status;
    MUST(getsid(dead_session) == old_session && getpgid(dead_session) == old_group && getpgid(stopped) == stopped_group);
    MUST(getsid(orphan) == me && getpgid(orphan) == me);
    look_at_dead(zombie);
    MUST(waitpid(zombie, &status, WNOHANG) == zombie && WIFEXITED(status) && WEXITSTATUS(status) == 42);
    MUST(waitpid(killed, &status, WNOHANG) == killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    MUST(kill(stopped, SIGUSR1) == 0);
    usleep(50000);
    MUST(waitpid(stopped, &status, WNOHANG) == 0); /* still stopped */
    MUST(kill(stopped, SIGCONT) == 0 && waitpid(stopped, &status, 0) == stopped && WEXITSTATUS(status) == 7);
    MUST(kill(deep, SIGUSR1) == 0 && waitpid(deep, &status, 0) == deep && WIFEXITED(status) && WEXITSTATUS(status) == 8);
    MUST(kill(orphan, SIGUSR1) == 0 && kill(dead_session, SIGUSR1) == 0);
    pid_t new = fork();
    if (new == 0)
        _exit(3);
    MUST(waitpid(new, &status, 0) == new && WEXITSTATUS(status) == 3 && waitpid(-1, NULL, 0) < 0 && errno == ECHILD);
    return victim_ok();
}
