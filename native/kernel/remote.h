/* Touching another process: stop it, read and write its memory, run system calls in it (kernel/trace.c, kernel/remote.c).
 * A `struct victim` is one stopped process with all its threads. */
#pragma once
#include <sys/user.h>

#include "../base/base.h"

struct victim_thread {
    pid_t tid;               /* as the engine sees it */
    pid_t inner_tid;
    struct user_regs_struct regs; /* as stopped; put back before it runs on */
    int stop_signal;         /* a signal whose delivery our stop interrupted: given back on release */
    bool group_stopped;
};
struct victim {
    pid_t pid, inner_pid;    /* as the engine sees it; inside the pod */
    int pidfd, memfd;        /* pidfd of the process; /proc/PID/mem O_RDWR */
    struct victim_thread *threads; /* leader first */
    size_t thread_count;
    uint64_t syscall_at;     /* address of a `syscall` instruction in its vDSO */
    uint64_t scratch;        /* address of the injected area, 0 while there is none */
    uint64_t data;           /* address of its free part for arguments and results */
    size_t data_len;
};

/* ---- memory of the victim (through memfd; no pinning) */
MUST_CHECK int victim_read(const struct victim *v, uint64_t address, void *out, size_t len, struct err *e);
MUST_CHECK int victim_write(const struct victim *v, uint64_t address, const void *data, size_t len, struct err *e);

/* ---- remote system calls: a batch runs at one stop, in thread `thread` (index). Results in .ret (-errno on failure).
 * With stop_on_error the batch ends at the first failing call. The scratch area is made on first use. */
#define REMOTE_BATCH_MAX 400
struct remote_call {
    uint64_t nr, args[6];
    int64_t ret;
};
MUST_CHECK int remote_batch(struct victim *v, size_t thread, struct remote_call *calls, size_t count, bool stop_on_error,
                            size_t *done, struct err *e);
/* One call; *ret gets -errno on failure of the call itself. */
MUST_CHECK int remote_one(struct victim *v, size_t thread, int64_t *ret, uint64_t nr, uint64_t a, uint64_t b, uint64_t c,
                          uint64_t d, uint64_t f, uint64_t g, struct err *e);
/* Copy data into the victim's scratch area at `offset` of its data part; returns the remote address. CHECKs the bounds. */
MUST_CHECK int remote_put(struct victim *v, size_t offset, const void *data, size_t len, uint64_t *address, struct err *e);

/* A duplicate of the victim's descriptor in this process (pidfd_getfd, close-on-exec). */
MUST_CHECK int victim_getfd(const struct victim *v, int fd, struct err *e);
