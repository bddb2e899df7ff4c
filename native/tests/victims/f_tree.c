/* What a job has put into its private file systems (/tmp, /dev/shm) and its root: modes, owners, times, attributes, hard links, symbolic links, FIFOs,
 * sockets, holes, long and odd names, empty and deep directories, a whiteout of a host's file; all looked at by a summary made before and after.
 * COVERAGE: private tmpfs and changed root: modes, owners, times, attributes, links, holes, odd names | captured | access times and inode numbers differ */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include "victim.h"

static uint64_t sum;

static void mix(const void *data, size_t len)
{
    for (size_t k = 0; k < len; k++)
        sum = (sum ^ ((const uint8_t *)data)[k]) * 0x100000001b3u;
}
static void mix_number(uint64_t number)
{
    mix(&number, sizeof number);
}

static void content(int dir, const char *name, const struct stat *st)
{
    char data[4096];
    if (S_ISLNK(st->st_mode)) {
        ssize_t n = readlinkat(dir, name, data, sizeof data);
        MUST(n > 0);
        mix(data, (size_t)n);
    }
    if (!S_ISREG(st->st_mode) || !(st->st_mode & 0400))
        return;
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW);
    MUST(fd >= 0);
    for (ssize_t n; (n = read(fd, data, sizeof data)) > 0;)
        mix(data, (size_t)n);
    memset(data, 0, sizeof data);
    ssize_t n = fgetxattr(fd, "user.note", data, sizeof data);
    mix(data, n > 0 ? (size_t)n : 0);
    close(fd);
}

/* Everything but inode numbers, access and change times; a directory's size is its file system's matter. Order does not count: sums add up. */
static uint64_t look(int above, const char *name)
{
    uint64_t total = 0;
    int dir = openat(above, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    MUST(dir >= 0);
    DIR *list = fdopendir(dup(dir));
    for (struct dirent *d; (d = readdir(list));) {
        struct stat st;
        if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
            continue;
        MUST(fstatat(dir, d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0);
        sum = 0xcbf29ce484222325u;
        mix(d->d_name, strlen(d->d_name));
        mix_number(st.st_mode), mix_number(st.st_uid), mix_number(st.st_gid), mix_number(S_ISDIR(st.st_mode) ? 0 : (uint64_t)st.st_size);
        mix_number(st.st_nlink), mix_number((uint64_t)st.st_mtim.tv_sec), mix_number((uint64_t)st.st_mtim.tv_nsec);
        content(dir, d->d_name, &st);
        total += sum;
        if (S_ISDIR(st.st_mode))
            total += 3 * look(dir, d->d_name);
    }
    closedir(list);
    close(dir);
    return total;
}

static void file(const char *path, mode_t mode, const char *text)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    MUST(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && fchmod(fd, mode) == 0 && close(fd) == 0);
}

static void fill(const char *place)
{
    char name[256];
    struct timespec times[2] = {{1, 2}, {1234567890, 123456789}};
    struct sockaddr_un address = {AF_UNIX, "socket"};
    MUST(chdir(place) == 0);
    memset(name, 'n', 255), name[255] = 0;
    file("plain", 0640, "content"), file("secret", 0, ""), file("sticky", 01755, "s"), file(name, 0600, "long name"), file("odd\n\t\xff", 0600, "odd");
    MUST(link("plain", "plain2") == 0 && symlink("nowhere/at all", "dangling") == 0 && symlink("plain", "link") == 0 && mkfifo("fifo", 0620) == 0);
    int fd = open("holes", O_RDWR | O_CREAT, 0600);
    MUST(pwrite(fd, "a", 1, 10 << 20) == 1 && pwrite(fd, "b", 1, 40 << 20) == 1 && ftruncate(fd, 64 << 20) == 0 && close(fd) == 0);
    MUST(mkdir("empty", 0700) == 0 && mkdir("deep", 02770) == 0 && mkdir("deep/er", 0711) == 0 && link("plain", "deep/er/plain3") == 0);
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    MUST(bind(s, (void *)&address, sizeof address) == 0 && close(s) == 0);
    setxattr("plain", "user.note", "noted", 5, 0); /* where the file system has them */
    MUST(utimensat(AT_FDCWD, "plain", times, 0) == 0 && utimensat(AT_FDCWD, "empty", times, 0) == 0 && utimensat(AT_FDCWD, "link", times, AT_SYMLINK_NOFOLLOW) == 0);
}

static uint64_t blocks(const char *place)
{
    struct stat st;
    char path[100];
    snprintf(path, sizeof path, "%s/holes", place);
    MUST(stat(path, &st) == 0 && st.st_size == 64 << 20);
    return (uint64_t)st.st_blocks;
}

int main(void)
{
    static const char *const places[] = {"/tmp/tree", "/dev/shm/tree", "/var/tmp/tree"};
    uint64_t before[3];
    umask(0);
    for (int k = 0; k < 3; k++) {
        if (mkdir(places[k], 0755) < 0) {
            MUST(k == 2); /* an ordinary user's pod may not write there */
            continue;
        }
        fill(places[k]);
        before[k] = look(AT_FDCWD, places[k]);
    }
    MUST(mknod("/tmp/null", S_IFCHR | 0666, makedev(1, 3)) < 0 && errno == EPERM);
    victim_wait();
    for (int k = 0; k < 3; k++)
        if (access(places[k], F_OK) == 0)
            MUST(look(AT_FDCWD, places[k]) == before[k] && blocks(places[k]) < 1000);
    MUST(access("/tmp/tree/plain", F_OK) == 0 && access("/dev/shm/tree/plain", F_OK) == 0);
    return victim_ok();
}
