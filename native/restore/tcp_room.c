/* Room for what stood in the queues of TCP sockets. An ordinary user may not ask a socket for more than net.core.wmem_max, but the kernel's own tuning had
 * gone beyond that; so for the time in which they are made, new sockets of the pod's network start with as much as the largest of them needs. */
#include "tcp_room.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../snapshot/files_save.h"

#define ROOM_MAX (1ul << 30)

static struct room {
    const char *path;
    int fd;
    char before[128];
} rooms[] = {{.path = "/proc/sys/net/ipv4/tcp_wmem", .fd = -1}, {.path = "/proc/sys/net/ipv4/tcp_rmem", .fd = -1}};

uint64_t tcp_room_of(uint64_t size, const struct bytes *queue)
{
    return queue->len > size ? queue->len : size;
}

static bool is_needed(const struct restore *r)
{
    int bytes = 1 << 16;
    AUTO_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return r->image->tcp_sockets_count && setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) < 0 && errno == EPERM;
}

static int room_make(struct room *room, uint64_t need, struct err *e)
{
    unsigned long least, start, most;
    char text[128];
    room->fd = open(room->path, O_RDWR | O_CLOEXEC);
    ssize_t n = room->fd < 0 ? -1 : pread(room->fd, room->before, sizeof room->before - 1, 0);
    if (n <= 0 || sscanf(room->before, "%lu %lu %lu", &least, &start, &most) != 3)
        return err_errno(e, "read %s", room->path);
    room->before[n] = 0;
    if (need <= start)
        return 0;
    int len = snprintf(text, sizeof text, "%lu %lu %lu\n", least, need, most > need ? most : need);
    return pwrite(room->fd, text, (size_t)len, 0) == len ? 0 : err_errno(e, "write %s", room->path);
}

int tcp_room_make(const struct restore *r, struct err *e)
{
    uint64_t need[2] = {0, 0};
    if (!is_needed(r))
        return 0;
    for (size_t k = 0; k < r->image->tcp_sockets_count; k++) {
        const struct tcp_socket *t = &r->image->tcp_sockets[k];
        const uint64_t wide[2] = {sockbuf_wide(tcp_room_of(t->sndbuf, &t->send_queue)), sockbuf_wide(tcp_room_of(t->rcvbuf, &t->receive_queue))};
        for (int w = 0; w < 2; w++)
            if (wide[w] > need[w])
                need[w] = wide[w] < ROOM_MAX ? wide[w] : ROOM_MAX;
    }
    return room_make(&rooms[0], need[0], e) < 0 ? -1 : room_make(&rooms[1], need[1], e);
}

void tcp_room_end(void)
{
    for (size_t k = 0; k < ARRAY_LENGTH(rooms); k++) {
        if (rooms[k].fd < 0)
            continue;
        ssize_t put = pwrite(rooms[k].fd, rooms[k].before, strlen(rooms[k].before), 0);
        (void)put; /* new sockets of the pod would start with larger buffers: no harm */
        close(rooms[k].fd);
        rooms[k].fd = -1;
    }
}
