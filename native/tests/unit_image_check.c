/* Images that decode and are impossible, and paths that lead somewhere else, are refused by name. */
#include "image/image.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "tests/tap.h"

static bool impossible(struct image *in, const char *words)
{
    struct err e = {0};
    bool refused = image_check(in, &e) == -1 && e.code == E_BAD_IMAGE && strstr(e.message, words);
    if (!refused)
        printf("# %s\n", e.message);
    image_free(in);
    return refused;
}

static struct task *task_make(struct image *in, uint64_t pid)
{
    struct task *t = LIST_ADD(in, tasks);
    t->pid = pid;
    return t;
}

static void impossible_images_are_refused(void)
{
    struct image i = {0};
    task_make(&i, 5);
    task_make(&i, 5);
    ok(impossible(&i, "a pid that comes twice"), "two processes of one pid");
    task_make(&i, 0);
    ok(impossible(&i, "pid that comes twice, or is 0"), "a process of pid 0");
    task_make(&i, 1ul << 40);
    ok(impossible(&i, "an impossible pid"), "a pid beyond all pids");
    LIST_ADD(task_make(&i, 5), threads)->tid = 6;
    ok(impossible(&i, "not its leader"), "a process without its leader");
    *LIST_ADD(&task_make(&i, 5)->mm, vmas) = (struct vma){.start = 0x1000, .end = 0x800000001000};
    ok(impossible(&i, "outside of user space"), "a mapping of the kernel's half");
    *LIST_ADD(&task_make(&i, 5)->mm, vmas) = (struct vma){.start = 0x1001, .end = 0x3000};
    ok(impossible(&i, "outside of user space"), "a mapping that begins inside a page");
    struct mm *m = &task_make(&i, 5)->mm;
    *LIST_ADD(m, vmas) = (struct vma){.start = 0x1000, .end = 0x3000};
    *LIST_ADD(m, vmas) = (struct vma){.start = 0x2000, .end = 0x4000};
    ok(impossible(&i, "overlap"), "mappings that overlap");
    *LIST_ADD(&task_make(&i, 5)->mm, vmas) = (struct vma){.start = 0x1000, .end = 0x3000, .kind = VMA_MEMOBJ, .memobj = 3};
    ok(impossible(&i, "a memory object that is not there"), "a mapping of nothing");
    *LIST_ADD(&task_make(&i, 5)->mm, extents) = (struct extent){.at = UINT64_MAX - 4095, .len = 8192};
    ok(impossible(&i, "outside of user space"), "content that wraps around");
    *LIST_ADD(&task_make(&i, 5)->mm, extents) = (struct extent){.at = 0x1000, .len = CHUNK_MAX + 4096, .digest = {{1}}};
    ok(impossible(&i, "longer than a chunk"), "a piece of more than a chunk");
    m = &task_make(&i, 5)->mm;
    *LIST_ADD(m, extents) = (struct extent){.at = 0x2000, .len = 4096};
    *LIST_ADD(m, extents) = (struct extent){.at = 0x1000, .len = 4096};
    ok(impossible(&i, "out of order"), "content out of order");
    LIST_ADD(task_make(&i, 5), fds)->file = 9;
    ok(impossible(&i, "a file that is not there"), "a descriptor of nothing");
    LIST_ADD(&i, files)->id = 9;
    LIST_ADD(&i, files)->id = 9;
    ok(impossible(&i, "id that comes twice"), "two files of one number");
}

/* ---- half-read directories */
static bool half_read(uint64_t kind, uint64_t told, const char *name)
{
    struct image i = {0};
    struct err e = {0};
    struct file *f = LIST_ADD(&i, files);
    *f = (struct file){.id = 1, .kind = kind, .told = told, .path = xstrdup("/tmp/d")};
    LIST_ADD(f, names)->name = xstrdup(name);
    LIST_ADD(f, names)->name = xstrdup("other");
    bool taken = image_check(&i, &e) == 0;
    image_free(&i);
    return taken;
}

static void impossible_directories_are_refused(void)
{
    ok(half_read(FILE_DIRECTORY, 1, "name") && half_read(FILE_DIRECTORY, 2, "name"), "a directory that is half read is taken");
    ok(!half_read(FILE_DIRECTORY, 3, "name") && !half_read(FILE_DIRECTORY, 0, "name"), "more names told than there are, or none");
    ok(!half_read(FILE_REGULAR, 1, "name"), "names in a regular file");
    ok(!half_read(FILE_DIRECTORY, 1, "../name") && !half_read(FILE_DIRECTORY, 1, ""), "names that lead out of it");
}

