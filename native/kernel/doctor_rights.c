/* Probes of what root of the machine may and an ordinary user, root of a user namespace only, may not; see doctor.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "doctor.h"

#define KERNEL_MAJOR 6
#define KERNEL_MINOR 7
#define FILES_LIMIT 64

static int probe_kernel(struct err *e)
{
    struct utsname system;
    int major = 0, minor = 0;
    if (uname(&system) < 0 || sscanf(system.release, "%d.%d", &major, &minor) != 2)
        return err_set(e, E_OS, "the kernel's version cannot be read");
    if (major > KERNEL_MAJOR || (major == KERNEL_MAJOR && minor >= KERNEL_MINOR))
        return 0;
    return err_set(e, E_UNSUPPORTED, "this is Linux %d.%d, and %d.%d is needed", major, minor, KERNEL_MAJOR, KERNEL_MINOR);
}

static int probe_limits_raised(struct err *e)
{
    struct rlimit low = {FILES_LIMIT, FILES_LIMIT}, high = {FILES_LIMIT, 2 * FILES_LIMIT};
    if (setrlimit(RLIMIT_NOFILE, &low) < 0 || setrlimit(RLIMIT_NOFILE, &high) < 0)
        return err_errno(e, "raise a hard limit (CAP_SYS_RESOURCE on the machine)");
    return 0;
}

/* A mapping whose file has no name, by the only way that there is to its content as one object. */
static int probe_map_files(struct err *e)
{
    void *page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return err_errno(e, "mmap");
    uint64_t at = (uint64_t)(uintptr_t)page;
    AUTO_FREE char *path = xasprintf("/proc/self/map_files/%lx-%lx", at, at + PAGE_BYTES);
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC);
    return fd < 0 ? err_errno(e, "open an entry of /proc/PID/map_files") : 0;
}

static int probe_handles(struct err *e)
{
    struct {
        struct file_handle head;
        char more[MAX_HANDLE_SZ];
    } handle = {.head.handle_bytes = MAX_HANDLE_SZ};
    int id;
    AUTO_CLOSE int shm = open("/dev/shm", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (shm < 0 || name_to_handle_at(shm, "", &handle.head, &id, AT_EMPTY_PATH) < 0)
        return err_errno(e, "name a file by handle");
    AUTO_CLOSE int fd = open_by_handle_at(shm, &handle.head, O_PATH | O_CLOEXEC);
    return fd < 0 ? err_errno(e, "open a file by handle (CAP_DAC_READ_SEARCH on the machine)") : 0;
}

static _Noreturn void filtered_sleep(int told)
{
    struct sock_filter allow = {BPF_RET | BPF_K, 0, 0, 0x7fff0000u /* SECCOMP_RET_ALLOW */};
    struct sock_fprog program = {1, &allow};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(STDOUT_FILENO);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, 2, &program) < 0 || write(told, "f", 1) != 1)
        _exit(1);
    for (;;)
        pause();
}

static int probe_filters(struct err *e)
{
    int ends[2];
    char word;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_errno(e, "pipe");
    pid_t pid = fork();
    if (pid == 0)
        filtered_sleep(ends[1]);
    if (pid < 0 || read(ends[0], &word, 1) != 1)
        return err_errno(e, "a process with a filter");
    if (ptrace(PTRACE_SEIZE, pid, 0, 0) < 0 || ptrace(PTRACE_INTERRUPT, pid, 0, 0) < 0 || waitpid(pid, NULL, __WALL) != pid)
        return err_errno(e, "ptrace");
    return ptrace(0x420c /* PTRACE_SECCOMP_GET_FILTER */, pid, 0, NULL) < 0 ? err_errno(e, "read a filter (CAP_SYS_ADMIN on the machine)") : 0;
}

static int probe_buffers(struct err *e)
{
    int bytes = 1 << 16;
    AUTO_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) < 0 ? err_errno(e, "SO_SNDBUFFORCE (CAP_NET_ADMIN on the machine)") : 0;
}

/* base/urgent.h: it needs the right, and where the kernel counts real time by groups (RT_GROUP_SCHED, cgroup v1) a share of it. */
static int probe_urgent(struct err *e)
{
    const struct sched_param first = {.sched_priority = 1};
    if (sched_setscheduler(0, SCHED_FIFO, &first) == 0)
        return 0;
    return err_errno(e, "real-time priority (CAP_SYS_NICE on the machine; with groups of real time also a share, cpu.rt_runtime_us of this control group)");
}

const struct doctor_probe doctor_rights_probes[] = {
    {"kernel", "a kernel that is new enough (Linux 6.7)", "no snapshots", DOCTOR_NEEDED, probe_kernel},
    {"sys_resource", "raising a job's limits back after a restore", "a job whose hard limits are above the node's cannot be restored here", DOCTOR_WANTED, probe_limits_raised},
    {"map_files", "shared memory without a name as the object that it is", "only what the pod's processes have mapped of it is captured", DOCTOR_WANTED, probe_map_files},
    {"handles", "finding files by their handle", "jobs that watch files with inotify may be refused", DOCTOR_WANTED, probe_handles},
    {"filters", "reading the seccomp filters of a job", "jobs with seccomp filters of their own are refused", DOCTOR_WANTED, probe_filters},
    {"buffers", "socket buffers larger than the node's limit", "a restored socket has at most the node's limit; its data is whole all the same", DOCTOR_WANTED, probe_buffers},
    {"urgent", "going before other programs while a job stands", "pauses are longer while other programs use the processors", DOCTOR_WANTED, probe_urgent},
};
const size_t doctor_rights_probe_count = ARRAY_LENGTH(doctor_rights_probes);
