/* See trace.h. */
#include "trace.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../base/fiber.h"

#define XSTATE_MAX (64ul * 1024)

#define STATUS_MAX (1ul << 20) /* a process may be in very many groups */

static pid_t tracer_in(const char *status)
{
    const char *tracer = strstr(status, "\nTracerPid:");
    return tracer ? atoi(tracer + strlen("\nTracerPid:")) : 0;
}

bool trace_is_own(pid_t tid)
{
    AUTO_BUF struct buf status = {0};
    struct err ignored;
    return io_slurpf(&status, STATUS_MAX, &ignored, "/proc/%d/status", tid) == 0 && tracer_in((char *)status.data) == gettid();
}

int trace_seize(pid_t tid, long options, struct err *e)
{
    if (ptrace(PTRACE_SEIZE, tid, NULL, (void *)options) == 0)
        return 0;
    if (errno == ESRCH)
        return 1;
    int why = errno;
    AUTO_BUF struct buf status = {0};
    struct err ignored;
    if (io_slurpf(&status, STATUS_MAX, &ignored, "/proc/%d/status", tid) < 0 || strstr((char *)status.data, "State:\tZ") ||
        strstr((char *)status.data, "State:\tX"))
        return 1;
    errno = why;
    return err_errno(e, "seize thread %d (traced by %d)", tid, tracer_in((char *)status.data));
}

int trace_interrupt(pid_t tid, struct err *e)
{
    if (ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) == 0)
        return 0;
    return errno == ESRCH || errno == EIO ? 1 : err_errno(e, "interrupt thread %d", tid);
}

int trace_wait(pid_t tid, uint64_t deadline_ns, int *status, struct err *e)
{
    int late = fiber_waitpid(tid, status, deadline_ns);
    return late < 0 ? err_errno(e, "wait for thread %d", tid) : late;
}

int trace_regs_get(pid_t tid, struct user_regs_struct *out, struct err *e)
{
    struct iovec v = {out, sizeof *out};
    return ptrace(PTRACE_GETREGSET, tid, (void *)NT_PRSTATUS, &v) == 0 ? 0 : err_errno(e, "read registers of thread %d", tid);
}

int trace_regs_set(pid_t tid, const struct user_regs_struct *in, struct err *e)
{
    struct user_regs_struct copy = *in;
    struct iovec v = {&copy, sizeof copy};
    return ptrace(PTRACE_SETREGSET, tid, (void *)NT_PRSTATUS, &v) == 0 ? 0 : err_errno(e, "set registers of thread %d", tid);
}

int trace_xstate_get(pid_t tid, struct buf *out, struct err *e)
{
    AUTO_FREE uint8_t *data = xrealloc(NULL, 1, XSTATE_MAX);
    struct iovec v = {data, XSTATE_MAX};
    if (ptrace(PTRACE_GETREGSET, tid, (void *)NT_X86_XSTATE, &v) != 0)
        return err_errno(e, "read extended registers of thread %d", tid);
    buf_add(out, data, v.iov_len);
    return 0;
}

int trace_xstate_set(pid_t tid, const void *data, size_t len, struct err *e)
{
    struct iovec v = {(void *)(uintptr_t)data, len};
    return ptrace(PTRACE_SETREGSET, tid, (void *)NT_X86_XSTATE, &v) == 0 ? 0
                                                                        : err_errno(e, "set extended registers of thread %d", tid);
}

int trace_mask_get(pid_t tid, uint64_t *mask, struct err *e)
{
    return ptrace(PTRACE_GETSIGMASK, tid, (void *)8, mask) == 0 ? 0 : err_errno(e, "read signal mask of thread %d", tid);
}

int trace_mask_set(pid_t tid, uint64_t mask, struct err *e)
{
    return ptrace(PTRACE_SETSIGMASK, tid, (void *)8, &mask) == 0 ? 0 : err_errno(e, "set signal mask of thread %d", tid);
}

int trace_pending(pid_t tid, bool shared, struct buf *out, struct err *e)
{
    siginfo_t some[32];
    struct __ptrace_peeksiginfo_args args = {.off = 0, .flags = shared ? PTRACE_PEEKSIGINFO_SHARED : 0, .nr = ARRAY_LENGTH(some)};
    for (;;) {
        long n = ptrace(PTRACE_PEEKSIGINFO, tid, &args, some);
        if (n < 0)
            return err_errno(e, "read pending signals of thread %d", tid);
        buf_add(out, some, (size_t)n * sizeof some[0]);
        args.off += (uint64_t)n;
        if (n < (long)ARRAY_LENGTH(some))
            return 0;
    }
}

int trace_resume(pid_t tid, int signal, struct err *e)
{
    return ptrace(PTRACE_CONT, tid, NULL, (void *)(long)signal) == 0 ? 0 : err_errno(e, "resume thread %d", tid);
}

int trace_detach(pid_t tid, int signal, struct err *e)
{
    if (ptrace(PTRACE_DETACH, tid, NULL, (void *)(long)signal) == 0 || errno == ESRCH)
        return 0;
    return err_errno(e, "detach from thread %d", tid);
}
