/* The mounts of a namespace as /proc/PID/mountinfo tells them, and which mount a path or a descriptor is on. */
#pragma once
#include "../base/base.h"

struct mount_line {
    uint64_t id, parent;
    dev_t dev;
    char *root, *place, *type, *source, *super; /* unescaped; super: the options of the file system */
    uint64_t attributes;        /* MOUNT_ATTR_* */
    uint64_t shared, master;    /* peer groups, 0: none */
    bool unbindable, idmapped;
    size_t above;               /* index of the parent, SIZE_MAX: none of the table */
};
struct mount_table {
    struct mount_line *items;
    size_t count;
};
MUST_CHECK int mount_table_parse(char *text, struct mount_table *out, struct err *e);
void mount_table_free(struct mount_table *t);
#define MOUNT_TABLE __attribute__((cleanup(mount_table_free)))
/* SIZE_MAX: it is not there. */
size_t mount_table_find(const struct mount_table *t, uint64_t id);
/* Where a mount stands in the file system of its parent; allocated. */
char *mount_line_position(const struct mount_table *t, const struct mount_line *m);
/* The same below the root of the parent mount: "/" or "/a/b". */
char *mount_line_place(const struct mount_table *t, const struct mount_line *m);
/* What is left of `path` below `top`: "" for top itself, else "/…"; NULL if it is not below. */
const char *path_below(const char *path, const char *top);

/* The id of the mount that a descriptor is on; 0: not known. */
uint64_t mount_id_of(int fd);
