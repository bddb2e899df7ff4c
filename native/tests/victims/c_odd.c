/* The small things that a process may have set: priority, limits, umask, names, dumpable, locked memory, memory that no child gets, memory
 * without rights, a stack that grows, a personality, a directory of its own.
 * COVERAGE: nice value, umask, resource limits, dumpable, timer slack, names of processes and threads | captured |
 * COVERAGE: personality | captured |
 * COVERAGE: locked memory (mlock), madvise flags (dontfork, wipeonfork, dontdump) | captured |
 * COVERAGE: stack that grows down, guard pages, memory without rights | captured |
 * COVERAGE: memory above the heap (brk) | captured |
 * COVERAGE: CPU time used so far (times, getrusage, CPU-time clocks and their timers) | differs | counted from zero in the new process
 * COVERAGE: page fault, context switch and I/O counts of a process | differs | counted from zero in the new process
 * COVERAGE: start time of a process in /proc | differs | the moment of the restore
 * COVERAGE: kernel keyrings | differs | empty: the kernel lets nobody read a key of another
 * MATRIX: rootless refused it has made itself unreadable (PR_SET_DUMPABLE) */
#include <errno.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "victim.h"

#define BYTES (64 * 4096)

static long status_number(const char *key)
{
    char line[256];
    long value = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0)
            value = strtol(line + strlen(key), NULL, 10);
    if (f)
        fclose(f);
    return value;
}
static int deep(int level)
{
    volatile char room[16384];
    room[0] = (char)level;
    return level ? deep(level - 1) + room[0] - (char)level : 0;
}
static char *area(int prot, int flags, char what)
{
    char *at = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    MUST(at != MAP_FAILED);
    memset(at, what, BYTES);
    MUST(mprotect(at, BYTES, prot) == 0);
    return at;
}
static int all(const char *at, char what)
{
    for (size_t k = 0; k < BYTES; k++)
        if (at[k] != what)
            return 0;
    return 1;
}

int main(void)
{
    MUST(mkdir("/tmp/own", 0700) == 0 && chdir("/tmp/own") == 0);
    char *none = area(PROT_NONE, 0, 'n'), *reserve = area(PROT_READ, MAP_NORESERVE, 'r'), *no_fork = area(PROT_READ | PROT_WRITE, 0, 'f'),
         *wiped = area(PROT_READ | PROT_WRITE, 0, 'w'), *locked = area(PROT_READ | PROT_WRITE, 0, 'l');
    MUST(madvise(no_fork, BYTES, MADV_DONTFORK) == 0 && madvise(wiped, BYTES, MADV_WIPEONFORK) == 0 && mlock(locked, 8 * 4096) == 0);
    struct rlimit files = {77, 99}, core = {0, 0};
    MUST(setrlimit(RLIMIT_NOFILE, &files) == 0 && setrlimit(RLIMIT_CORE, &core) == 0);
    umask(037);
    MUST(setpriority(PRIO_PROCESS, 0, 15) == 0 && prctl(PR_SET_NAME, "odd (one) x") == 0 && prctl(PR_SET_TIMERSLACK, 123456) == 0);
    MUST(prctl(PR_SET_DUMPABLE, 0) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    MUST(prctl(PR_SET_PDEATHSIG, SIGHUP) == 0 && prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
    MUST(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 6) == 0 && personality(0x0040000) >= 0);
    void *brk = sbrk(10000);
    memset(brk, 'b', 10000);
    victim_wait();
    char name[32], cwd[64];
    int parent_death = 0;
    struct rlimit now;
    MUST(getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_cur == 77 && now.rlim_max == 99);
    MUST(umask(0) == 037 && getpriority(PRIO_PROCESS, 0) == 15 && prctl(PR_GET_NAME, name) == 0 && strcmp(name, "odd (one) x") == 0);
    MUST(prctl(PR_GET_TIMERSLACK) == 123456);
    MUST(prctl(PR_GET_DUMPABLE) == 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    MUST(prctl(PR_GET_PDEATHSIG, &parent_death) == 0 && parent_death == SIGHUP && prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1);
    MUST(syscall(SYS_ioprio_get, 1, 0) == (2 << 13 | 6) && personality(0xffffffff) == 0x0040000);
    MUST(getcwd(cwd, sizeof cwd) && strcmp(cwd, "/tmp/own") == 0 && sbrk(0) >= (void *)((char *)brk + 10000) && ((char *)brk)[9999] == 'b');
    MUST(prctl(PR_SET_DUMPABLE, 1) == 0 && status_number("VmLck:") == 32);
    MUST(mprotect(none, BYTES, PROT_READ) == 0 && all(none, 'n') && all(reserve, 'r') && all(no_fork, 'f') && all(wiped, 'w') && all(locked, 'l'));
    pid_t child = fork();
    if (child == 0)
        _exit(all(wiped, 0) && msync(no_fork, BYTES, MS_ASYNC) < 0 && errno == ENOMEM ? 4 : 1);
    int status;
    MUST(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 4);
    MUST(deep(200) == 0 && getuid() != 0 && setuid(0) < 0);
    return victim_ok();
}
