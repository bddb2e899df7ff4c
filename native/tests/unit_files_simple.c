/* Descriptors with no other side: files, pipes, event, timer and signal descriptors, epoll, inotify, memfd, locks. */
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include "files_harness.h"

/* ---- regular files */
static char path_a[] = "/tmp/unit-files-a";

static void regular_setup(void)
{
    int fd = open(path_a, O_RDWR | O_CREAT | O_TRUNC, 0644);
    MUST(fd == 3 && write(fd, "hello world", 11) == 11 && lseek(fd, 6, SEEK_SET) == 6);
    MUST(open(path_a, O_WRONLY | O_APPEND | O_NONBLOCK | O_CLOEXEC) == 4 && dup2(3, 100) == 100);
    MUST(open("/tmp", O_RDONLY | O_DIRECTORY) == 5 && open("/tmp", O_PATH) == 6);
    MUST(open("/dev/zero", O_RDONLY) == 7 && open("/proc/meminfo", O_RDONLY) == 8);
    struct rlimit limit = {10000, 10000};
    MUST(setrlimit(RLIMIT_NOFILE, &limit) == 0 && dup2(4, 6000) == 6000); /* above where a restore begins to put its own */
}

static bool regular_verify(int which)
{
    char text[16] = "";
    (void)which;
    if (!NEED(read(100, text, 5) == 5 && !memcmp(text, "world", 5)) || !NEED(lseek(3, 0, SEEK_CUR) == 11))
        return false;
    if (!NEED((fcntl(4, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK)) == (O_WRONLY | O_APPEND | O_NONBLOCK)))
        return false;
    if (!NEED(fcntl(4, F_GETFD) == FD_CLOEXEC && fcntl(3, F_GETFD) == 0) || !NEED(write(4, "!", 1) == 1 && lseek(4, 0, SEEK_CUR) == 12))
        return false;
    struct stat a, b;
    if (!NEED(fstat(5, &a) == 0 && stat("/tmp", &b) == 0 && a.st_ino == b.st_ino) || !NEED(fcntl(6, F_GETFL) & O_PATH))
        return false;
    if (!NEED(fcntl(6000, F_GETFL) & O_APPEND) || !NEED(lseek(6000, 0, SEEK_CUR) == 12))
        return false;
    return NEED(read(7, text, 4) == 4 && text[0] == 0) && NEED(read(8, text, 8) == 8 && !memcmp(text, "MemTotal", 8)) &&
           NEED(fcntl(9, F_GETFD) < 0);
}