/* ---- message queues */
static void queue_with(struct image *i, uint64_t room, size_t len, uint64_t first, uint64_t second)
{
    struct mqueue *q = LIST_ADD(i, mqueues);
    *q = (struct mqueue){.id = 1, .name = xstrdup("/q"), .max_messages = room, .message_bytes = 5};
    LIST_ADD(q, messages)->priority = first;
    struct mq_message *m = LIST_ADD(q, messages);
    m->priority = second;
    bytes_set(&m->data, "0123456789", len);
}

static bool possible(struct image *in);

static void impossible_queues_are_refused(void)
{
    struct image i = {0};
    queue_with(&i, 1, 5, 3, 3);
    ok(impossible(&i, "more than full"), "a message queue with more messages than it takes");
    queue_with(&i, 2, 6, 3, 3);
    ok(impossible(&i, "longer than its queue takes"), "a message that is too long");
    queue_with(&i, 2, 5, 32768, 3);
    ok(impossible(&i, "impossible priority"), "a message of a priority beyond all");
    queue_with(&i, 2, 5, 3, 4);
    ok(impossible(&i, "out of order"), "a message before one of higher priority");
    queue_with(&i, 2, 5, 32767, 0);
    ok(possible(&i), "a full queue is taken");
}

/* ---- paths that lead somewhere else */
static struct file *file_with(struct image *i, uint64_t kind, const char *path)
{
    struct file *f = LIST_ADD(i, files);
    *f = (struct file){.id = i->files_count, .kind = kind, .path = xstrdup(path)};
    return f;
}

static bool possible(struct image *in)
{
    struct err e = {0};
    int result = image_check(in, &e);
    if (result)
        printf("# %s\n", e.message);
    image_free(in);
    return result == 0;
}

static void leading_paths_are_refused(void)
{
    static const char *const paths[] = {"relative", "/proc/2/../../etc/shadow", "/a/./b", "/a//b", "/a/", "/..", "/proc/self/fd/7/x", "/proc/thread-self",
                                        "/proc/2/root/etc/shadow", "/proc/2/task/2/cwd/x", "/proc/2/fd/3", "/proc/2/fd/3/x", "/proc/2/exe", "/proc/2/map_files/1-2"};
    struct image i = {0};
    for (size_t k = 0; k < ARRAY_LENGTH(paths); k++) {
        file_with(&i, FILE_REGULAR, paths[k]);
        ok(impossible(&i, "none that the kernel gives"), "an open file of the path %s", paths[k]);
    }
    struct tree *t = LIST_ADD(&i, trees);
    t->name = xstrdup("tmp");
    struct entry *x = LIST_ADD(t, entries);
    *x = (struct entry){.path = xstrdup("way"), .mode = S_IFLNK | 0777, .target = xstrdup("/proc/self/fd/7")};
    file_with(&i, FILE_REGULAR, "/tmp/way/x");
    ok(impossible(&i, "none that the kernel gives"), "an open file behind a link of a captured tree");
    LIST_ADD(&i, hostfiles)->path = xstrdup("/usr/../x");
    ok(impossible(&i, "a file of the node"), "a file of the node with ..");
    LIST_ADD(&i, unix_sockets)->dir = xstrdup("/proc/self/fd/7");
    ok(impossible(&i, "the directory of a Unix socket"), "a socket's directory behind a descriptor");
    task_make(&i, 5)->cwd = xstrdup("/proc/5/root");
    ok(impossible(&i, "a working directory"), "a working directory behind a magic link");
    *LIST_ADD(&task_make(&i, 5)->mm, vmas) = (struct vma){.start = 0x1000, .end = 0x3000, .kind = VMA_FILE, .path = xstrdup("/lib/../x")};
    ok(impossible(&i, "a mapped file"), "a mapped file with ..");
    file_with(&i, FILE_REGULAR, "/");
    file_with(&i, FILE_REGULAR, "/a/...");
    file_with(&i, FILE_REGULAR, "/tmp/.hidden/..x");
    file_with(&i, FILE_PROC, "/proc/2/status");
    file_with(&i, FILE_DIRECTORY, "/proc/2/fd");
    file_with(&i, FILE_DIRECTORY, "/proc/2/task/2");
    file_with(&i, FILE_PATH_ONLY, "/proc/2/exe")->flags = O_PATH | O_NOFOLLOW;
    file_with(&i, FILE_MEMOBJ, "/memfd:a/../b (deleted)");
    file_with(&i, FILE_PIPE, "");
    ok(possible(&i), "paths as the kernel gives them are taken");
}

int main(void)
{
    seed_begin();
    impossible_images_are_refused();
    impossible_directories_are_refused();
    impossible_queues_are_refused();
    leading_paths_are_refused();
    return done_testing();
}
