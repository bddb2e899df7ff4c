/* See tcp_room.c. */
#pragma once
#include "restore.h"

/* While /proc/sys can still be written; and when the sockets are made. */
MUST_CHECK int tcp_room_make(const struct restore *r, struct err *e);
void tcp_room_end(void);
/* A buffer that was made smaller may still hold more than it could take. */
uint64_t tcp_room_of(uint64_t size, const struct bytes *queue);
