/* See plain_files.h. A table with open addressing, at most half full; a place without path is free. */
#include "plain_files.h"

#include <stdlib.h>
#include <string.h>

#define ROOM_AT_FIRST 64

struct plain_file {
    uint64_t ino;
    unsigned dev_major, dev_minor;
    char *path;
};

static struct plain_file *place_of(const struct plain_files *p, const struct plain_file *f)
{
    size_t at = (size_t)((f->ino ^ (uint64_t)f->dev_minor << 32) * 0x9e3779b97f4a7c15ul >> 32);
    for (;; at++) {
        struct plain_file *there = &p->items[at & (p->room - 1)];
        if (!there->path || (there->ino == f->ino && there->dev_major == f->dev_major && there->dev_minor == f->dev_minor && strcmp(there->path, f->path) == 0))
            return there;
    }
}

static struct plain_file file_of(const struct proc_map *m)
{
    return (struct plain_file){m->ino, m->dev_major, m->dev_minor, m->path};
}

static void grow(struct plain_files *p)
{
    struct plain_files wider = {.count = p->count, .room = p->room ? 2 * p->room : ROOM_AT_FIRST};
    wider.items = xcalloc(wider.room, sizeof *wider.items);
    for (size_t k = 0; k < p->room; k++)
        if (p->items[k].path)
            *place_of(&wider, &p->items[k]) = p->items[k];
    free(p->items);
    *p = wider;
}

bool plain_files_have(const struct plain_files *p, const struct proc_map *m)
{
    struct plain_file f = file_of(m);
    return p->room && place_of(p, &f)->path;
}

void plain_files_add(struct plain_files *p, const struct proc_map *m)
{
    struct plain_file f = file_of(m);
    if (2 * (p->count + 1) > p->room)
        grow(p);
    struct plain_file *there = place_of(p, &f);
    if (there->path)
        return;
    f.path = xstrdup(f.path);
    *there = f;
    p->count++;
}

void plain_files_free(struct plain_files *p)
{
    for (size_t k = 0; k < p->room; k++)
        free(p->items[k].path);
    free(p->items);
    *p = (struct plain_files){0};
}
