/* Files and directories that lost their names: a hard link that is left, a file that never had a name and gets one later, an unlinked FIFO
 * with data, a removed working directory that a child shares, removed directories with two descriptors; directories
 * that were read to the end; in /tmp (tmpfs) and in the pod's root (overlay).
 * COVERAGE: file whose name is gone while it has others | captured | by one of its other names
 * COVERAGE: O_TMPFILE | captured | a name can still be given to it
 * COVERAGE: unlinked FIFO | captured | with data
 * COVERAGE: removed directory, also as working directory | captured |
 * COVERAGE: directory read to its end | captured | */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "victim.h"

static int link_fd, tmp_fd, fifo_in, fifo_out, gone, gone_again, path_only, ended;
static char place[100];

static int in(const char *name, int flags, mode_t mode)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", place, name);
    int fd = open(path, flags, mode);
    MUST(fd >= 0);
    return fd;
}
static const char *at(const char *name)
{
    static char path[2][200];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", place, name);
    return path[turn];
}

static void set_up(const char *where)
{
    char names[4096];
    snprintf(place, sizeof place, "%s", where);
    if (mkdir(place, 0755) < 0) /* an ordinary user's pod may not write there */
        MUST(snprintf(place, sizeof place, "/dev/shm/names") > 0 && mkdir(place, 0755) == 0);
    link_fd = in("one", O_RDWR | O_CREAT, 0600);
    MUST(write(link_fd, "linked", 6) == 6 && mkdir(at("deep"), 0700) == 0 && link(at("one"), at("deep/two")) == 0 && unlink(at("one")) == 0);
    tmp_fd = open(place, O_TMPFILE | O_RDWR, 0640);
    MUST(tmp_fd >= 0 && write(tmp_fd, "nameless", 8) == 8);
    MUST(mkfifo(at("fifo"), 0600) == 0);
    fifo_in = in("fifo", O_RDONLY | O_NONBLOCK, 0), fifo_out = in("fifo", O_WRONLY, 0);
    MUST(write(fifo_out, "waiting", 7) == 7 && unlink(at("fifo")) == 0);
    MUST(mkdir(at("gone"), 0750) == 0 && mkdir(at("work"), 0700) == 0);
    gone = in("gone", O_RDONLY | O_DIRECTORY, 0), gone_again = in("gone", O_RDONLY | O_DIRECTORY, 0), path_only = in("gone", O_PATH, 0);
    MUST(chdir(at("work")) == 0 && rmdir(at("gone")) == 0 && rmdir(at("work")) == 0);
    ended = in("deep", O_RDONLY | O_DIRECTORY, 0);
    while (syscall(SYS_getdents64, ended, names, sizeof names) > 0)
        ;
}

static bool same(int a, int b)
{
    struct stat x, y;
    MUST(fstat(a, &x) == 0 && fstat(b, &y) == 0);
    return x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}
static int removed_check(void)
{
    char path[200];
    struct stat st;
    MUST(stat(".", &st) == 0 && S_ISDIR(st.st_mode) && st.st_nlink == 0 && !getcwd(path, sizeof path) && errno == ENOENT);
    return open(".", O_PATH | O_DIRECTORY);
}

static void check(void)
{
    char text[100] = "", path[64];
    struct stat st;
    int two = in("deep/two", O_RDONLY, 0);
    MUST(same(two, link_fd) && fstat(link_fd, &st) == 0 && st.st_nlink == 1 && lseek(link_fd, 0, SEEK_CUR) == 6);
    MUST(pread(tmp_fd, text, 100, 0) == 8 && !memcmp(text, "nameless", 8) && fstat(tmp_fd, &st) == 0 && st.st_nlink == 0 && (st.st_mode & 0777) == 0640);
    snprintf(path, sizeof path, "/proc/self/fd/%d", tmp_fd);
    MUST(linkat(AT_FDCWD, path, AT_FDCWD, at("named"), AT_SYMLINK_FOLLOW) == 0 && same(tmp_fd, in("named", O_RDONLY, 0)));
    MUST(fstat(fifo_in, &st) == 0 && S_ISFIFO(st.st_mode) && st.st_nlink == 0 && read(fifo_in, text, 100) == 7 && write(fifo_out, "x", 1) == 1);
    MUST(read(fifo_in, text, 100) == 1 && read(fifo_in, text, 100) < 0 && errno == EAGAIN);
    MUST(fstat(gone, &st) == 0 && st.st_nlink == 0 && (st.st_mode & 0777) == 0750 && same(gone, gone_again) && same(gone, path_only));
    MUST(openat(gone, "new", O_CREAT | O_RDWR, 0600) < 0 && errno == ENOENT && fcntl(path_only, F_GETFL) & O_PATH);
    MUST(syscall(SYS_getdents64, ended, text, sizeof text) == 0 && lseek(ended, 0, SEEK_SET) == 0 && syscall(SYS_getdents64, ended, text, sizeof text) > 0);
}

static void whole(const char *where, int told)
{
    int status, turn[2];
    char c;
    set_up(where);
    MUST(pipe(turn) == 0);
    pid_t child = fork();
    if (child == 0) {
        close(turn[1]);
        signal(SIGUSR1, SIG_IGN);
        while (read(turn[0], &c, 1) < 0 && errno == EINTR)
            ;
        removed_check();
        _exit(0);
    }
    if (told >= 0) {
        signal(SIGUSR1, victim_ask);
        MUST(write(told, "x", 1) == 1 && close(told) == 0);
    } else
        victim_wait();
    removed_check();
    check();
    close(turn[1]);
    MUST(waitpid(child, &status, 0) == child && status == 0);
}

int main(void)
{
    char where[64];
    int told[2];
    MUST(pipe(told) == 0);
    snprintf(where, sizeof where, "/var/tmp/names-%d", getpid());
    pid_t other = fork();
    if (other == 0) { /* the same in the overlay */
        whole(where, told[1]);
        _exit(0);
    }
    MUST(close(told[1]) == 0 && read(told[0], where, 1) == 1);
    whole("/tmp/names", -1);
    int status;
    kill(other, SIGUSR1);
    MUST(waitpid(other, &status, 0) == other && status == 0);
    return victim_ok();
}
