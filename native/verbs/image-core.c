/* native image-core: the processes of an image, and one of them as an ELF core for a debugger. */
#include <fcntl.h>
#include <inttypes.h>

#include "../image/core.h"
#include "store-common.h"
#include "verbs.h"

static uint64_t memory_bytes(const struct mm *mm)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < mm->extents_count; i++)
        bytes += digest_is_zero(&mm->extents[i].digest) ? 0 : mm->extents[i].len;
    return bytes;
}

static void task_add(struct buf *out, const struct task *t)
{
    static const char *const states[] = {[TASK_STOPPED] = "stopped", [TASK_ZOMBIE] = "zombie"};
    const char *state = t->state < ARRAY_LENGTH(states) && states[t->state] ? states[t->state] : "running";
    AUTO_FREE char *name = json_quote(t->comm), *exe = json_quote(t->mm.exe ? t->mm.exe : "");
    buf_addf(out, "%s{\"pid\":%" PRIu64 ",\"ppid\":%" PRIu64 ",\"name\":%s,\"exe\":%s,\"state\":\"%s\",\"threads\":%zu,\"bytes\":%" PRIu64 "}",
             out->len ? "," : "", t->pid, t->ppid, name, exe, state, t->threads_count, memory_bytes(&t->mm));
}

static void list_print(const struct image *in)
{
    AUTO_BUF struct buf rows = {0};
    for (size_t i = 0; i < in->tasks_count; i++)
        task_add(&rows, &in->tasks[i]);
    buf_add(&rows, "", 1); /* a NUL ends the text */
    output_event("done", "\"processes\":[%s]", (char *)rows.data);
}

static int core_make(const struct image *in, const char *dir, const char *store, uint64_t pid, const char *path, struct err *e)
{
    AUTO_FREE char *where = store_of(dir, store);
    struct core_result made;
    struct store *s;
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(e, "make %s", path);
    int result = store_open(where, false, &s, e);
    if (!result) {
        result = core_write(in, s, pid, fd, &made, e);
        store_close(s);
    }
    if (result)
        unlink(path);
    else
        output_event("done", "\"pid\":%" PRIu64 ",\"threads\":%" PRIu64 ",\"segments\":%" PRIu64 ",\"bytes\":%" PRIu64, pid, made.threads,
                     made.segments, made.bytes);
    return result;
}

static int core_run(int argc, char **argv, struct err *e)
{
    const char *dir = NULL, *store = NULL, *out = NULL;
    uint64_t pid = 0;
    const struct option_spec specs[] = {
        {"image", 'd', &dir, true, "the image"},
        {"store", 'd', &store, false, "the store of its chunks (its own if not given)"},
        {"pid", 'u', &pid, false, "the process, as the pod numbers it; without it they are listed"},
        {"out", 'd', &out, false, "the core file to make; it must not be there"},
    };
    struct image image;
    if (plain_parse(argc, argv, "native image-core --image DIR [--pid PID --out FILE]", specs, ARRAY_LENGTH(specs), e))
        return -1;
    if ((pid != 0) != (out != NULL))
        return err_set(e, E_USAGE, "--pid and --out belong together");
    if (image_read(dir, &image, NULL, e))
        return -1;
    int result = 0;
    if (pid)
        result = core_make(&image, dir, store, pid, out, e);
    else
        list_print(&image);
    image_free(&image);
    return result;
}

int verb_image_core(int argc, char **argv)
{
    struct err e = {0};
    output_open(1);
    return verb_end(core_run(argc, argv, &e), &e);
}
