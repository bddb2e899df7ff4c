/* ptrace of one thread: thin, checked. Tracing belongs to the calling thread. */
#pragma once
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#include "../base/base.h"

/* 0, or 1 if the thread is gone (or a zombie), or -1. */
MUST_CHECK int trace_seize(pid_t tid, long options, struct err *e);
/* Has this very thread of ours seized it already? */
bool trace_is_own(pid_t tid);
MUST_CHECK int trace_interrupt(pid_t tid, struct err *e); /* 0, 1 gone, -1 */
/* Wait for a change of one thread; deadline in CLOCK_MONOTONIC ns, 0 waits for ever. 0, or 1 when the deadline passed. */
MUST_CHECK int trace_wait(pid_t tid, uint64_t deadline_ns, int *status, struct err *e);
MUST_CHECK int trace_regs_get(pid_t tid, struct user_regs_struct *out, struct err *e);
MUST_CHECK int trace_regs_set(pid_t tid, const struct user_regs_struct *in, struct err *e);
MUST_CHECK int trace_xstate_get(pid_t tid, struct buf *out, struct err *e);
MUST_CHECK int trace_xstate_set(pid_t tid, const void *data, size_t len, struct err *e);
MUST_CHECK int trace_mask_get(pid_t tid, uint64_t *mask, struct err *e);
MUST_CHECK int trace_mask_set(pid_t tid, uint64_t mask, struct err *e);
/* Pending signals of the thread (or of its process): an array of siginfo_t appended to out. */
MUST_CHECK int trace_pending(pid_t tid, bool shared, struct buf *out, struct err *e);
MUST_CHECK int trace_resume(pid_t tid, int signal, struct err *e);
MUST_CHECK int trace_detach(pid_t tid, int signal, struct err *e); /* a thread that is gone is no error */
