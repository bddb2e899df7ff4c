/* native store-frees: how many bytes the removal of images would give back. Lines "DIGEST GROUP" on standard input; images of a group go together. */
#include "store-common.h"
#include "verbs.h"

#define GROUPS_MAX 100000u

struct wanted {
    struct frees_member *members;
    size_t count, groups;
};

static int line_take(struct wanted *w, char *line, struct err *e)
{
    char *end = NULL, *space = strchr(line, ' ');
    if (space)
        *space = 0;
    unsigned long group = space ? strtoul(space + 1, &end, 10) : GROUPS_MAX;
    struct digest digest;
    if (digest_parse(line, &digest, e))
        return -1;
    if (!space || end == space + 1 || *end || group >= GROUPS_MAX)
        return err_set(e, E_USAGE, "not DIGEST GROUP");
    *(struct frees_member *)list_add((void **)&w->members, &w->count, sizeof *w->members) = (struct frees_member){digest, (uint32_t)group};
    w->groups = w->groups > group ? w->groups : group + 1;
    return 0;
}

static int lines_take(struct wanted *w, struct err *e)
{
    char line[128];
    for (uint64_t number = 1; fgets(line, sizeof line, stdin); number++) {
        line[strcspn(line, "\n")] = 0;
        if (line_take(w, line, e))
            return err_wrap(e, "line %lu", number);
    }
    return ferror(stdin) ? err_set(e, E_IO, "standard input cannot be read") : 0;
}

static int frees_run(int argc, char **argv, struct err *e)
{
    const char *store = NULL, *images = NULL;
    struct wanted w = {0};
    const struct option_spec specs[] = {
        {"store", 'd', &store, true, "the store"},
        {"images", 'd', &images, true, "every image below this directory keeps its chunks"},
    };
    if (plain_parse(argc, argv, "native store-frees --store DIR --images DIR < LINES", specs, ARRAY_LENGTH(specs), e) || lines_take(&w, e)) {
        free(w.members);
        return -1;
    }
    AUTO_FREE uint64_t *frees = xcalloc(w.groups + 1, sizeof *frees);
    AUTO_BUF struct buf text = {0};
    uint64_t together = 0;
    int result = store_frees(store, images, w.members, w.count, frees, w.groups, &together, e);
    for (size_t k = 0; k < w.groups; k++)
        buf_addf(&text, "%s%lu", k ? "," : "", frees[k]);
    if (!result)
        output_event("done", "\"frees\":[%.*s],\"together\":%lu", (int)text.len, text.len ? (char *)text.data : "", together);
    free(w.members);
    return result;
}

int verb_store_frees(int argc, char **argv)
{
    struct err e = {0};
    output_open(1);
    return verb_end(frees_run(argc, argv, &e), &e);
}
