/* Paths in trees that others filled: links in them to /proc/self/fd/N must never lead to what this process holds open. */
#include <dirent.h>
#include <sys/inotify.h>

#include "../kernel/inside.h"
#include "../restore/load.h"
#include "../restore/unix_names.h"
#include "files_harness.h"

static char host[] = "/tmp/unit-inside-host-XXXXXX"; /* stands for a directory of the machine, held open */
static char tree[] = "/tmp/unit-inside-tree-XXXXXX"; /* of a hostile image: links of it lead to `host` */
static int host_fd;

static char *in_tree(const char *name)
{
    return xasprintf("%s/%s", tree, name);
}

static void link_into(const char *name, const char *below)
{
    AUTO_FREE char *at = in_tree(name), *target = xasprintf("/proc/self/fd/%d%s", host_fd, below);
    MUST(symlink(target, at) == 0);
}

static int entries_of_host(void)
{
    AUTO_DIR DIR *d = opendir(host);
    int count = 0;
    for (struct dirent *entry; d && (entry = readdir(d));)
        count += entry->d_name[0] != '.';
    return count;
}

static void scene_make(void)
{
    MUST(mkdtemp(host) && mkdtemp(tree));
    AUTO_FREE char *file = xasprintf("%s/secret", host), *folder = in_tree("folder"), *sideways = in_tree("sideways"), *fifo = xasprintf("%s/fifo", host);
    host_fd = open(host, O_RDONLY | O_DIRECTORY);
    int fd = open(file, O_WRONLY | O_CREAT, 0600);
    MUST(host_fd >= 0 && fd >= 0 && close(fd) == 0 && mkfifo(fifo, 0600) == 0);
    MUST(mkdir(folder, 0755) == 0 && symlink("folder", sideways) == 0);
    link_into("out", "");
    link_into("secret", "/secret");
    link_into("fifo", "/fifo");
    link_into("sock", "/sock");
}

static void opening(void)
{
    const char *name;
    struct err e;
    AUTO_FREE char *out = in_tree("out/secret"), *sideways = in_tree("sideways"), *deep = in_tree("sideways/a/b/c"), *lost = in_tree("out/a/b"), *dots = in_tree("..");
    ok(inside_open(out, O_RDONLY, 0) < 0 && errno == ELOOP, "a file behind a link to an open directory is refused");
    ok(inside_parent(out, &name) < 0 && errno == ELOOP, "its directory too");
    AUTO_CLOSE int fd = inside_open(sideways, O_PATH | O_DIRECTORY, 0);
    ok(fd >= 0 && inside_is_linked(sideways), "an ordinary link is followed");
    ok(inside_parent(dots, &name) < 0 && errno == EINVAL, "a path that ends with .. has no name");
    AUTO_CLOSE int made = inside_mkdirs(deep, 0750, &e);
    struct stat a, b;
    ok(made >= 0 && fstat(made, &a) == 0 && stat(deep, &b) == 0 && a.st_ino == b.st_ino && (b.st_mode & 0777) == 0750, "directories are made, through ordinary links too");
    ok(inside_mkdirs(lost, 0755, &e) < 0 && inside_mkdirs("a/b", 0755, &e) < 0 && entries_of_host() == 2, "but not through the others");
}

static struct unix_socket socket_of(struct sockaddr_un *a, const char *path, const char *dir)
{
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(a->sun_path, sizeof a->sun_path, "%s", path);
    return (struct unix_socket){.type = SOCK_STREAM, .mode = S_IFSOCK | 0600, .dir = (char *)(uintptr_t)dir,
                                .name = {(uint8_t *)a, offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1}};
}

static bool is_bound(const char *path, const char *dir, uint64_t mode, struct err *e)
{
    struct sockaddr_un a;
    struct names names = {0};
    struct unix_socket u = socket_of(&a, path, dir);
    u.mode = mode;
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    bool good = name_bind(&names, fd, &u, e) == 0 && listen(fd, 1) == 0 && name_connect(NULL, client, &u, NULL, e) == 0 && names_finish(&names, e) == 0;
    names_free(&names);
    return good;
}

