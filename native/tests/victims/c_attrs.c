/* What the kernel keeps of a process besides memory and descriptors, beyond c_odd: membarrier registrations, memory policies of threads and mappings,
 * the filter of core dumps, scheduling, processors, SIGSEGV for reading the time stamp counter, what it is killed for, every limit. */
/* COVERAGE: membarrier registrations | captured |
 * COVERAGE: NUMA policies of threads and mappings | captured | nodes that the new machine has not are left out
 * COVERAGE: scheduling class (other, batch, idle), nice, ioprio, affinity, reset on fork | captured | never above what an ordinary user may have
 * COVERAGE: coredump_filter, oom_score_adj, PR_SET_TSC, PR_SET_SPECULATION_CTRL, PR_SET_THP_DISABLE | captured |
 * COVERAGE: rlimits, umask, personality, dumpable, parent death signal, timer slack, no_new_privs, comm, brk, auxv, argument area | captured | limits above the node's are cut to them
 * COVERAGE: memory that is not written and executed (PR_SET_MDWE) | refused | forbids itself memory that is written and executed (PR_SET_MDWE)
 * COVERAGE: sealed memory (mseal) | captured |
 * COVERAGE: memory with a protection key | refused | memory with a protection key
 * COVERAGE: syscall user dispatch | refused | takes its own system calls (PR_SET_SYSCALL_USER_DISPATCH)
 * COVERAGE: CPU time clocks, getrusage, start time | differs | they count from the restore */
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "victim.h"

#define BYTES (16 * 4096)
#define REGISTERED (MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED | MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED)

static volatile int ending;
static char *area;
static struct rlimit limits[RLIM_NLIMITS];
static char arguments[4096];
static int has_numa, has_seals;
static char *sealed;

static long number_in(const char *path, int base)
{
    char text[64] = "";
    int fd = open(path, O_RDONLY);
    MUST(fd >= 0 && read(fd, text, sizeof text - 1) > 0 && close(fd) == 0);
    return strtol(text, NULL, base);
}
static void number_to(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    MUST(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && close(fd) == 0);
}
static size_t arguments_read(char *out, size_t room)
{
    int fd = open("/proc/self/cmdline", O_RDONLY);
    ssize_t n = read(fd, out, room);
    MUST(n > 0 && close(fd) == 0);
    return (size_t)n;
}
static int policy_of(void *address, unsigned long *node)
{
    int mode = -1;
    unsigned long nodes[16] = {0};
    if (syscall(SYS_get_mempolicy, &mode, nodes, 1024ul, address, address ? MPOL_F_ADDR : 0) < 0)
        return -1;
    *node = nodes[0];
    return mode;
}
static void thread_set(void)
{
    unsigned long node = 1;
    cpu_set_t one;
    struct sched_param none = {0};
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    MUST(sched_setaffinity(0, sizeof one, &one) == 0 && sched_setscheduler(0, SCHED_BATCH | SCHED_RESET_ON_FORK, &none) == 0);
    MUST(!has_numa || syscall(SYS_set_mempolicy, MPOL_INTERLEAVE, &node, 65ul) == 0);
    MUST(setpriority(PRIO_PROCESS, (id_t)gettid(), 11) == 0);
}
static void thread_check(void)
{
    unsigned long node = 0;
    cpu_set_t now;
    MUST(sched_getaffinity(0, sizeof now, &now) == 0 && CPU_COUNT(&now) == 1 && CPU_ISSET(0, &now));
    MUST(sched_getscheduler(0) == (SCHED_BATCH | SCHED_RESET_ON_FORK) && getpriority(PRIO_PROCESS, (id_t)gettid()) == 11);
    MUST(!has_numa || (policy_of(NULL, &node) == MPOL_INTERLEAVE && node == 1));
}
static void *other(void *unused)
{
    (void)unused;
    thread_set();
    ending = 1;
    while (ending != 2)
        usleep(20000);
    thread_check();
    return NULL;
}
static int tsc_faults(void)
{
    pid_t child = fork();
    int status, mode = 0;
    if (child == 0) {
        prctl(PR_SET_DUMPABLE, 0);
        __builtin_ia32_rdtsc();
        _exit(0);
    }
    MUST(waitpid(child, &status, 0) == child && prctl(PR_GET_TSC, &mode) == 0);
    return mode == PR_TSC_SIGSEGV && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}
