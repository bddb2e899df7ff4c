/* See doctor.h. Probes of processes, memory, mounts and control groups. Each runs in a child that may do what it likes to itself. */
#include "doctor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/sched.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../pod/pod.h"
#include "cgroup.h"
#include "mounts.h"

#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#define TRIAL "clusteros-doctor-"
#define TRIAL_SECONDS 60
#define PAGEMAP_SCAN_REQUEST _IOWR('f', 16, struct pagemap_scan)
struct pagemap_scan { /* struct pm_scan_arg of Linux 6.7 */
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, category_inverted, category_mask, category_anyof_mask, return_mask;
};

int doctor_try(const struct doctor_probe *probe, struct err *e)
{
    int ends[2], status;
    struct err outcome = {0}, ignored;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_errno(e, "pipe");
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(10);
        if (probe->probe(&outcome) == 0)
            outcome = (struct err){0};
        _exit(io_write_all(ends[1], &outcome, sizeof outcome, &ignored) < 0);
    }
    close(ends[1]);
    AUTO_CLOSE int from = ends[0];
    int told = pid < 0 ? -1 : io_read_all(from, &outcome, sizeof outcome, &ignored);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (told < 0)
        return err_set(e, E_OS, "the trial died or took longer than ten seconds");
    *e = outcome;
    return outcome.code == E_OK ? 0 : -1;
}

/* ---- processes */

static int probe_namespaces(struct err *e)
{
    if (unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWTIME | CLONE_NEWCGROUP) < 0)
        return err_errno(e, "new namespaces");
    return io_putf(e, "/proc/self/timens_offsets", "monotonic 5 0\nboottime 5 0\n");
}

static int probe_set_tid(struct err *e)
{
    if (unshare(CLONE_NEWPID) < 0)
        return err_errno(e, "new pid namespace");
    pid_t init = fork();
    if (init == 0) {
        pid_t wanted = 321;
        struct clone_args args = {.exit_signal = SIGCHLD, .set_tid = (uint64_t)(uintptr_t)&wanted, .set_tid_size = 1};
        long pid = syscall(SYS_clone3, &args, sizeof args);
        if (pid == 0)
            _exit(0);
        _exit(pid == 321 ? 0 : 1);
    }
    int status;
    if (init < 0 || waitpid(init, &status, 0) < 0)
        return err_errno(e, "fork");
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : err_set(e, E_DENIED, "clone3 with set_tid is refused (CAP_CHECKPOINT_RESTORE)");
}

/* It ends with us, also when we are gone before it can say so; and holds nobody's output open. */
static pid_t sleeper_start(void)
{
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(STDOUT_FILENO);
        while (getppid() == parent)
            pause();
        _exit(0);
    }
    return pid;
}

static int probe_ptrace(struct err *e)
{
    pid_t pid = sleeper_start();
    if (ptrace(PTRACE_SEIZE, pid, 0, 0) < 0 || ptrace(PTRACE_INTERRUPT, pid, 0, 0) < 0)
        return err_errno(e, "ptrace (kernel.yama.ptrace_scope?)");
    return waitpid(pid, NULL, __WALL) == pid ? 0 : err_errno(e, "waitpid");
}

static int probe_getfd(struct err *e)
{
    AUTO_CLOSE int pidfd = (int)syscall(SYS_pidfd_open, sleeper_start(), 0);
    AUTO_CLOSE int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, 0, 0);
    return fd < 0 ? err_errno(e, "pidfd_getfd") : 0;
}

static int probe_kcmp(struct err *e)
{
    return syscall(SYS_kcmp, getpid(), getpid(), 0, 0, 0) == 0 ? 0 : err_errno(e, "kcmp");
}

static int probe_seccomp(struct err *e)
{
    return pod_seccomp_io_uring(e);
}

/* ---- memory */

static int probe_dirty(struct err *e)
{
    AUTO_CLOSE int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_PAGEFAULT_FLAG_WP};
    return fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0 ? err_errno(e, "userfaultfd with asynchronous write protection (Linux 6.7)") : 0;
}

static int probe_scan(struct err *e)
{
    AUTO_CLOSE int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    void *page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t regions[3], from = (uint64_t)(uintptr_t)page;
    struct pagemap_scan scan = {.size = sizeof scan, .start = from, .end = from + PAGE_BYTES, .vec = (uint64_t)(uintptr_t)regions, .vec_len = 1, .category_mask = 8, .return_mask = 8};
    return fd < 0 || ioctl(fd, PAGEMAP_SCAN_REQUEST, &scan) < 0 ? err_errno(e, "PAGEMAP_SCAN (Linux 6.7)") : 0;
}

/* ---- mounts and control groups */

