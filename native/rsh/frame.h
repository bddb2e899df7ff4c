/* What runs over one connection of clusteros-rsh: frames of one type byte, four bytes of length (big endian) and the data.
 * Nothing here remembers time: a connection may stand still for days and go on. */
#pragma once
#include "../base/base.h"

#define RSH_PORT 7514
#define FRAME_HEAD_BYTES 5
#define FRAME_DATA_MAX (1u << 20)
#define FLOW_MAX (256u << 10) /* no more than this waits in one direction */

enum frame_type {
    FRAME_COMMAND = 'C',   /* client: a line for /bin/sh -c */
    FRAME_INPUT = 'I',     /* client: standard input */
    FRAME_INPUT_END = 'E', /* client: its end */
    FRAME_OUTPUT = 'O',    /* server: standard output */
    FRAME_ERROR = 'R',     /* server: standard error */
    FRAME_EXIT = 'X',      /* server: exit status in four bytes, the last frame */
};
void frame_add(struct buf *b, enum frame_type type, const void *data, size_t len);
/* The first whole frame of b: 1 and its parts, 0 if it is not whole yet, -1 if it is too long. frame_drop removes it. */
int frame_peek(const struct buf *b, enum frame_type *type, const uint8_t **data, size_t *len);
void buf_drop(struct buf *b, size_t len);

/* One read or write that may come up short; -1 with errno, 0 is the end (read). EINTR and EAGAIN: -1 with errno EAGAIN. */
ssize_t buf_fill(struct buf *b, int fd, size_t max);
ssize_t buf_flush(struct buf *b, int fd, size_t max);
