/* seccomp filters of a stopped thread: reading them, and what they would say to a call. */
#pragma once
#include <linux/filter.h>

#include "remote.h"

/* Only root of the machine, itself without filters, may read them and set them aside while calls are made in the thread. */
bool filters_are_readable(void);
/* All, the oldest first; the caller frees code. E_UNSUPPORTED for what is no classic program. */
struct filter {
    struct sock_filter *code;
    size_t len;      /* instructions */
    uint64_t flags;  /* SECCOMP_FILTER_FLAG_LOG */
};
MUST_CHECK int filters_read(pid_t tid, struct filter **out, size_t *count, struct err *e);
void filters_free(struct filter *filters, size_t count);
/* The strictest answer of all: a SECCOMP_RET_* action. */
uint32_t filters_judge(const struct filter *filters, size_t count, const struct remote_call *call);
/* From now on calls that are made in the thread pass them by, as long as this process traces it. */
MUST_CHECK int filters_suspend(pid_t tid, long options, struct err *e);
