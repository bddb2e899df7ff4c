/* Mapped files that need no second look: regular, and with no changed copy in the pod's overlay. A hundred processes map the same libraries. */
#pragma once
#include "../kernel/procfs.h"

struct plain_file;
struct plain_files { /* zeroed: none */
    struct plain_file *items;
    size_t count, room; /* room: a power of two */
};
bool plain_files_have(const struct plain_files *p, const struct proc_map *m);
void plain_files_add(struct plain_files *p, const struct proc_map *m);
void plain_files_free(struct plain_files *p);
