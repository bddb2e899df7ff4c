/* See inner_creds.c. */
#pragma once
#include "snapshot.h"

/* The number inside the pod of whom SO_PEERCRED of that socket names; 0 if it was never one of the pod's. */
uint64_t inner_peer(const struct pod *pod, int fd, pid_t outer);
/* Of whom the message at that place of the queue names (SO_PEEK_OFF is moved). */
uint64_t inner_sender(const struct pod *pod, int fd, int offset, pid_t outer);
