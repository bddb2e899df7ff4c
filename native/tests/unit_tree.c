/* Captured trees: everything that an overlay's upper directory can hold comes back, unchanged files are not read again,
 * changed ones always are, and a hostile tree reaches nothing outside of its directory. Needs root. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "image/tree_parts.h"
#include "tests/tap.h"

static const char *base;
static struct store *store;

static char *below(const char *name)
{
    return xasprintf("%s/%s", base, name);
}

static int folder(const char *name)
{
    AUTO_FREE char *path = below(name);
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        abort();
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        abort();
    return fd;
}

static void write_file(int dirfd, const char *name, const void *data, size_t len)
{
    int fd = openat(dirfd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, data, len) != (ssize_t)len)
        abort();
    close(fd);
}

static void check(int result)
{
    if (result < 0)
        abort();
}

static struct tree saved(int dirfd, const struct tree *previous, uint64_t *new_bytes)
{
    struct tree t = {0};
    struct err e = {0};
    if (tree_save(dirfd, "root", previous, NULL, store, &t, new_bytes, &e)) {
        printf("# %s\n", e.message);
        abort();
    }
    return t;
}

static int loaded(int dirfd, const struct tree *t, struct err *e)
{
    return tree_load(dirfd, t, store, e);
}

static const struct entry *entry_of(const struct tree *t, const char *path)
{
    for (size_t i = 0; i < t->entries_count; i++)
        if (strcmp(t->entries[i].path, path) == 0)
            return &t->entries[i];
    return NULL;
}

static bool extents_same(const struct entry *a, const struct entry *b)
{
    bool same = a->extents_count == b->extents_count;
    for (size_t i = 0; same && i < a->extents_count; i++)
        same = memcmp(&a->extents[i], &b->extents[i], sizeof *a->extents) == 0;
    return same;
}

static bool xattrs_same(const struct entry *a, const struct entry *b)
{
    bool same = a->xattrs_count == b->xattrs_count;
    for (size_t i = 0; same && i < a->xattrs_count; i++)
        same = strcmp(a->xattrs[i].name, b->xattrs[i].name) == 0 && a->xattrs[i].value.len == b->xattrs[i].value.len &&
               (!a->xattrs[i].value.len || memcmp(a->xattrs[i].value.data, b->xattrs[i].value.data, a->xattrs[i].value.len) == 0);
    return same;
}

static bool trees_same(const struct tree *a, const struct tree *b)
{
    bool same = a->entries_count == b->entries_count;
    for (size_t i = 0; same && i < a->entries_count; i++) {
        const struct entry *x = &a->entries[i], *y = &b->entries[i];
        same = strcmp(x->path, y->path) == 0 && x->mode == y->mode && x->uid == y->uid && x->gid == y->gid && x->rdev == y->rdev &&
               x->size == y->size && x->mtime_s == y->mtime_s && x->mtime_ns == y->mtime_ns && x->link_group == y->link_group &&
               strcmp(x->target ? x->target : "", y->target ? y->target : "") == 0 && extents_same(x, y) && xattrs_same(x, y);
        if (!same)
            printf("# differs: %s and %s\n", x->path, y->path);
    }
    return same;
}

/* Everything that there is, in one tree. */
static void zoo_fill(int d)
{
    uint8_t data[700000];
    random_fill(data, sizeof data);
    write_file(d, "plain", data, sizeof data);
    write_file(d, "empty", "", 0);
    write_file(d, "setuid", "x", 1);
    check(fchownat(d, "setuid", 1234, 2345, 0));
    check(fchmodat(d, "setuid", 06755, 0));
    check(mkdirat(d, "dir", 01777));
    check(fchmodat(d, "dir", 01777, 0));
    check(mkdirat(d, "dir/closed", 0700));
    write_file(d, "dir/closed/inside", "abc", 3);
    check(fchmodat(d, "dir/closed", 0, 0));
    check(symlinkat("../../etc/passwd", d, "dir/link"));
    check(symlinkat("nowhere\xff\xfe", d, "bytes\x01\x80\xff\n"));
    check(linkat(d, "plain", d, "dir/plain-again", 0));
    check(linkat(d, "plain", d, "a-third", 0));
    check(mknodat(d, "fifo", S_IFIFO | 0622, 0));
    check(mknodat(d, "socket", S_IFSOCK | 0755, 0));
    check(mknodat(d, "whiteout", S_IFCHR, makedev(0, 0)));
    check(mknodat(d, "null", S_IFCHR | 0666, makedev(1, 3)));
    check(mkdirat(d, "opaque", 0755));
    char name[256];
    memset(name, 'n', 255);
    name[255] = 0;
    write_file(d, name, "long", 4);
    int fd = openat(d, "sparse", O_RDWR | O_CREAT, 0600);
    check(ftruncate(fd, 1 << 30));
    check((int)pwrite(fd, data, 5000, 300000000));
    close(fd);
    fd = openat(d, "opaque", O_RDONLY | O_DIRECTORY);
    check(fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0));
    close(fd);
    fd = openat(d, "plain", O_RDWR);
    check(fsetxattr(fd, "user.note", "\0\1\2", 3, 0));
    check(fsetxattr(fd, "trusted.overlay.origin", "o", 1, 0));
    check(fsetxattr(fd, "security.capability", "\1\0\0\2\1\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20, 0));
    close(fd);
    struct timespec old[2] = {{100, 1}, {1000000000, 123456789}};
    check(utimensat(d, "dir", old, 0));
    check(utimensat(d, "dir/link", old, AT_SYMLINK_NOFOLLOW));
    check(utimensat(d, "plain", old, 0));
}

static void a_zoo_comes_back(void)
{
    AUTO_CLOSE int from = folder("zoo"), to = folder("zoo-back");
    struct err e = {0};
    uint64_t bytes = 0;
    zoo_fill(from);
    struct tree t = saved(from, NULL, &bytes);
    ok(bytes > 700000 && bytes < 1500000, "a tree of everything is captured, its content once (%lu bytes)", bytes);
    int result = loaded(to, &t, &e);
    ok(!result, "and made again%s%s", result ? ": " : "", e.message);
    uint64_t more = 0;
    struct tree back = saved(to, NULL, &more);
    ok(trees_same(&t, &back) && more == 0, "every entry is the same: mode, owner, times, attributes, links, nodes, content");
    struct stat a, b;
    ok(!fstatat(to, "plain", &a, 0) && !fstatat(to, "dir/plain-again", &b, 0) && a.st_ino == b.st_ino && a.st_nlink == 3,
       "names of one file are names of one file again");
    ok(!fstatat(to, "sparse", &a, 0) && a.st_size == 1 << 30 && a.st_blocks < 1000, "a sparse file stays sparse");
    const struct entry *plain = entry_of(&t, "a-third");
    ok(plain && plain->xattrs_count == 2, "overlayfs's own notes stay behind, other attributes travel");
    tree_free(&t);
    tree_free(&back);
}

static void unchanged_files_are_not_read_again(void)
{
    AUTO_CLOSE int d = folder("again");
    uint8_t data[50000];
    random_fill(data, sizeof data);
    write_file(d, "kept", data, sizeof data);
    write_file(d, "changed", data, 40000);
    usleep(50000);
    uint64_t bytes = 0;
    struct tree first = saved(d, NULL, &bytes);
    /* proof that it is not read: the parent's extents are taken over, whatever they say */
    const struct entry *kept = entry_of(&first, "kept");
    ((struct entry *)(uintptr_t)kept)->extents[0].len = 777;
    data[0] ^= 1;
    write_file(d, "changed", data, 40000);
    usleep(50000);
    struct tree second = saved(d, &first, &bytes);
    ok(entry_of(&second, "kept")->extents[0].len == 777, "content of an unchanged file is taken over from the parent image");
    ok(!extents_same(entry_of(&second, "changed"), entry_of(&first, "changed")), "a changed file of the same size is read");
    tree_free(&first);
    tree_free(&second);
}

static void mapped_writes_are_seen(void)
{
    AUTO_CLOSE int d = folder("mapped");
    uint8_t data[8192] = {1};
    write_file(d, "shared", data, sizeof data);
    int fd = openat(d, "shared", O_RDWR | O_CLOEXEC);
    uint8_t *map = mmap(NULL, sizeof data, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    map[0] = 2;
    close(fd);
    usleep(50000);
    uint64_t bytes = 0;
    struct tree first = saved(d, NULL, &bytes);
    map[1] = 3; /* the page is writable already: no time changes */
    struct tree second = saved(d, &first, &bytes);
    const struct entry *a = entry_of(&first, "shared"), *b = entry_of(&second, "shared");
    bool times = a->mtime_s == b->mtime_s && a->mtime_ns == b->mtime_ns;
    ok(!extents_same(a, b), "a write through a mapping, which %s the file's times, is seen", times ? "does not change" : "changes");
    munmap(map, sizeof data);
    tree_free(&first);
    tree_free(&second);
}

static void a_write_in_the_same_tick_is_seen(void)
{
    AUTO_CLOSE int d = folder("tick");
    uint8_t data[4096] = {1};
    int missed = 0;
    for (uint8_t round = 1; round <= 50; round++) {
        uint64_t bytes = 0;
        data[0] = round;
        write_file(d, "f", data, sizeof data);
        struct tree first = saved(d, NULL, &bytes);
        data[0] = (uint8_t)(round + 100);
        write_file(d, "f", data, sizeof data);
        struct tree second = saved(d, &first, &bytes);
        missed += extents_same(entry_of(&first, "f"), entry_of(&second, "f"));
        tree_free(&first);
        tree_free(&second);
    }
    ok(missed == 0, "two writes within a tick of the clock look different, 50 of 50 times");
}

static void real_overlay_comes_back(void)
{
    AUTO_CLOSE int lower = folder("ov-lower"), upper = folder("ov-upper"), back = folder("ov-back");
    close(folder("ov-work"));
    close(folder("ov-merged"));
    write_file(lower, "gone", "gone", 4);
    check(mkdirat(lower, "d", 0755));
    write_file(lower, "d/old", "old", 3);
    AUTO_FREE char *commands = xasprintf(
        "cd %s && mount -t overlay none -o lowerdir=ov-lower,upperdir=ov-upper,workdir=ov-work ov-merged && "
        "rm ov-merged/gone && rm -r ov-merged/d && mkdir ov-merged/d && echo new > ov-merged/d/new; s=$?; umount ov-merged; exit $s", base);
    if (!ok(system(commands) == 0, "an overlay is mounted, a file and a directory of its lower side replaced"))
        return;
    uint64_t bytes = 0;
    struct err e = {0};
    struct tree t = saved(upper, NULL, &bytes);
    int result = loaded(back, &t, &e);
    ok(!result, "its upper side is captured and made again%s%s", result ? ": " : "", e.message);
    AUTO_FREE char *look = xasprintf(
        "cd %s && rm -rf ov-work && mkdir ov-work && mount -t overlay none -o lowerdir=ov-lower,upperdir=ov-back,workdir=ov-work ov-merged && "
        "test \"$(cd ov-merged && find . | sort | tr '\\n' ' ')\" = '. ./d ./d/new '; s=$?; umount ov-merged; exit $s", base);
    ok(system(look) == 0, "and an overlay on it shows the same: what was removed stays removed");
    tree_free(&t);
}

/* ---- hostile trees */
static struct entry *entry_make(struct tree *t, const char *path, uint64_t mode)
{
    struct entry *x = LIST_ADD(t, entries);
    x->path = xstrdup(path);
    x->mode = mode;
    x->target = xstrdup("/etc");
    return x;
}

static void refused(struct tree *t, const char *words, const char *sentence)
{
    static int number;
    AUTO_FREE char *name = xasprintf("hostile-%d", number++);
    AUTO_CLOSE int d = folder(name);
    struct err e = {0};
    t->name = t->name ? t->name : xstrdup("root");
    int result = loaded(d, t, &e);
    ok(result == -1 && strstr(e.message, words), "%s (%s)", sentence, e.message);
    tree_free(t);
}

static void hostile_trees_are_refused(void)
{
    static const char *const paths[] = {"..", "../x", "a/../../x", "/etc/x", "", "a//b", "./a", "a/.", "a/"};
    for (size_t i = 0; i < ARRAY_LENGTH(paths); i++) {
        struct tree t = {0};
        entry_make(&t, "a", S_IFDIR | 0755);
        entry_make(&t, paths[i], S_IFREG | 0644);
        AUTO_FREE char *sentence = xasprintf("the name '%s' is refused", paths[i]);
        refused(&t, "a name that may not be", sentence);
    }
    struct tree t = {0};
    entry_make(&t, "out", S_IFLNK | 0777);
    entry_make(&t, "out/passwd", S_IFREG | 0644);
    refused(&t, "no directory of the tree", "a name through a link is refused");
    entry_make(&t, "disk", S_IFBLK | 0666)->rdev = makedev(8, 0);
    refused(&t, "device node", "a disk's node is refused");
    entry_make(&t, "mem", S_IFCHR | 0666)->rdev = makedev(1, 1);
    refused(&t, "device node", "the memory's node is refused");
    entry_make(&t, "x", S_IFREG | 0644);
    entry_make(&t, "x", S_IFREG | 0644);
    refused(&t, "create", "a name that comes twice is refused");
    entry_make(&t, "x", S_IFREG | 0644)->link_group = 99;
    refused(&t, "group of links", "an impossible group of links is refused");
    entry_make(&t, "x", 0170000 | 0644);
    refused(&t, "impossible kind", "an impossible kind of file is refused");
    entry_make(&t, "x", S_IFREG | 0644)->uid = UINT64_MAX;
    refused(&t, "impossible owner", "an impossible owner is refused");
    struct entry *x = entry_make(&t, "x", S_IFREG | 0644);
    struct xattr *a = LIST_ADD(x, xattrs);
    a->name = xstrdup("trusted.overlay.metacopy");
    refused(&t, "does not travel", "an attribute that makes overlayfs show another file is refused");
    x = entry_make(&t, "x", S_IFREG | 0644);
    x->size = 10;
    *LIST_ADD(x, extents) = (struct extent){.at = 1ul << 40, .len = 5, .digest = {{1}}};
    refused(&t, "behind the end", "content behind a file's end is refused");
    x = entry_make(&t, "x", S_IFREG | 0644);
    x->size = 10;
    *LIST_ADD(x, extents) = (struct extent){.len = 5, .digest = {{1}}};
    refused(&t, "not in the store", "content that is not there is named");
}

static void powers_are_noticed(void)
{
    struct tree t = {.name = xstrdup("root")};
    struct err e = {0};
    struct entry *x = entry_make(&t, "tool", S_IFREG | 04755);
    x->uid = x->gid = 1000;
    ok(tree_check_powers(&t, 1000, 1000, &e) == 0, "a file may be set-uid for its own owner");
    x->uid = 0;
    ok(tree_check_powers(&t, 1000, 1000, &e) == -1 && e.code == E_BAD_IMAGE, "but not for root: %s", e.message);
    x->mode = S_IFREG | 0755;
    struct xattr *a = LIST_ADD(x, xattrs);
    a->name = xstrdup("security.capability");
    ok(tree_check_powers(&t, 1000, 1000, &e) == -1, "nor may it have capabilities");
    tree_free(&t);
}

static void devices_are_refused_when_saved(void)
{
    AUTO_CLOSE int d = folder("device");
    struct err e = {0};
    struct tree t = {0};
    uint64_t bytes = 0;
    check(mknodat(d, "disk", S_IFBLK | 0600, makedev(7, 200)));
    ok(tree_save(d, "root", NULL, NULL, store, &t, &bytes, &e) == -1 && e.code == E_UNSUPPORTED && strstr(e.message, "disk"),
       "a disk's node in a tree is refused by name (%s)", e.message);
}

static void hostfiles_come_by_content(void)
{
    AUTO_CLOSE int d = folder("host");
    uint8_t data[300000];
    struct err e = {0};
    random_fill(data, sizeof data);
    write_file(d, "lib.so", data, sizeof data);
    usleep(50000);
    AUTO_CLOSE int fd = openat(d, "lib.so", O_RDONLY);
    struct hostfile h = {0}, again = {0}, other = {0};
    uint64_t bytes = 0, more = 0;
    ok(!hostfile_save(fd, "/lib/lib.so", NULL, store, &h, &bytes, &e) && bytes > 290000 && h.size == sizeof data, "a file of the node is kept by content");
    h.extents[0].len = 555;
    ok(!hostfile_save(fd, "/lib/lib.so", &h, store, &again, &more, &e) && more == 0 && again.extents[0].len == 555, "and not read again while it is the same");
    data[5] ^= 1;
    write_file(d, "lib.so", data, sizeof data);
    ok(!hostfile_save(fd, "/lib/lib.so", &h, store, &other, &more, &e) && other.extents[0].len != 555 && more > 0, "but after it changed");
    ok(hostfile_save(d, "/lib", NULL, store, &other, &more, &e) == -1 && e.code == E_UNSUPPORTED, "a directory is refused");
    hostfile_free(&h);
    hostfile_free(&again);
    hostfile_free(&other);
}

static void hostfiles_are_made(void)
{
    AUTO_CLOSE int upper = folder("up"), lower = folder("low"), outside = folder("outside");
    struct hostfile h = {.path = xstrdup("/opt/lib/lib.so"), .mode = S_IFREG | 04755, .size = 700000};
    struct err e = {0};
    uint64_t bytes = 0;
    AUTO_FREE uint8_t *data = xcalloc(h.size, 1);
    random_fill(data, 1000);
    random_fill(data + 600000, 1000);
    write_file(outside, "lib.so", data, h.size);
    AUTO_CLOSE int fd = openat(outside, "lib.so", O_RDONLY | O_CLOEXEC);
    if (store_put_file(store, fd, h.size, &h.extents, &h.extents_count, &bytes, &e))
        abort();
    check(mkdirat(lower, "opt", 0750));
    check(fchownat(lower, "opt", 12, 34, 0));
    ok(hostfile_matches(fd, &h), "a file matches what was captured of it");
    ok(!hostfile_load(upper, lower, &h, store, &e), "a file that the host has not is put into the pod");
    AUTO_CLOSE int back = openat(upper, "opt/lib/lib.so", O_RDWR | O_CLOEXEC);
    struct stat st;
    ok(back >= 0 && hostfile_matches(back, &h) && !fstat(back, &st) && (st.st_mode & 07777) == 0755, "with its content, and never set-uid");
    ok(!fstatat(upper, "opt", &st, 0) && st.st_uid == 12 && st.st_gid == 34 && (st.st_mode & 0777) == 0750, "its directories are like the host's");
    check((int)pwrite(back, "x", 1, 400000));
    ok(!hostfile_matches(back, &h), "a byte where zeros should be is another file");
    ok(!hostfile_load(upper, lower, &h, store, &e) && !hostfile_matches(back, &h), "what stands there already stays");
    AUTO_FREE char *target = below("outside");
    check(symlinkat(target, upper, "way"));
    free(h.path);
    h.path = xstrdup("/way/sub/lib.so");
    ok(hostfile_load(upper, lower, &h, store, &e) == -1 && e.code == E_BAD_IMAGE && faccessat(outside, "sub", F_OK, 0) < 0,
       "a path through a link that a tree brought is refused, and nothing made outside (%s)", e.message);
    free(h.path);
    h.path = xstrdup("/opt/../../lib.so");
    ok(hostfile_load(upper, lower, &h, store, &e) == -1 && e.code == E_BAD_IMAGE, "a path with .. is refused");
    hostfile_free(&h);
}

int main(void)
{
    struct err e = {0};
    seed_begin();
    base = tap_dir_make();
    AUTO_FREE char *path = below("store");
    if (store_open(path, true, &store, &e))
        abort();
    a_zoo_comes_back();
    unchanged_files_are_not_read_again();
    mapped_writes_are_seen();
    a_write_in_the_same_tick_is_seen();
    real_overlay_comes_back();
    hostile_trees_are_refused();
    powers_are_noticed();
    devices_are_refused_when_saved();
    hostfiles_come_by_content();
    hostfiles_are_made();
    store_close(store);
    return done_testing();
}
