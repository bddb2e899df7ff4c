/* See dirents.h. */
#include "dirents.h"

#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ROOM_BYTES 32768

struct entry {
    uint64_t ino;
    int64_t next;
    uint16_t len;
    uint8_t type;
    char name[];
};

int dirents_read(int fd, int64_t from, struct dirents *out, struct err *e)
{
    _Alignas(8) char room[ROOM_BYTES];
    long n;
    *out = (struct dirents){0};
    if (lseek(fd, from, SEEK_SET) < 0)
        return err_errno(e, "position in a directory");
    while ((n = syscall(SYS_getdents64, fd, room, sizeof room)) > 0)
        for (long at = 0; at < n;) {
            if ((out->count & (out->count - 1)) == 0)
                out->items = xrealloc(out->items, out->count ? 2 * out->count : 1, sizeof *out->items);
            const struct entry *d = (const struct entry *)(const void *)(room + at);
            out->items[out->count++] = (struct dirent_at){xstrdup(d->name), d->next};
            at += d->len;
        }
    if (n == 0)
        return 0;
    err_errno(e, "names in a directory");
    dirents_free(out);
    return -1;
}

void dirents_free(struct dirents *d)
{
    for (size_t i = 0; i < d->count; i++)
        free(d->items[i].name);
    free(d->items);
    *d = (struct dirents){0};
}