static void unix_names(void)
{
    struct err e;
    struct sockaddr_un a;
    struct stat st;
    AUTO_FREE char *good = in_tree("folder/sock"), *out = in_tree("out/secret"), *in = in_tree("out"), *linked = in_tree("sock"), *outer = xasprintf("%s/sock", host);
    ok(is_bound(good, "", S_IFSOCK | 0640, &e) && stat(good, &st) == 0 && (st.st_mode & 0777) == 0640, "a name in the tree is bound, described and reached");
    ok(is_bound("sock", tree, 0, &e) && readlink(linked, (char[8]){0}, 8) == 8, "a borrowed relative name too, and what stood there is back");
    ok(!is_bound(out, "", S_IFSOCK | 0666, &e) && !is_bound(out, "", 0, &e), "a name behind a link to an open directory is refused");
    ok(!is_bound("secret", in, 0, &e) && !is_bound("new", in, S_IFSOCK | 0666, &e), "as a relative name too");
    AUTO_FREE char *secret = xasprintf("%s/secret", host);
    ok(entries_of_host() == 2 && stat(secret, &st) == 0 && (st.st_mode & 0777) == 0600, "and nothing happened there");
    a = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", outer);
    AUTO_CLOSE int server = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    MUST(bind(server, (void *)&a, sizeof a) == 0 && listen(server, 1) == 0);
    struct unix_socket u = socket_of(&a, linked, "");
    ok(name_connect(NULL, client, &u, NULL, &e) < 0 && connect(client, (void *)&a, sizeof a) == 0, "nor is a socket reached through such a link, which connect(2) would do");
    unlink(outer);
}

static void files_of_image(void)
{
    struct err e;
    struct pod pod = {.dirfd = -1};
    int none = -1;
    struct image image = {0};
    struct restore r = {.pod = &pod, .image = &image, .file_fds = &none};
    AUTO_FREE char *secret = in_tree("secret"), *fifo = in_tree("out/fifo"), *unlinked = in_tree("out/new"), *late = xasprintf("/proc/%d/root/etc/passwd", getpid());
    AUTO_FREE char *up = xasprintf("/proc/%d/../../etc/passwd", getpid());
    struct file f = {.kind = FILE_REGULAR, .path = secret};
    ok(file_open(&r, &f, &e) < 0, "no file of an image is opened through such a link: %s", e.message);
    f.path = late;
    ok(file_open(&r, &f, &e) < 0, "nor through /proc/PID/root: %s", e.message);
    f.path = up;
    ok(file_open(&r, &f, &e) < 0 && e.code == E_BAD_IMAGE, "nor above /proc: %s", e.message);
    struct pipe p = {.id = 1, .path = fifo, .capacity = 65536};
    image.pipes = &p;
    image.pipes_count = 1;
    ok(pipes_load(&r, &e) < 0, "nor a FIFO: %s", e.message);
    p = (struct pipe){.id = 1, .path = (char[]){""}, .capacity = 1u << 29};
    ok(pipes_load(&r, &e) < 0 && e.code == E_UNSUPPORTED, "a pipe larger than this node allows is refused: %s", e.message);
    struct memobj m = {.id = 1, .kind = MEMOBJ_UNLINKED, .name = unlinked, .mode = 0600};
    image = (struct image){.memobjs = &m, .memobjs_count = 1};
    r.memobj_fds = &none;
    ok(memobjs_load(&r, &e) < 0 && entries_of_host() == 2, "nor is an unlinked file made there: %s", e.message);
    struct inotify_watch watch = {.wd = 1, .mask = IN_CREATE, .path = (char *)(uintptr_t)in_tree("out")};
    struct file events = {.id = 1, .kind = FILE_INOTIFY};
    struct inotify inotify = {.id = 1, .watches = &watch, .watches_count = 1};
    image = (struct image){.files = &events, .files_count = 1, .inotifies = &inotify, .inotifies_count = 1};
    none = -1;
    ok(inotify_load(&r, &e) < 0, "nor watched: %s", e.message);
    free(watch.path);
}

int main(void)
{
    scene_make();
    opening();
    unix_names();
    files_of_image();
    AUTO_FREE char *command = xasprintf("rm -rf %s %s", host, tree);
    ok(system(command) == 0, "the test's directories are gone again");
    return done_testing();
}
