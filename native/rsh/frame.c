/* See frame.h. */
#include "frame.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

void frame_add(struct buf *b, enum frame_type type, const void *data, size_t len)
{
    uint8_t head[FRAME_HEAD_BYTES] = {(uint8_t)type};
    uint32_t size = htonl((uint32_t)len);
    memcpy(head + 1, &size, sizeof size);
    buf_add(b, head, sizeof head);
    buf_add(b, data, len);
}

int frame_peek(const struct buf *b, enum frame_type *type, const uint8_t **data, size_t *len)
{
    uint32_t size;
    if (b->len < FRAME_HEAD_BYTES)
        return 0;
    memcpy(&size, b->data + 1, sizeof size);
    *type = b->data[0];
    *len = ntohl(size);
    *data = b->data + FRAME_HEAD_BYTES;
    if (*len > FRAME_DATA_MAX)
        return -1;
    return b->len >= FRAME_HEAD_BYTES + *len;
}

void buf_drop(struct buf *b, size_t len)
{
    memmove(b->data, b->data + len, b->len - len);
    b->len -= len;
}

ssize_t buf_fill(struct buf *b, int fd, size_t max)
{
    uint8_t block[65536];
    ssize_t n = read(fd, block, max < sizeof block ? max : sizeof block);
    if (n > 0)
        buf_add(b, block, (size_t)n);
    if (n < 0 && errno == EINTR)
        errno = EAGAIN;
    return n;
}

ssize_t buf_flush(struct buf *b, int fd, size_t max)
{
    ssize_t n = write(fd, b->data, b->len < max ? b->len : max);
    if (n > 0)
        buf_drop(b, (size_t)n);
    if (n < 0 && errno == EINTR)
        errno = EAGAIN;
    return n;
}
