/* Open files: offsets shared between processes, append, directories, O_PATH, devices, unlinked files, files of /proc, a removed
 * name, descriptor flags. A child shares some of the descriptions.
 * COVERAGE: regular file: offset, flags, shared description, append | captured |
 * COVERAGE: O_PATH descriptor | captured |
 * COVERAGE: device (zero and its kind) | captured |
 * COVERAGE: unlinked file | captured | by content, with holes
 * COVERAGE: file of /proc | captured |
 * COVERAGE: descriptor flags (close-on-exec) | captured | */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "victim.h"

static void set_up(void)
{
    MUST(mkdir("/tmp/dir", 0700) == 0);
    MUST(open("/tmp/dir/data", O_RDWR | O_CREAT, 0600) == 3 && write(3, "0123456789", 10) == 10);
    MUST(open("/tmp/dir/log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) == 4 && write(4, "one\n", 4) == 4);
    MUST(open("/tmp/dir", O_RDONLY | O_DIRECTORY) == 5 && open("/tmp/dir/data", O_PATH) == 6 && open("/dev/zero", O_RDONLY) == 7);
    MUST(open("/tmp/dir/gone", O_RDWR | O_CREAT, 0600) == 8 && write(8, "still here", 10) == 10 && unlink("/tmp/dir/gone") == 0);
    MUST(open("/proc/self/status", O_RDONLY) == 9 && open("/proc/self/fd", O_RDONLY | O_DIRECTORY) == 10);
    MUST(open("/etc/passwd", O_RDONLY) == 11 && lseek(11, 4, SEEK_SET) == 4 && dup2(3, 200) == 200);
    MUST(open("/tmp/dir/secret", O_RDWR | O_CREAT, 0600) == 12 && fchmod(12, 0) == 0 && write(12, "s", 1) == 1);
}

static void check(void)
{
    char text[64] = "";
    struct stat a, b;
    MUST(lseek(200, 0, SEEK_CUR) == 7 && pread(3, text, 10, 0) == 10 && !memcmp(text, "0123456789", 10));
    MUST(write(4, "two\n", 4) == 4 && stat("/tmp/dir/log", &a) == 0 && a.st_size == 8 && fcntl(4, F_GETFD) == FD_CLOEXEC);
    MUST(fstat(5, &a) == 0 && stat("/tmp/dir", &b) == 0 && a.st_ino == b.st_ino && fstatat(5, "data", &a, 0) == 0);
    MUST(fstat(6, &a) == 0 && fstat(3, &b) == 0 && a.st_ino == b.st_ino && fcntl(6, F_GETFL) & O_PATH);
    MUST(read(7, text, 8) == 8 && text[0] == 0 && pread(8, text, 10, 0) == 10 && !memcmp(text, "still here", 10));
    MUST(fstat(8, &a) == 0 && a.st_nlink == 0 && lseek(8, 0, SEEK_CUR) == 10);
    ssize_t n = pread(9, text, sizeof text - 1, 0);
    MUST(n > 10 && !memcmp(text, "Name:\tf_files", 13));
    MUST(lseek(11, 0, SEEK_CUR) == 4 && read(11, text, 1) == 1 && text[0] == ':');
    MUST(fstat(12, &a) == 0 && (a.st_mode & 0777) == 0 && pread(12, text, 1, 0) == 1 && text[0] == 's');
    MUST(fcntl(13, F_GETFD) < 0);
}

int main(void)
{
    int turn[2];
    set_up();
    MUST(pipe(turn) == 0 && turn[0] == 13 && dup2(13, 300) == 300 && dup2(14, 301) == 301 && close(13) == 0 && close(14) == 0);
    pid_t child = fork();
    if (child == 0) { /* the child reads three bytes after the parent's four: the offset is one */
        char text[4];
        close(301);
        MUST(read(300, text, 1) == 1 && read(3, text, 3) == 3 && !memcmp(text, "456", 3));
        _exit(0);
    }
    victim_wait();
    char text[8];
    int status;
    MUST(lseek(3, 0, SEEK_SET) == 0 && read(3, text, 4) == 4 && write(301, "x", 1) == 1);
    MUST(waitpid(child, &status, 0) == child && status == 0);
    check();
    return victim_ok();
}
