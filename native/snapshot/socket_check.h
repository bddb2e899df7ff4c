/* What a socket is and whether it can be captured, asked through a duplicate without changing anything. Used by `check` while the job
 * runs and by the snapshot in the pause: one opinion, not two. */
#pragma once
#include "../base/base.h"

struct socket_facts {
    int domain, type, protocol;
    uint64_t kind;           /* enum file_kind */
};
/* 0; 1 with words that name what cannot be captured; -1. */
MUST_CHECK int socket_look(int fd, struct socket_facts *out, char words[256], struct err *e);
/* What cannot be captured in the pod's own network, or in one of the job's (`own`); NULL if nothing stands in the way. */
const char *socket_trouble_there(int fd, const struct socket_facts *s, bool own);
/* What passes by itself when the job runs on for a moment, as words; NULL if nothing stands in the way. */
/* In another network namespace than that process: where the kernel tells (it asks for rights over that namespace). */
bool socket_is_elsewhere(pid_t pid, int fd);
const char *socket_passing(int fd, const struct socket_facts *s);