/* ---- unlinked files and memfds */
static void unlinked_setup(void)
{
    char path[] = "/tmp/unit-files-unlinked";
    MUST(open(path, O_RDWR | O_CREAT | O_TRUNC, 0640) == 3 && unlink(path) == 0 && ftruncate(3, 3 << 20) == 0);
    MUST(pwrite(3, "deep", 4, 2 << 20) == 4 && lseek(3, 7, SEEK_SET) == 7);
    MUST(memfd_create("fast", MFD_ALLOW_SEALING) == 4 && write(4, "sealed", 6) == 6);
    MUST(fcntl(4, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
    MUST(open("/proc/self/fd/4", O_RDONLY) == 5);
}

static bool unlinked_verify(int which)
{
    char text[8] = "";
    struct stat st, other;
    (void)which;
    if (!NEED(fstat(3, &st) == 0 && st.st_nlink == 0 && st.st_size == 3 << 20 && (st.st_mode & 0777) == 0640))
        return false;
    if (!NEED(pread(3, text, 4, 2 << 20) == 4 && !memcmp(text, "deep", 4)) || !NEED(lseek(3, 0, SEEK_CUR) == 7))
        return false;
    if (!NEED(pread(5, text, 6, 0) == 6 && !memcmp(text, "sealed", 6)) || !NEED(ftruncate(4, 100) < 0 && errno == EPERM))
        return false;
    return NEED(fstat(4, &st) == 0 && fstat(5, &other) == 0 && st.st_ino == other.st_ino) && NEED(lseek(4, 0, SEEK_CUR) == 6) &&
           NEED(lseek(5, 0, SEEK_CUR) == 0) && NEED(fcntl(4, F_GET_SEALS) == (F_SEAL_SHRINK | F_SEAL_GROW));
}

/* ---- pipes */
static void pipes_setup(void)
{
    int ends[2];
    MUST(pipe(ends) == 0 && ends[0] == 3 && fcntl(4, F_SETPIPE_SZ, 1 << 18) == 1 << 18);
    memset(sh->bytes, 'x', 200000);
    MUST(write(4, sh->bytes, 200000) == 200000);
    MUST(open("/proc/self/fd/3", O_RDONLY | O_NONBLOCK) == 5);
    MUST(pipe2(ends, O_DIRECT | O_NONBLOCK) == 0 && ends[0] == 6 && write(7, "one", 3) == 3 && write(7, "three", 5) == 5);
    MUST(pipe(ends) == 0 && ends[0] == 8 && write(9, "left", 4) == 4 && close(9) == 0); /* the writer is gone */
    MUST(pipe(ends) == 0 && ends[0] == 9 && close(9) == 0);                          /* 10: the reader is gone */
    extra_start(NULL);
}

static bool pipes_verify(int which)
{
    static char data[1 << 18];
    char text[16];
    if (which == 1)
        return NEED(fcntl(3, F_GETPIPE_SZ) == 1 << 18);
    if (!NEED(fcntl(3, F_GETPIPE_SZ) == 1 << 18) || !NEED(!(fcntl(3, F_GETFL) & O_NONBLOCK) && fcntl(5, F_GETFL) & O_NONBLOCK))
        return false;
    for (size_t got = 0; got < 200000;) {
        ssize_t n = read(5, data, sizeof data);
        if (!NEED(n > 0))
            return false;
        for (ssize_t i = 0; i < n; i++)
            if (!NEED(data[i] == 'x'))
                return false;
        got += (size_t)n;
    }
    if (!NEED(read(5, text, 1) < 0 && errno == EAGAIN) || !NEED(read(6, text, 16) == 3) || !NEED(read(6, text, 16) == 5))
        return false;
    signal(SIGPIPE, SIG_IGN);
    return NEED(read(8, text, 16) == 4) && NEED(read(8, text, 16) == 0) && NEED(write(10, "x", 1) < 0 && errno == EPIPE);
}

static void foreign_pipe_setup(void)
{
    int ends[2];
    MUST(pipe(ends) == 0);
    if (fork() == 0) { /* not registered: outside of the "pod" */
        close(ends[0]);
        for (int i = 0; i < 20 && getppid() != 1; i++)
            usleep(100000);
        _exit(0);
    }
    MUST(close(ends[1]) == 0);
}

static void fifo_setup(void)
{
    static const char path[] = "/tmp/unit-files-fifo";
    unlink(path);
    MUST(mkfifo(path, 0600) == 0 && open(path, O_RDWR) == 3 && open(path, O_RDONLY | O_NONBLOCK) == 4);
    MUST(write(3, "fifo", 4) == 4);
}

static bool fifo_verify(int which)
{
    char text[8];
    (void)which;
    return NEED(read(4, text, 8) == 4 && !memcmp(text, "fifo", 4)) && NEED(write(3, "x", 1) == 1 && read(4, text, 8) == 1);
}

/* ---- eventfd, timerfd, signalfd, epoll */
static void events_setup(void)
{
    uint64_t five = 5;
    struct itimerspec far = {.it_value = {.tv_sec = 1000}, .it_interval = {.tv_sec = 7}}, near = {.it_value = {.tv_nsec = 1000000}};
    sigset_t set;
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0x1234567890};
    MUST(eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK) == 3 && write(3, &five, 8) == 8);
    MUST(timerfd_create(CLOCK_MONOTONIC, 0) == 4 && timerfd_settime(4, 0, &far, NULL) == 0);
    MUST(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK) == 5 && timerfd_settime(5, 0, &near, NULL) == 0);
    usleep(20000);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL) == 0 && signalfd(-1, &set, SFD_NONBLOCK) == 6);
    MUST(epoll_create1(EPOLL_CLOEXEC) == 7 && epoll_ctl(7, EPOLL_CTL_ADD, 3, &event) == 0);
    event.data.u64 = 6;
    MUST(epoll_ctl(7, EPOLL_CTL_ADD, 6, &event) == 0 && epoll_create1(0) == 8);
    event.data.u64 = 7;
    MUST(epoll_ctl(8, EPOLL_CTL_ADD, 7, &event) == 0);
    MUST(eventfd(1, 0) == 9 && epoll_ctl(8, EPOLL_CTL_ADD, 9, &event) == 0 && dup2(9, 50) == 50 && close(9) == 0);
    MUST(eventfd(0, 0) == 9); /* the number is another's now */
    struct itimerspec often = {.it_value = {.tv_nsec = 1000000}, .it_interval = {.tv_nsec = 1000000}};
    MUST(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK) == 10 && timerfd_settime(10, 0, &often, NULL) == 0);
    usleep(5000);
}

static bool epoll_verify(void)
{
    struct epoll_event got[4];
    struct epoll_event event = {.events = EPOLLIN};
    sigset_t set;
    uint64_t value;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    if (!NEED(epoll_wait(8, got, 4, 0) == 2) || !NEED(epoll_wait(7, got, 4, 0) == 1 && got[0].data.u64 == 0x1234567890))
        return false;
    kill(getpid(), SIGUSR2);
    if (!NEED(epoll_wait(7, got, 4, 0) == 2))
        return false;
    if (!NEED(read(50, &value, 8) == 8 && value == 1) || !NEED(epoll_ctl(7, EPOLL_CTL_MOD, 3, &event) == 0))
        return false;
    return NEED(epoll_ctl(7, EPOLL_CTL_DEL, 6, NULL) == 0) && NEED(epoll_wait(8, got, 4, 0) == 1);
}

