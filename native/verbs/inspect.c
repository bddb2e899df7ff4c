/* native inspect: what an image holds, in words or all of it as JSON. */
#include <inttypes.h>

#include "store-common.h"
#include "verbs.h"

static uint64_t extents_bytes(const struct extent *x, size_t count)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += digest_is_zero(&x[i].digest) ? 0 : x[i].len;
    return bytes;
}

static void size_print(const char *what, uint64_t bytes)
{
    static const char units[] = "BKMGT";
    double shown = (double)bytes;
    size_t unit = 0;
    for (; shown >= 1024 && unit < 4; unit++)
        shown /= 1024;
    printf("  %-10s %.4g %c%s\n", what, shown, units[unit], unit ? "iB" : "");
}

static const char *state_word(uint64_t state)
{
    return state == TASK_ZOMBIE ? "zombie" : state == TASK_STOPPED ? "stopped" : "running";
}

static void tasks_print(const struct image *in)
{
    printf("\nprocesses\n  %7s %7s %-8s %7s %10s  %s\n", "pid", "parent", "state", "threads", "memory", "name");
    for (size_t i = 0; i < in->tasks_count; i++) {
        const struct task *t = &in->tasks[i];
        uint64_t kib = extents_bytes(t->mm.extents, t->mm.extents_count) / 1024;
        AUTO_FREE char *name = json_quote(t->comm);
        printf("  %7" PRIu64 " %7" PRIu64 " %-8s %7zu %7" PRIu64 "KiB  %s\n", t->pid, t->ppid, state_word(t->state),
               t->threads_count, kib, name);
    }
}

static void counts_print(const struct image *in)
{
    const struct {
        const char *what;
        size_t count;
    } rows[] = {
        {"open files", in->files_count},      {"pipes", in->pipes_count},          {"Unix sockets", in->unix_sockets_count},
        {"TCP sockets", in->tcp_sockets_count}, {"UDP sockets", in->udp_sockets_count}, {"netlink", in->netlink_sockets_count},
        {"raw sockets", in->raw_sockets_count},
        {"epolls", in->epolls_count},         {"eventfds", in->eventfds_count},    {"timerfds", in->timerfds_count},
        {"signalfds", in->signalfds_count},   {"inotifies", in->inotifies_count},  {"locks", in->locks_count},
        {"terminals", in->ptys_count},        {"shared memory", in->memobjs_count}, {"files of the node", in->hostfiles_count},
    };
    printf("\nobjects\n");
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++)
        if (rows[i].count)
            printf("  %-18s %zu\n", rows[i].what, rows[i].count);
    for (size_t i = 0; i < in->trees_count; i++)
        printf("  tree %-13s %zu entries\n", in->trees[i].name, in->trees[i].entries_count);
}

static void sizes_print(const struct image *in)
{
    printf("\nsizes\n");
    size_print("content", in->raw_bytes);
    size_print("stored", in->stored_bytes);
    size_print("new", in->new_bytes);
}

static void summary_print(const struct image *in, const struct digest *digest)
{
    char hex[65];
    digest_hex(digest, hex);
    printf("image      %s\nformat     %" PRIu64 "\nhost name  %s\nkernel     %s\nengine     %s\npause      %.3f ms\n", hex, in->format,
           in->pod.hostname, in->kernel, in->engine, (double)in->pause_ns / 1e6);
    digest_hex(&in->parent, hex);
    printf("parent     %s\n", digest_is_zero(&in->parent) ? "none" : hex);
    tasks_print(in);
    counts_print(in);
    sizes_print(in);
    for (size_t i = 0; i < in->warnings_count; i++)
        printf("%s%s: %.*s\n", i ? "" : "\nafter a restore\n  ", in->warnings[i].name, (int)in->warnings[i].value.len,
               (const char *)in->warnings[i].value.data);
}

static int inspect_run(int argc, char **argv, struct err *e)
{
    const char *dir = NULL;
    bool json = false;
    const struct option_spec specs[] = {{"json", 'b', &json, false, "all of the manifest as JSON"}};
    struct image image;
    struct digest digest;
    if (word_parse(argc, argv, "native inspect IMAGE [--json]", specs, ARRAY_LENGTH(specs), "IMAGE", &dir, e) ||
        image_read(dir, &image, &digest, e))
        return -1;
    if (json) {
        image_json(stdout, &image);
        putchar('\n');
    } else {
        summary_print(&image, &digest);
    }
    image_free(&image);
    return fflush(stdout) ? err_set(e, E_IO, "standard output cannot be written") : 0;
}

int verb_inspect(int argc, char **argv)
{
    struct err e = {0};
    output_open(2);
    return verb_end(inspect_run(argc, argv, &e), &e);
}
