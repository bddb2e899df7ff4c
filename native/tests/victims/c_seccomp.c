/* seccomp filters: two that all threads have (one set for all at once), one that a single thread has of its own; they hold after a restore, and another
 * one can still be set for all at once. */
/* MATRIX: rootless refused it has seccomp filters of its own, which only root can read */
/* COVERAGE: seccomp filters, per thread | captured | rootless: refused by name; so are filters that would end the process for the engine's own calls
 * COVERAGE: strict mode of seccomp | refused | it is in the strict mode of seccomp
 * COVERAGE: seccomp filters that end the process | refused | its seccomp filters end it for a call that the engine has to make in it */
/* MATRIX: rootless refused it has seccomp filters of its own, which only root can read */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "victim.h"

static volatile int there, ending;

/* The call fails with this error. */
static void forbid(unsigned number, unsigned error, unsigned flags)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) == 0);
}
static int fails_with(long number, int error)
{
    return syscall(number, -1, -1, -1) < 0 && errno == error;
}
static void check(int own)
{
    MUST(fails_with(SYS_mkdirat, 71) && fails_with(SYS_munlockall, 72));
    MUST(fails_with(SYS_fchdir, own ? 73 : EBADF));
}
static void wait_for(volatile int *what, int value)
{
    while (__atomic_load_n(what, __ATOMIC_SEQ_CST) < value)
        usleep(5000);
}
static void *plain(void *unused)
{
    wait_for(&there, 1);
    check(0);
    __atomic_add_fetch(&there, 1, __ATOMIC_SEQ_CST);
    wait_for(&ending, 2);
    check(0);
    MUST(fails_with(SYS_fchmod, 74)); /* set for all by the first thread after the restore */
    return unused;
}
static void *strict(void *unused)
{
    forbid(SYS_fchdir, 73, 0);
    check(1);
    __atomic_add_fetch(&there, 1, __ATOMIC_SEQ_CST);
    wait_for(&ending, 1);
    check(1);
    return unused;
}

int main(void)
{
    pthread_t a, b;
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    forbid(SYS_mkdirat, 71, SECCOMP_FILTER_FLAG_LOG);
    MUST(pthread_create(&a, NULL, plain, NULL) == 0);
    forbid(SYS_munlockall, 72, SECCOMP_FILTER_FLAG_TSYNC);
    there = 1;
    MUST(pthread_create(&b, NULL, strict, NULL) == 0);
    wait_for(&there, 3);
    check(0);
    victim_wait();
    check(0);
    ending = 1;
    MUST(pthread_join(b, NULL) == 0);
    forbid(SYS_fchmod, 74, SECCOMP_FILTER_FLAG_TSYNC);
    ending = 2;
    MUST(pthread_join(a, NULL) == 0);
    return victim_ok();
}
