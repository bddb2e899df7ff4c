/* The parts of a restore that mirror snapshot/save.h, in the order in which they are called. */
#pragma once
#include <sys/ptrace.h>

#include "restore.h"

/* ---- before anything is made (validate.c): an image may only do what the pod's owner could do; numbers are checked before use */
MUST_CHECK int image_validate(const struct image *image, struct err *e);
/* E_UNSUPPORTED when this machine cannot run it: processor features, vDSO. (host_check.c) */
MUST_CHECK int image_host_check(const struct image *image, struct err *e);

/* Files that no image carries: told of, or refused, where they have changed. (outside_check.c) */
MUST_CHECK int image_outside_check(const struct image *image, enum files_policy policy, struct err *e);

/* ---- plan.c: into which session each process is born, so that all ends as it was */
struct birth {
    size_t parent;        /* index of the task whose child it is, or BIRTH_INIT */
    uint64_t session;     /* it must be born into; 0: any */
    size_t through;       /* index of the task that forks it through a helper that ends at once; BIRTH_DIRECT: its parent does */
    bool before_setsid;   /* before its parent makes its own session */
    bool skip;            /* a zombie that podinit would reap at once */
};
#define BIRTH_INIT SIZE_MAX
#define BIRTH_DIRECT SIZE_MAX
#define BIRTH_HELPER (SIZE_MAX - 1) /* through a helper that stands in for a dead session leader */
MUST_CHECK int births_plan(const struct image *image, struct birth **out, struct err *e);

/* ---- in the keeper: what the host's files were (hostfiles_load.c) */
MUST_CHECK int trees_load(struct restore *r, struct pod *pod, struct err *e);
MUST_CHECK int hostfiles_load(struct restore *r, struct pod *pod, struct err *e);

/* ---- in podinit (tree_load.c): every process of the image stands and waits for the tracer */
MUST_CHECK int tree_board_make(struct restore *r, struct err *e); /* before podinit is forked */
MUST_CHECK int processes_make(struct restore *r, struct err *e);
/* fork(2) of a helper with a number that is none of the image's; it must end at once and be waited for. */
pid_t helper_spawn(const struct restore *r, int exit_signal);

/* Many calls, run in batches; each must succeed unless marked. */
struct call_list {
    struct victim *v;
    size_t thread;
    struct remote_call calls[REMOTE_BATCH_MAX];
    bool may_fail[REMOTE_BATCH_MAX];
    int64_t wanted[REMOTE_BATCH_MAX]; /* -1: any result that is no error */
    size_t count, data_used;
    const char *what;
    bool crowd;                       /* v is a slot, `slot` its number: see remote_crowd */
    size_t slot;
};

/* ---- outside (inject.c and what it calls) */
MUST_CHECK int inject_all(struct restore *r, struct err *e);
MUST_CHECK int release_all(struct restore *r, struct err *e);
MUST_CHECK int vmas_load(struct restore *r, struct victim *v, const struct task *task, struct err *e); /* the engine's go, its own come */
MUST_CHECK int vmas_seal(struct call_list *l, const struct task *task, struct err *e); /* when nothing of them changes any more */
MUST_CHECK int memory_clear(struct restore *r, struct victim *v, const struct task *task, struct err *e);
MUST_CHECK int memory_load(struct restore *r, struct err *e); /* of all processes, when all are mapped */
MUST_CHECK int task_load(struct call_list *l, struct restore *r, const struct task *task, struct err *e); /* the calls may wait in the list */
/* The threads, and what they told the kernel of themselves; their rights go, those of the first after all others'. */
MUST_CHECK int threads_load(struct call_list *l, struct restore *r, const struct task *task, struct err *e);
/* What a thread has of them for itself, while it has rights. */
MUST_CHECK int thread_directories_load(struct victim *v, const struct restore *r, const struct task *task, size_t index, struct err *e);
#define RESTORE_TRACED PTRACE_O_EXITKILL
/* After all other calls in its threads. */
MUST_CHECK int seccomp_load(struct victim *v, const struct task *task, struct err *e);
/* A wait that was going on; `regs` are what the thread's registers shall be at the end (sleep_load.c). */
MUST_CHECK int sleep_load(struct victim *v, size_t index, const struct thread *t, struct user_regs_struct *regs, struct err *e);
MUST_CHECK int thread_last(struct victim *v, size_t index, const struct thread *t, const struct user_regs_struct *regs, struct err *e);

MUST_CHECK int call_add(struct call_list *l, const uint64_t call[7], struct err *e);
#define CALL(l, e, ...) call_add(l, (const uint64_t[7]){__VA_ARGS__}, e)
/* Put data for the calls that follow; valid until the list is flushed (flushes first when there is no room). */
MUST_CHECK int call_data(struct call_list *l, const void *data, size_t len, uint64_t *address, struct err *e);
/* openat(2) of a path inside the pod, without magic links of /proc (see kernel/inside.h); the data of earlier calls may be gone afterwards. */
MUST_CHECK int call_open(struct call_list *l, const char *path, int flags, struct err *e);
MUST_CHECK int call_flush(struct call_list *l, struct err *e);
MUST_CHECK int calls_flush_crowd(struct victim *v, struct call_list *lists, size_t count, struct err *e); /* of different slots, together */
/* Flush unless there is room for so many calls more with so much data: then none of that data can be overwritten before it is used. */
MUST_CHECK int call_room(struct call_list *l, size_t calls, size_t data, struct err *e);