static int overlay_try(const char *dir, struct err *e)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return err_errno(e, "new mount namespace");
    if (chdir(dir) < 0 || mkdir("upper", 0700) < 0 || mkdir("work", 0700) < 0 || mkdir("root", 0700) < 0)
        return err_errno(e, "mkdir in %s", dir);
    return mount_overlay("/", "root", e);
}

static int entry_remove(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st, (void)kind, (void)where;
    remove(path);
    return 0;
}

/* An ordinary user's overlay is one for each folder of the root: upper/etc, work/etc/work, … */
static void directory_remove(const char *dir)
{
    nftw(dir, entry_remove, 8, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* A trial that was killed leaves its directory; whoever is at work on one holds its lock. */
static void directories_sweep(const char *base)
{
    AUTO_DIR DIR *dir = opendir(base);
    for (struct dirent *d; dir && (d = readdir(dir));) {
        struct stat st;
        if (strncmp(d->d_name, TRIAL, strlen(TRIAL)) != 0)
            continue;
        AUTO_FREE char *path = xasprintf("%s/%s", base, d->d_name);
        AUTO_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && fstat(fd, &st) == 0 && st.st_uid == geteuid() && st.st_mtime + TRIAL_SECONDS < time(NULL) && flock(fd, LOCK_EX | LOCK_NB) == 0)
            directory_remove(path);
    }
}

static int probe_overlay(struct err *e)
{
    const char *base = getenv("CLUSTEROS_NODE_STATE");
    AUTO_FREE char *dir = xasprintf("%s/" TRIAL "XXXXXX", base && *base ? base : "/var/tmp");
    directories_sweep(base && *base ? base : "/var/tmp");
    if (!mkdtemp(dir))
        return err_errno(e, "make %s", dir);
    AUTO_CLOSE int held = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (held < 0 || flock(held, LOCK_SH) < 0)
        return err_errno(e, "lock %s", dir);
    pid_t pid = fork();
    int status;
    if (pid == 0)
        _exit(overlay_try(dir, e) < 0);
    bool fine = pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    directory_remove(dir);
    return fine ? 0 : err_set(e, E_OS, "an overlay of / cannot be mounted with its changes below %s", base && *base ? base : "/var/tmp");
}

static int group_try(bool freezer, struct err *e)
{
    AUTO_FREE char *name = xasprintf("clusteros-doctor-%d", getpid());
    AUTO_BUF struct buf missing = {0};
    struct pod_cgroups groups;
    struct err ignored;
    cgroups_plan(name, &groups);
    cgroups_make(&groups, 64u << 20, &missing);
    bool bad = freezer ? !groups.dir[CGROUP_FREEZER] && !groups.dir[CGROUP_UNIFIED] : missing.len > 0;
    if (cgroups_remove(&groups, &ignored) < 0 && !bad)
        bad = err_set(e, E_OS, "%s", ignored.message) < 0;
    else if (bad)
        err_set(e, E_DENIED, "%s", missing.len ? (char *)missing.data : "no control group with a freezer can be made");
    cgroups_free(&groups);
    return bad ? -1 : 0;
}

static int probe_freezer(struct err *e)
{
    return group_try(true, e);
}

static int probe_groups(struct err *e)
{
    return group_try(false, e);
}

const struct doctor_probe doctor_probes[] = {
    {"namespaces", "namespaces of every kind, with clocks of their own", "no pods at all", DOCTOR_NEEDED, probe_namespaces},
    {"overlay", "a private view of the root file system (overlayfs)", "no pods at all", DOCTOR_NEEDED, probe_overlay},
    {"ptrace", "stopping and looking at a job's processes", "no snapshots", DOCTOR_NEEDED, probe_ptrace},
    {"pidfd_getfd", "duplicates of a job's descriptors", "no snapshots", DOCTOR_NEEDED, probe_getfd},
    {"kcmp", "seeing which descriptors are one and the same", "no snapshots", DOCTOR_NEEDED, probe_kcmp},
    {"set_tid", "giving processes their old pids back", "no restores", DOCTOR_NEEDED, probe_set_tid},
    {"pagemap_scan", "finding the pages that hold data", "no snapshots", DOCTOR_NEEDED, probe_scan},
    {"wp_async", "finding the pages that changed since the last generation", "every image is a full one", DOCTOR_WANTED, probe_dirty},
    {"seccomp", "answering io_uring and AIO with ENOSYS", "jobs that use io_uring or AIO cannot be captured", DOCTOR_WANTED, probe_seccomp},
    {"freezer", "a control group with a freezer", "no suspension, no leases, no gang scheduling", DOCTOR_NEEDED, probe_freezer},
    {"limits", "control groups that limit memory and processes", "a job may take more memory than it asked for", DOCTOR_WANTED, probe_groups},
};
const size_t doctor_probe_count = ARRAY_LENGTH(doctor_probes);
