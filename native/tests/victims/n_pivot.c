/* A sandbox as bubblewrap makes one: pivot_root into a tmpfs with the pod's folders, /proc and devices bound in, a devpts of its own, the old root gone;
 * in it threads that work, a process in a chroot, a mount point that is covered, and a mapped file of the tmpfs. One process has a chroot in a user
 * namespace alone.
 * COVERAGE: pivot_root, chroot in a user namespace, threads in a namespace | captured | */
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "spaces.h"

#define THREADS 5

static void bind_in(const char *from, const char *to, int readonly)
{
    MUST(mkdir(to, 0755) == 0 && mount(from, to, NULL, MS_BIND | MS_REC, NULL) == 0);
    MUST(!readonly || mount(NULL, to, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) == 0);
}

static void sandbox_make(void)
{
    char program[512], own[256] = {0};
    MUST(readlink("/proc/self/exe", own, sizeof own - 1) > 0);
    MUST(mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) == 0 && mount("base", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, NULL) == 0 && chdir("/tmp") == 0);
    MUST(mkdir("new", 0755) == 0 && mount("new", "new", NULL, MS_BIND | MS_REC, NULL) == 0 && mkdir("old", 0755) == 0);
    MUST(syscall(SYS_pivot_root, "/tmp", "old") == 0 && chdir("/") == 0);
    bind_in("/old/usr", "/new/usr", 1);
    bind_in("/old/etc", "/new/etc", 1);
    bind_in("/old/proc", "/new/proc", 0);
    bind_in("/old/run", "/new/run", 0);
    MUST(mkdir("/new/dev", 0755) == 0 && mount("dev", "/new/dev", "tmpfs", MS_NOSUID, "mode=0755") == 0);
    put("/new/dev/null", "");
    MUST(mount("/old/dev/null", "/new/dev/null", NULL, MS_BIND, NULL) == 0 && mkdir("/new/dev/pts", 0755) == 0);
    MUST(mount("devpts", "/new/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620") == 0);
    put("/new/program", "");
    snprintf(program, sizeof program, "/old%s", own);
    MUST(mount(program, "/new/program", NULL, MS_BIND, NULL) == 0);
    MUST(mkdir("/new/tmp", 01777) == 0 && mkdir("/new/work", 0700) == 0 && symlink("usr/lib64", "/new/lib64") == 0 && symlink("usr/lib", "/new/lib") == 0 && mkdir("/new/tmp/covered", 0755) == 0);
    put("/new/work/hidden", "x");
    MUST(mount("/old/run", "/new/tmp/covered", NULL, MS_BIND, NULL) == 0 && mount("over", "/new/tmp", "tmpfs", 0, NULL) == 0);
    MUST(umount2("/old", MNT_DETACH) == 0 && chdir("/new") == 0 && syscall(SYS_pivot_root, ".", ".") == 0 && umount2(".", MNT_DETACH) == 0 && chdir("/") == 0);
}

static volatile int stop;
static pid_t tids[THREADS];

static void *work(void *number)
{
    tids[(long)number] = (pid_t)syscall(SYS_gettid);
    while (!stop)
        usleep(2000);
    MUST(tids[(long)number] == (pid_t)syscall(SYS_gettid) && has("/work/file", "mapped") && getuid() == 0);
    return NULL;
}

static pid_t chrooted_start(int whole, int told, int go)
{
    pid_t child = fork();
    if (child)
        return child;
    char byte, data[16] = {0};
    if (!whole)
        become(CLONE_NEWUSER, 0, 0);
    MUST(chroot(whole ? "/work" : "/tmp/jail") == 0 && chdir("/") == 0);
    int fd = open("/file", O_RDONLY);
    MUST(fd >= 0 && write(told, "r", 1) == 1 && read(go, &byte, 1) == 1);
    MUST(access("/usr", F_OK) < 0 && has("/file", whole ? "mapped" : "jailed") && read(fd, data, 3) == 3);
    _exit(30);
}

int main(int argc, char **argv)
{
    int go[2], told[2], status;
    char byte, *mapped;
    if (argc == 1) {
        MUST(pipe(go) == 0 && pipe(told) == 0 && mkdir("/tmp/jail", 0755) == 0);
        put("/tmp/jail/file", "jailed");
        pid_t jailed = chrooted_start(0, told[1], go[0]);
        MUST(read(told[0], &byte, 1) == 1);
        become(CLONE_NEWUSER | CLONE_NEWNS, 0, 0);
        sandbox_make();
        char numbers[64];
        snprintf(numbers, sizeof numbers, "%d %d %d %d %d", jailed, go[0], go[1], told[0], told[1]);
        execl("/program", "n_pivot", numbers, NULL);
        fail("exec");
    }
    pid_t jailed;
    MUST(sscanf(argv[1], "%d %d %d %d %d", &jailed, &go[0], &go[1], &told[0], &told[1]) == 5);
    put("/work/file", "mapped");
    int fd = open("/work/file", O_RDWR), null = open("/dev/null", O_WRONLY);
    mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    MUST(fd >= 0 && null >= 0 && mapped != MAP_FAILED && memcmp(mapped, "mapped", 6) == 0 && chdir("/work") == 0);
    pid_t inner = chrooted_start(1, told[1], go[0]);
    MUST(read(told[0], &byte, 1) == 1);
    pthread_t threads[THREADS];
    for (long k = 0; k < THREADS; k++)
        MUST(pthread_create(&threads[k], NULL, work, (void *)k) == 0);
    victim_wait();
    MUST(has("/etc/hostname", "") == 0 && access("/old", F_OK) < 0 && access("/new", F_OK) < 0 && has("hidden", "x") && access("/tmp/covered", F_OK) < 0);
    MUST(umount2("/tmp", MNT_DETACH) == 0 && access("/tmp/covered", F_OK) == 0);
    MUST(open("/etc/new", O_CREAT | O_WRONLY, 0600) < 0 && write(null, "x", 1) == 1 && open("/dev/ptmx", O_RDWR) < 0 && open("/dev/pts/ptmx", O_RDWR) >= 0);
    stop = 1;
    for (int k = 0; k < THREADS; k++)
        MUST(pthread_join(threads[k], NULL) == 0);
    MUST(write(go[1], "xx", 2) == 2 && waitpid(jailed, &status, 0) == jailed && WEXITSTATUS(status) == 30);
    MUST(waitpid(inner, &status, 0) == inner && WEXITSTATUS(status) == 30);
    mapped[0] = 'M';
    MUST(has("/work/file", "Mapped") && has("/proc/self/comm", "program\n"));
    return victim_ok();
}
