/* Overlays that an ordinary user mounts in a namespace of its own: one with all layers on a tmpfs of the job, one over a folder of the pod's /tmp with its
 * changes on that tmpfs. Whiteouts, opaque directories and copied-up files stay; so do open files, a shared mapping, a working directory, an unlinked file and
 * a tmpfs upon it, and a program that was started from it.
 * COVERAGE: overlays that the job mounted (layers at their paths, changes on a tmpfs) | captured | not as the root, at several places, or upon one another: refused by name */
#include <dirent.h>
#include <errno.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "spaces.h"

#define OWN "/tmp/own"
#define MERGED OWN "/m"
#define OTHER "/tmp/other"

static int is_overlaid(int fd)
{
    struct statfs fs;
    return fstatfs(fd, &fs) == 0 && fs.f_type == OVERLAYFS_SUPER_MAGIC;
}

static void folder(const char *path)
{
    MUST(mkdir(path, 0755) == 0);
}

static void layers_make(void)
{
    static const char *const folders[] = {OWN "/l1", OWN "/l2", OWN "/u", OWN "/w", MERGED, OWN "/l1/opaque", OWN "/l2/deep", OTHER, "/tmp/low", OWN "/u2", OWN "/w2"};
    folder(OWN);
    MUST(mount("own", OWN, "tmpfs", 0, NULL) == 0);
    for (size_t k = 0; k < sizeof folders / sizeof *folders; k++)
        folder(folders[k]);
    put(OWN "/l1/both", "first"), put(OWN "/l2/both", "second"), put(OWN "/l2/low", "low"), put(OWN "/l2/deep/file", "deep");
    put(OWN "/l1/gone", "gone"), put(OWN "/l1/grows", "lower "), put(OWN "/l1/opaque/old", "old"), put(OWN "/u/upper", "upper"), put("/tmp/low/hostname", "name");
}

static void changes_make(void)
{
    MUST(unlink(MERGED "/gone") == 0 && unlink(MERGED "/opaque/old") == 0 && rmdir(MERGED "/opaque") == 0 && mkdir(MERGED "/opaque", 0700) == 0);
    put(MERGED "/opaque/new", "new");
    int fd = open(MERGED "/grows", O_WRONLY | O_APPEND);
    MUST(fd >= 0 && write(fd, "upper", 5) == 5 && close(fd) == 0);
    put(OTHER "/mine", "mine");
}

static void changes_check(void)
{
    struct stat st;
    MUST(has(MERGED "/both", "first") && has(MERGED "/low", "low") && has(MERGED "/deep/file", "deep") && has(MERGED "/upper", "upper"));
    MUST(has(MERGED "/grows", "lower upper") && has(OWN "/l1/grows", "lower ") && has(MERGED "/opaque/new", "new") && stat(MERGED "/opaque/old", &st) < 0);
    MUST(stat(MERGED "/gone", &st) < 0 && errno == ENOENT && has(OWN "/l1/gone", "gone") && lstat(OWN "/u/gone", &st) == 0 && S_ISCHR(st.st_mode));
    MUST(has(OTHER "/mine", "mine") && stat(OTHER "/hostname", &st) == 0 && stat("/tmp/low/mine", &st) < 0);
    MUST(rename(MERGED "/low", MERGED "/deep/low") == 0 && has(MERGED "/deep/low", "low") && stat(MERGED "/low", &st) < 0);
    put(MERGED "/late", "late");
    MUST(has(OWN "/u/late", "late") && unlink(OTHER "/hostname") == 0 && stat("/tmp/low/hostname", &st) == 0);
}

static void program_copy(void)
{
    static char block[1 << 16];
    int from = open("/proc/self/exe", O_RDONLY), to = open(MERGED "/program", O_WRONLY | O_CREAT, 0755);
    for (ssize_t n; (n = read(from, block, sizeof block)) > 0;)
        MUST(write(to, block, (size_t)n) == n);
    MUST(close(from) == 0 && close(to) == 0);
}

/* Started from the overlay: counts in a file of it that its parent has mapped. */
static int program(void)
{
    int fd = open("counter", O_RDWR);
    _Atomic uint64_t *counter = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    MUST(counter != MAP_FAILED && close(fd) == 0);
    while (!counter[1]) {
        counter[0]++;
        usleep(500);
    }
    char path[256] = {0};
    MUST(readlink("/proc/self/exe", path, sizeof path - 1) > 0 && strcmp(path, MERGED "/program") == 0);
    return 40;
}

int main(int argc, char **argv)
{
    char data[32] = {0}, cwd[64];
    int status;
    if (argc > 1 && strcmp(argv[1], "program") == 0)
        return program();
    become(CLONE_NEWUSER | CLONE_NEWNS, 0, 0);
    layers_make();
    MUST(mount("overlay", MERGED, "overlay", 0, "lowerdir=" OWN "/l1:" OWN "/l2,upperdir=" OWN "/u,workdir=" OWN "/w,userxattr") == 0);
    MUST(mount("overlay", OTHER, "overlay", 0, "lowerdir=/tmp/low,upperdir=" OWN "/u2,workdir=" OWN "/w2,userxattr") == 0);
    changes_make();
    program_copy();
    folder(MERGED "/upon");
    MUST(mount("upon", MERGED "/upon", "tmpfs", 0, NULL) == 0);
    put(MERGED "/upon/file", "upon"), put(MERGED "/counter", "");
    MUST(truncate(MERGED "/counter", 4096) == 0 && chdir(MERGED) == 0);
    int low = open(MERGED "/deep/file", O_RDONLY), log = open(MERGED "/log", O_RDWR | O_CREAT | O_APPEND, 0600), gone = open(MERGED "/nameless", O_RDWR | O_CREAT, 0600);
    int counting = open(MERGED "/counter", O_RDWR), below = open(OTHER "/hostname", O_RDONLY);
    MUST(low >= 0 && read(low, data, 2) == 2 && log >= 0 && write(log, "one ", 4) == 4 && gone >= 0 && write(gone, "nameless", 8) == 8 && unlink(MERGED "/nameless") == 0);
    _Atomic uint64_t *counter = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, counting, 0);
    int nowhere = open(OTHER "/nowhere", O_RDWR | O_CREAT, 0600);
    MUST(counter != MAP_FAILED && below >= 0 && write(nowhere, "nowhere", 7) == 7 && unlink(OTHER "/nowhere") == 0);
    pid_t child = fork();
    if (child == 0) {
        execl(MERGED "/program", "program", "program", NULL);
        _exit(1);
    }
    while (!counter[0])
        usleep(1000);
    victim_wait();
    uint64_t before = counter[0];
    while (counter[0] < before + 3)
        usleep(1000);
    counter[1] = 1;
    MUST(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 40);
    MUST(read(low, data, sizeof data) == 2 && memcmp(data, "ep", 2) == 0 && write(log, "two", 3) == 3 && has(MERGED "/log", "one two"));
    MUST(pread(gone, data, sizeof data, 0) == 8 && memcmp(data, "nameless", 8) == 0 && read(below, data, 1) == 1 && has(MERGED "/upon/file", "upon"));
    MUST(pread(nowhere, data, sizeof data, 0) == 7 && memcmp(data, "nowhere", 7) == 0 && is_overlaid(nowhere) && is_overlaid(gone) && is_overlaid(counting));
    MUST(getcwd(cwd, sizeof cwd) && strcmp(cwd, MERGED) == 0 && has("upper", "upper"));
    changes_check();
    return victim_ok();
}
