/* What single threads have of files: signals of a socket and of an O_ASYNC pipe that go to a thread which is not the first; threads with a working
 * directory and umask of their own, one of which enters another one afterwards.
 * COVERAGE: threads with a working directory, root and umask of their own (unshare(CLONE_FS)) | captured | one thread each
 * COVERAGE: owner of a descriptor that is a thread (F_SETOWN_EX), and the number that its signals tell (si_fd) | captured | */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "victim.h"

#define SIGNAL (SIGRTMIN + 5)
static volatile sig_atomic_t rung_tid, rung_fd;
static volatile pid_t thread_tid;
static int pair[2], ends[2];

static void ring(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    rung_fd = info->si_fd;
    rung_tid = (sig_atomic_t)syscall(SYS_gettid);
}
static void *stay(void *nothing)
{
    thread_tid = (pid_t)syscall(SYS_gettid);
    for (;;)
        usleep(1000);
    return nothing;
}
static pthread_barrier_t asked_all;
static void *apart(void *name)
{
    char here[100], path[100];
    snprintf(path, sizeof path, "/tmp/%s", (char *)name);
    MUST(unshare(CLONE_FS) == 0 && mkdir(path, 0700) == 0 && chdir(path) == 0 && umask(*(char *)name == 'a' ? 027 : 0) == 022);
    pthread_barrier_wait(&asked_all);
    pthread_barrier_wait(&asked_all);
    MUST(getcwd(here, sizeof here) && !strcmp(here, path));
    int fd = open("mine", O_CREAT | O_EXCL | O_WRONLY, 0666);
    struct stat st;
    MUST(fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & 0777) == (*(char *)name == 'a' ? 0640 : 0666) && close(fd) == 0);
    MUST(chdir("/") == 0);
    pthread_barrier_wait(&asked_all);
    return name;
}
static void apart_begin(void)
{
    static pthread_t threads[2];
    umask(022);
    MUST(chdir("/tmp") == 0 && pthread_barrier_init(&asked_all, NULL, 3) == 0);
    MUST(pthread_create(&threads[0], NULL, apart, "apart") == 0 && pthread_create(&threads[1], NULL, apart, "beside") == 0);
    pthread_barrier_wait(&asked_all);
}
static void apart_end(void)
{
    char here[100];
    pthread_barrier_wait(&asked_all);
    pthread_barrier_wait(&asked_all);
    MUST(getcwd(here, sizeof here) && !strcmp(here, "/tmp") && umask(0) == 022);
    MUST(access("/tmp/apart/mine", F_OK) == 0 && access("/tmp/beside/mine", F_OK) == 0);
}
static void own(int fd, int type, pid_t pid)
{
    struct f_owner_ex owner = {type, pid};
    MUST(fcntl(fd, F_SETSIG, SIGNAL) == 0 && fcntl(fd, F_SETOWN_EX, &owner) == 0 && fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK) == 0);
}
static void rings(int writer, int reader)
{
    rung_tid = 0;
    MUST(write(writer, "x", 1) == 1);
    for (int k = 0; k < 5000 && !rung_tid; k++)
        usleep(1000);
    MUST(rung_tid == thread_tid && rung_fd == reader);
}

int main(void)
{
    struct sigaction a = {.sa_sigaction = ring, .sa_flags = SA_SIGINFO | SA_RESTART};
    pthread_t thread;
    MUST(sigaction(SIGNAL, &a, NULL) == 0 && pthread_create(&thread, NULL, stay, NULL) == 0);
    while (!thread_tid)
        usleep(100);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && pipe(ends) == 0);
    own(pair[0], F_OWNER_TID, thread_tid);
    own(ends[0], F_OWNER_TID, thread_tid);
    apart_begin();
    victim_wait();
    apart_end();
    struct f_owner_ex owner = {0};
    MUST(fcntl(pair[0], F_GETOWN_EX, &owner) == 0 && owner.type == F_OWNER_TID && owner.pid == thread_tid);
    rings(pair[1], pair[0]);
    rings(ends[1], ends[0]);
    return victim_ok();
}
