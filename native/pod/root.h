/* The pod's root file system, made inside the pod's own mount namespace by podinit. */
#pragma once
#include "pod.h"

struct pod_root {
    const char *lower;
    const char *hosts;    /* content of /etc/hosts, NULL: leave it, or a plain one if the pod has none of its own */
    const char *resolver; /* content of the host's /etc/resolv.conf, for a pod whose link to it leads nowhere */
    const char *workdir;
    int rsh_fd;           /* the program clusteros-rsh, -1: not installed */
};
/* Build it and pivot into it. The working directory must be POD. */
MUST_CHECK int root_build(const struct pod *pod, const struct pod_root *plan, struct err *e);
/* Parts of /proc that would let uid 0 without capabilities reach the machine become read-only. After whatever needs to write them. */
MUST_CHECK int root_seal(struct err *e);