static bool events_verify(int which)
{
    struct itimerspec left;
    struct signalfd_siginfo info;
    uint64_t value;
    (void)which;
    if (!epoll_verify() || !NEED(read(6, &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR2))
        return false;
    for (int i = 0; i < 5; i++)
        if (!NEED(read(3, &value, 8) == 8 && value == 1))
            return false;
    if (!NEED(read(3, &value, 8) < 0 && errno == EAGAIN) || !NEED(read(5, &value, 8) == 8 && value == 1))
        return false;
    if (!NEED(read(10, &value, 8) == 8 && value >= 1))
        return false;
    usleep(5000);
    if (!NEED(read(10, &value, 8) == 8 && value >= 1))
        return false;
    return NEED(timerfd_gettime(4, &left) == 0 && left.it_interval.tv_sec == 7 && left.it_value.tv_sec > 900 && left.it_value.tv_sec < 1000);
}

/* ---- inotify */
static void inotify_setup(void)
{
    mkdir("/tmp/unit-files-dir", 0700);
    MUST(inotify_init1(IN_NONBLOCK) == 3 && inotify_add_watch(3, "/tmp", IN_MODIFY) == 1);
    MUST(inotify_rm_watch(3, 1) == 0);
    char drop[512];
    MUST(read(3, drop, sizeof drop) > 0 && inotify_add_watch(3, "/tmp/unit-files-dir", IN_CREATE) == 2);
    MUST(chdir("/tmp/unit-files-dir") == 0);
}

static bool inotify_verify(int which)
{
    union {
        struct inotify_event event;
        char room[512];
    } got;
    (void)which;
    unlink("/tmp/unit-files-dir/new");
    int fd = open("/tmp/unit-files-dir/new", O_CREAT | O_RDWR, 0600);
    close(fd);
    unlink("/tmp/unit-files-dir/new");
    return NEED(read(3, &got, sizeof got) > 0 && got.event.wd == 2 && got.event.mask & IN_CREATE) && NEED(!strcmp(got.event.name, "new"));
}

/* ---- locks */
static void locks_setup(void)
{
    struct flock posix = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5};
    struct flock ofd = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 0};
    MUST(open(path_a, O_RDWR | O_CREAT, 0644) == 3 && flock(3, LOCK_EX) == 0);
    MUST(open("/tmp/unit-files-b", O_RDWR | O_CREAT, 0644) == 4 && fcntl(4, F_SETLK, &posix) == 0);
    MUST(fcntl(4, F_OFD_SETLK, &ofd) == 0);
}

static bool locks_verify(int which)
{
    struct flock probe = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 50};
    (void)which;
    int fd = open(path_a, O_RDWR), status = 0;
    if (!NEED(flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK))
        return false;
    pid_t pid = fork();
    if (pid == 0) {
        int other = open("/tmp/unit-files-b", O_RDWR);
        bool right = NEED(fcntl(other, F_GETLK, &probe) == 0 && probe.l_type == F_WRLCK && probe.l_start == 10 && probe.l_len == 5 && probe.l_pid == getppid());
        probe = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 60};
        right = right && NEED(fcntl(other, F_GETLK, &probe) == 0 && probe.l_type == F_RDLCK && probe.l_start == 100 && probe.l_len == 0);
        _exit(!right);
    }
    waitpid(pid, &status, 0);
    return NEED(sh->why[0] == 0) && status == 0;
}

/* ---- what is refused */
static void pidfd_setup(void)
{
    MUST(syscall(SYS_pidfd_open, getpid(), O_EXCL /* PIDFD_THREAD */) == 3);
}
static void packet_setup(void)
{
    MUST(socket(AF_PACKET, SOCK_RAW, 0) == 3);
}
static bool never(int which)
{
    (void)which;
    return false;
}

int main(void)
{
    static const struct test_case cases[] = {
        {"regular files, directories, devices, /proc", regular_setup, regular_verify, NULL},
        {"unlinked files and memfds", unlinked_setup, unlinked_verify, NULL},
        {"pipes with data, several openers, packets, lost ends", pipes_setup, pipes_verify, NULL},
        {"a pipe to the outside", foreign_pipe_setup, never, "outside of the pod"},
        {"a FIFO", fifo_setup, fifo_verify, NULL},
        {"eventfd, timerfd, signalfd and nested epoll", events_setup, events_verify, NULL},
        {"inotify", inotify_setup, inotify_verify, NULL},
        {"flock, POSIX and open-file-description locks", locks_setup, locks_verify, NULL},
        {"a pidfd of a thread", pidfd_setup, never, "a pidfd of a thread"},
        {"a packet socket", packet_setup, never, "a packet socket"},
    };
    return cases_run(cases, ARRAY_LENGTH(cases));
}
