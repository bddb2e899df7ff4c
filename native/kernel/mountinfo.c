/* See mountinfo.h. A line: ID PARENT MAJOR:MINOR ROOT PLACE OPTIONS [shared:N] [master:N] [unbindable] - TYPE SOURCE SUPER */
#include "mountinfo.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define FIELDS_MAX 24
#define MOUNTS_MAX 5000u

/* \040 and its kind, in place. */
static char *unescape(char *text)
{
    char *to = text;
    for (const char *at = text; *at;) {
        bool octal = at[0] == '\\' && at[1] >= '0' && at[1] <= '3' && at[2] >= '0' && at[2] <= '7' && at[3] >= '0' && at[3] <= '7';
        *to++ = (char)(octal ? (at[1] - '0') << 6 | (at[2] - '0') << 3 | (at[3] - '0') : *at);
        at += octal ? 4 : 1;
    }
    *to = 0;
    return text;
}

static void attribute_read(const char *word, struct mount_line *out)
{
    static const struct {
        const char *word;
        uint64_t attribute;
    } table[] = {{"ro", MOUNT_ATTR_RDONLY}, {"nosuid", MOUNT_ATTR_NOSUID}, {"nodev", MOUNT_ATTR_NODEV}, {"noexec", MOUNT_ATTR_NOEXEC},
                 {"noatime", MOUNT_ATTR_NOATIME}, {"nodiratime", MOUNT_ATTR_NODIRATIME}, {"nosymfollow", MOUNT_ATTR_NOSYMFOLLOW}};
    for (size_t k = 0; k < ARRAY_LENGTH(table); k++)
        if (strcmp(word, table[k].word) == 0)
            out->attributes |= table[k].attribute;
    out->idmapped |= strcmp(word, "idmapped") == 0;
}

static void attributes_read(char *options, struct mount_line *out)
{
    char *save = NULL;
    bool relatime = false;
    for (char *word = strtok_r(options, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        relatime |= strcmp(word, "relatime") == 0;
        attribute_read(word, out);
    }
    if (!relatime && !(out->attributes & MOUNT_ATTR_NOATIME))
        out->attributes |= MOUNT_ATTR_STRICTATIME;
}

static void tag_read(const char *word, struct mount_line *out)
{
    if (strncmp(word, "shared:", 7) == 0)
        out->shared = strtoul(word + 7, NULL, 10);
    else if (strncmp(word, "master:", 7) == 0)
        out->master = strtoul(word + 7, NULL, 10);
    else if (strcmp(word, "unbindable") == 0)
        out->unbindable = true;
}

static int line_parse(char *line, struct mount_line *out, struct err *e)
{
    char *field[FIELDS_MAX], *save = NULL;
    size_t n = 0, dash = 0;
    unsigned major_number, minor_number;
    for (char *word = strtok_r(line, " ", &save); word && n < FIELDS_MAX; word = strtok_r(NULL, " ", &save)) {
        dash = !dash && strcmp(word, "-") == 0 ? n : dash;
        field[n++] = word;
    }
    if (dash < 6 || n < dash + 4 || sscanf(field[2], "%u:%u", &major_number, &minor_number) != 2)
        return err_set(e, E_OS, "a line of mountinfo is not as expected");
    *out = (struct mount_line){.id = strtoul(field[0], NULL, 10), .parent = strtoul(field[1], NULL, 10), .dev = makedev(major_number, minor_number)};
    out->root = xstrdup(unescape(field[3]));
    out->place = xstrdup(unescape(field[4]));
    out->type = xstrdup(unescape(field[dash + 1]));
    out->source = xstrdup(unescape(field[dash + 2]));
    out->super = xstrdup(unescape(field[n - 1]));
    attributes_read(field[5], out);
    for (size_t k = 6; k < dash; k++)
        tag_read(field[k], out);
    return 0;
}

static void parents_find(struct mount_table *t)
{
    for (size_t k = 0; k < t->count; k++) {
        size_t above = mount_table_find(t, t->items[k].parent);
        t->items[k].above = above == k ? SIZE_MAX : above;
    }
}

int mount_table_parse(char *text, struct mount_table *out, struct err *e)
{
    char *save = NULL;
    *out = (struct mount_table){0};
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        struct mount_line m;
        if (out->count == MOUNTS_MAX || line_parse(line, &m, e) < 0) {
            mount_table_free(out);
            return e->code == E_OS ? -1 : err_set(e, E_UNSUPPORTED, "more than %u mounts", MOUNTS_MAX);
        }
        if ((out->count & (out->count - 1)) == 0)
            out->items = xrealloc(out->items, out->count ? 2 * out->count : 1, sizeof *out->items);
        out->items[out->count++] = m;
    }
    parents_find(out);
    return 0;
}

void mount_table_free(struct mount_table *t)
{
    for (size_t k = 0; k < t->count; k++) {
        free(t->items[k].root);
        free(t->items[k].place);
        free(t->items[k].type);
        free(t->items[k].source);
        free(t->items[k].super);
    }
    free(t->items);
    *t = (struct mount_table){0};
}

size_t mount_table_find(const struct mount_table *t, uint64_t id)
{
    for (size_t k = 0; k < t->count; k++)
        if (t->items[k].id == id)
            return k;
    return SIZE_MAX;
}

const char *path_below(const char *path, const char *top)
{
    size_t len = strcmp(top, "/") == 0 ? 0 : strlen(top);
    if (strncmp(path, top, len) != 0 || (path[len] && path[len] != '/'))
        return NULL;
    return strcmp(path + len, "/") == 0 ? "" : path + len;
}

char *mount_line_place(const struct mount_table *t, const struct mount_line *m)
{
    const char *below = m->above == SIZE_MAX ? "" : path_below(m->place, t->items[m->above].place);
    return xstrdup(below && *below ? below : "/");
}

char *mount_line_position(const struct mount_table *t, const struct mount_line *m)
{
    AUTO_FREE char *place = mount_line_place(t, m);
    const char *root = m->above == SIZE_MAX ? "/" : t->items[m->above].root;
    if (strcmp(place, "/") == 0)
        return xstrdup(root);
    return xasprintf("%s%s", strcmp(root, "/") == 0 ? "" : root, place);
}

uint64_t mount_id_of(int fd)
{
    struct statx st;
    return statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &st) == 0 && st.stx_mask & STATX_MNT_ID ? st.stx_mnt_id : 0;
}
