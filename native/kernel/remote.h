/* Touching another process: stop it, read and write its memory, run system calls in it (kernel/trace.c, kernel/remote.c).
 * A `struct victim` is one stopped process with all its threads.
 *
 * Invariant: the tracer may die at any instruction and the victim runs on as if nothing had been. So injected code never
 * ends in int3: it ends by telling the tracer with a signal that the victim ignores by default, and, if nobody
 * stops it there, puts every register back by itself and jumps to where the thread was. What may stay behind is the scratch
 * area (one mapping) and code in the zero tail of the vDSO's last page: snapshot/undo.c takes them out. */
#pragma once
#include <sys/ptrace.h>
#include <sys/user.h>

#include "procfs.h"

struct victim_thread {
    pid_t tid;               /* as the engine sees it */
    pid_t inner_tid;
    struct user_regs_struct regs; /* as stopped; put back before it runs on */
    uint64_t sigmask;        /* as stopped */
    int stop_signal;         /* a signal that arrived while calls were injected: given back on release */
    bool group_stopped;
    bool stopped;            /* in a ptrace stop now */
    struct proc_status status; /* as stopped */
    struct __ptrace_rseq_configuration rseq; /* as stopped; zeros: none */
};
struct victim {
    pid_t pid, inner_pid;    /* as the engine sees it (a living thread's where the first has ended); inside the pod */
    pid_t leader;            /* the process's number as others know it, as the engine sees it */
    uint64_t start_time;     /* of the process, in ticks; 0: a zombie, or not asked for */
    int pidfd, memfd;        /* pidfd of the process; /proc/PID/mem O_RDWR; -1 for a zombie */
    struct victim_thread *threads; /* leader first; none for a zombie */
    size_t thread_count;
    uint64_t tail;           /* zero bytes at the end of an executable page (the vDSO's), for the first call; 0: not looked up */
    size_t tail_len;
    uint64_t scratch;        /* address of the injected area, 0 while there is none */
    uint64_t data;           /* address of its free part for arguments and results */
    size_t data_len;
    uint64_t scratch_wish;   /* where the scratch area should lie (restore), 0: anywhere */
    int notify_signal;       /* tells the tracer that a batch is through; chosen so that the victim ignores it */
    struct proc_maps maps;   /* as stopped; empty: to be read when needed */
    bool flags_given;        /* the flags in maps were read before the stop (snapshot/map_flags.h) */
    bool expendable;         /* a process being restored: dies with the engine anyway */
    bool settled;            /* what is said here of its threads and maps is of the present stop */
};

/* Called before something is done to a victim that must be undone if the engine dies (snapshot/stop.c journals it). */
extern int (*remote_journal)(const struct victim *v, const char *what, uint64_t address, uint64_t len, struct err *e);

/* Called before calls are made in a thread: whoever sets it may refuse what the thread would not survive if the tracer died meanwhile. */
struct remote_call;
extern int (*remote_guard)(const struct victim *v, size_t thread, const struct remote_call *calls, size_t count, struct err *e);

/* ---- memory of the victim (through memfd; no pinning) */
MUST_CHECK int victim_read(const struct victim *v, uint64_t address, void *out, size_t len, struct err *e);
MUST_CHECK int victim_write(const struct victim *v, uint64_t address, const void *data, size_t len, struct err *e);

/* ---- remote system calls: a batch runs at one stop, in thread `thread` (index). Results in .ret (-errno on failure).
 * With stop_on_error the batch ends at the first failing call. The scratch area is made on first use. */
#define REMOTE_BATCH_MAX 400
#define REMOTE_SCRATCH_BYTES (256ul * 1024)
#define REMOTE_LANES 8ul
struct remote_call {
    uint64_t nr, args[6];
    int64_t ret;
};
MUST_CHECK int remote_batch(struct victim *v, size_t thread, struct remote_call *calls, size_t count, bool stop_on_error,
                            size_t *done, struct err *e);
/* One call; *ret gets -errno on failure of the call itself. */
MUST_CHECK int remote_one(struct victim *v, size_t thread, int64_t *ret, uint64_t nr, uint64_t a, uint64_t b, uint64_t c,
                          uint64_t d, uint64_t f, uint64_t g, struct err *e);
/* A part of the scratch area of its own, for small batches in several threads of one process side by side (base/fiber.h). The area must
 * be there. While lanes are in use the victim itself runs no calls. */
struct victim remote_lane(const struct victim *v, size_t lane);
#define REMOTE_LANE_CALLS 128
/* Small batches in many threads of an expendable process at one time: each has a slot of the scratch area for its table and its data. They
 * run together and are waited for together; the threads are left where they stop, with all signals blocked but the notifying one. */
#define REMOTE_CROWD_MAX 32ul
#define REMOTE_CROWD_CALLS 48ul
struct remote_job {
    size_t thread, slot, count;
    struct remote_call *calls;
};
struct victim remote_slot(const struct victim *v, size_t slot); /* its free part is the slot's */
MUST_CHECK int remote_crowd(struct victim *v, const struct remote_job *jobs, size_t count, struct err *e);
/* Make the work area, if there is none. */
MUST_CHECK int remote_open(struct victim *v, struct err *e);
/* Copy data into the victim's scratch area at `offset` of its data part; returns the remote address. CHECKs the bounds. */
MUST_CHECK int remote_put(struct victim *v, size_t offset, const void *data, size_t len, uint64_t *address, struct err *e);
/* Take the scratch area and the code in the vDSO's tail out again; registers and masks are as stopped. */
MUST_CHECK int remote_close(struct victim *v, struct err *e);
/* One call run from the tail alone, without a scratch area (mmap and munmap of it, and moving the vDSO). */
MUST_CHECK int remote_from_tail(struct victim *v, size_t thread, const uint64_t call[7], int64_t *ret, struct err *e);
/* After a tracer died: threads that still run injected code get out of it, then what it left (a journal's tail and scratch, 0: none)
 * is taken away. All threads are stopped, their regs and masks are read anew here. */
MUST_CHECK int remote_undo(struct victim *v, uint64_t tail, uint64_t tail_len, uint64_t scratch, struct err *e);
/* clone3 with arguments at `args_address`, after all descriptors were closed if `closes`: the child (thread or process) is left in its first
 * stop, traced; the victim needs PTRACE_O_TRACECLONE/FORK. A child whose tracer dies ends at once if it is a process. An expendable victim is left in the middle of
 * the call, and *ret is then not the child's number inside. */
MUST_CHECK int remote_clone(struct victim *v, size_t thread, uint64_t args_address, uint64_t args_len, bool closes, pid_t *child, int64_t *ret,
                            struct err *e);
/* Where a child of a remote_clone ends at once if it is ever let run: its resting place. */
uint64_t remote_exit_address(const struct victim *v);
/* Look for the tail again (after the vDSO moved). */
MUST_CHECK int remote_find_tail(struct victim *v, struct err *e);

/* A duplicate of the victim's descriptor in this process (pidfd_getfd, close-on-exec). */
MUST_CHECK int victim_getfd(const struct victim *v, int fd, struct err *e);