static int stores_bypassed(void)
{
    return prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 0, 0, 0);
}

int main(void)
{
    pthread_t thread;
    unsigned long node = 1, auxv = getauxval(AT_RANDOM);
    static char now[4096];
    has_numa = syscall(SYS_get_mempolicy, NULL, NULL, 0ul, NULL, 0) == 0;
    area = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(area != MAP_FAILED && (!has_numa || syscall(SYS_mbind, area, BYTES, MPOL_BIND, &node, 65ul, 0) == 0));
    memset(area, 'a', BYTES);
    MUST(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0);
    MUST(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0);
    number_to("/proc/self/coredump_filter", "0x5b");
    number_to("/proc/self/oom_score_adj", "333");
    MUST(prctl(PR_SET_TSC, PR_TSC_SIGSEGV) == 0);
    int had = stores_bypassed();
    if (had >= 0 && had & PR_SPEC_PRCTL)
        MUST(prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, PR_SPEC_DISABLE, 0, 0) == 0 && stores_bypassed() & PR_SPEC_DISABLE);
    had = stores_bypassed();
    for (int k = 0; k < RLIM_NLIMITS; k++) {
        MUST(getrlimit(k, &limits[k]) == 0);
        if (limits[k].rlim_cur > 1ul << 40)
            limits[k].rlim_cur = (1ul << 40) - 4096 * (rlim_t)k;
        MUST(setrlimit(k, &limits[k]) == 0);
    }
    sealed = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(sealed, 's', BYTES);
    MUST(mprotect(sealed, BYTES, PROT_READ) == 0);
    has_seals = syscall(462 /* mseal(2), Linux 6.10 */, sealed, BYTES, 0) == 0;
    size_t length = arguments_read(arguments, sizeof arguments);
    MUST(pthread_create(&thread, NULL, other, NULL) == 0);
    while (ending != 1)
        usleep(1000);
    struct sched_param none = {0};
    MUST(sched_setscheduler(0, SCHED_IDLE, &none) == 0);
    victim_wait();
    ending = 2;
    MUST(pthread_join(thread, NULL) == 0 && sched_getscheduler(0) == SCHED_IDLE);
    MUST(!has_numa || (policy_of(area, &node) == MPOL_BIND && node == 1 && policy_of(NULL, &node) == MPOL_DEFAULT));
    MUST(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0);
    MUST((syscall(SYS_membarrier, 1 << 9, 0, 0) & REGISTERED) == REGISTERED); /* which ones: Linux 6.3 */
    MUST(number_in("/proc/self/coredump_filter", 16) == 0x5b && number_in("/proc/self/oom_score_adj", 10) == 333);
    MUST(tsc_faults() && stores_bypassed() == had);
    for (int k = 0; k < RLIM_NLIMITS; k++) {
        struct rlimit limit;
        MUST(getrlimit(k, &limit) == 0 && limit.rlim_cur == limits[k].rlim_cur && limit.rlim_max == limits[k].rlim_max);
    }
    MUST(sealed[0] == 's' && sealed[BYTES - 1] == 's');
    MUST(!has_seals || (munmap(sealed, BYTES) < 0 && errno == EPERM && mprotect(sealed, BYTES, PROT_NONE) < 0 && errno == EPERM));
    MUST(arguments_read(now, sizeof now) == length && memcmp(now, arguments, length) == 0 && getauxval(AT_RANDOM) == auxv);
    return victim_ok();
}
