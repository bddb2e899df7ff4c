/* See filters.h. */
#include "filters.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "procfs.h"

#ifndef PTRACE_SECCOMP_GET_FILTER
#define PTRACE_SECCOMP_GET_FILTER 0x420c
#endif
#define PTRACE_GET_METADATA 0x420d /* PTRACE_SECCOMP_GET_METADATA; linux/ptrace.h does not go together with sys/ptrace.h */
#define FILTERS_MAX 1024ul
#define CAP_SYS_ADMIN_BIT (1ul << 21)

static bool is_root_without_filters(void)
{
    PROC_STATUS struct proc_status own = {0};
    AUTO_BUF struct buf map = {0};
    struct err ignored;
    unsigned long inside = 1, outside = 1, length = 0;
    if (proc_status_read(getpid(), gettid(), &own, &ignored) < 0 || io_slurpf(&map, 4096, &ignored, "/proc/self/uid_map") < 0)
        return false;
    bool whole = sscanf((const char *)map.data, "%lu %lu %lu", &inside, &outside, &length) == 3 && !inside && !outside && length == UINT32_MAX;
    return whole && own.seccomp == 0 && own.cap_effective & CAP_SYS_ADMIN_BIT;
}

bool filters_are_readable(void)
{
    static int known = -1;
    if (known < 0)
        known = is_root_without_filters();
    return known;
}

static int filter_read(pid_t tid, size_t index, struct filter *out, struct err *e)
{
    struct {
        uint64_t index, flags;
    } data = {.index = index};
    long len = ptrace(PTRACE_SECCOMP_GET_FILTER, tid, (void *)index, NULL);
    if (len < 0)
        return errno == ENOENT ? 1 : errno == EMEDIUMTYPE ? err_set(e, E_UNSUPPORTED, "seccomp filter %zu has no classic program", index)
                                                           : err_errno(e, "seccomp filter %zu", index);
    if (ptrace(PTRACE_GET_METADATA, tid, (void *)sizeof data, &data) < 0)
        return err_errno(e, "flags of seccomp filter %zu", index);
    *out = (struct filter){xcalloc((size_t)len + 1, sizeof *out->code), (size_t)len, data.flags};
    return ptrace(PTRACE_SECCOMP_GET_FILTER, tid, (void *)index, out->code) == len ? 0 : err_errno(e, "seccomp filter %zu", index);
}

int filters_read(pid_t tid, struct filter **out, size_t *count, struct err *e)
{
    *out = NULL;
    *count = 0;
    for (;;) {
        struct filter one = {0};
        int got = filter_read(tid, *count, &one, e);
        if (got == 0 || one.code) {
            *out = xrealloc(*out, *count + 1, sizeof **out);
            (*out)[(*count)++] = one;
        }
        if (got == 0 && *count <= FILTERS_MAX)
            continue;
        if (got == 1)
            return 0;
        filters_free(*out, *count);
        *out = NULL;
        *count = 0;
        return got < 0 ? -1 : err_set(e, E_UNSUPPORTED, "more than %lu seccomp filters", FILTERS_MAX);
    }
}

void filters_free(struct filter *filters, size_t count)
{
    for (size_t k = 0; k < count; k++)
        free(filters[k].code);
    free(filters);
}

/* ---- the machine of seccomp(2): a classic program whose only input are 32-bit words of struct seccomp_data */

struct machine {
    uint32_t a, x, memory[BPF_MEMWORDS];
};

static uint32_t calculate(unsigned operation, uint32_t a, uint32_t b)
{
    switch (operation) {
    case BPF_ADD: return a + b;
    case BPF_SUB: return a - b;
    case BPF_MUL: return a * b;
    case BPF_DIV: return b ? a / b : 0;
    case BPF_AND: return a & b;
    case BPF_OR: return a | b;
    case BPF_XOR: return a ^ b;
    case BPF_LSH: return b < 32 ? a << b : 0;
    case BPF_RSH: return b < 32 ? a >> b : 0;
    default: return -a; /* BPF_NEG */
    }
}

static bool jumps(unsigned operation, uint32_t a, uint32_t b)
{
    return operation == BPF_JEQ ? a == b : operation == BPF_JGT ? a > b : operation == BPF_JGE ? a >= b : (a & b) != 0;
}

static uint32_t load(const struct machine *m, const struct sock_filter *f, const struct seccomp_data *data)
{
    uint32_t word = 0;
    switch (BPF_MODE(f->code)) {
    case BPF_IMM:
        return f->k;
    case BPF_MEM:
        return f->k < BPF_MEMWORDS ? m->memory[f->k] : 0;
    case BPF_LEN:
        return sizeof *data;
    default:
        if (f->k <= sizeof *data - sizeof word)
            memcpy(&word, (const char *)data + f->k, sizeof word);
        return word;
    }
}

static uint32_t run(const struct filter *f, const struct seccomp_data *data)
{
    struct machine m = {0};
    for (size_t at = 0; at < f->len; at++) {
        const struct sock_filter *i = &f->code[at];
        uint32_t operand = BPF_SRC(i->code) == BPF_X ? m.x : i->k;
        switch (BPF_CLASS(i->code)) {
        case BPF_LD: m.a = load(&m, i, data); break;
        case BPF_LDX: m.x = load(&m, i, data); break;
        case BPF_ST:
        case BPF_STX:
            if (i->k < BPF_MEMWORDS)
                m.memory[i->k] = BPF_CLASS(i->code) == BPF_ST ? m.a : m.x;
            break;
        case BPF_ALU: m.a = calculate(BPF_OP(i->code), m.a, operand); break;
        case BPF_JMP: at += BPF_OP(i->code) == BPF_JA ? i->k : jumps(BPF_OP(i->code), m.a, operand) ? i->jt : i->jf; break;
        case BPF_RET: return BPF_RVAL(i->code) == BPF_A ? m.a : i->k;
        default: /* BPF_MISC */
            if (BPF_MISCOP(i->code) == BPF_TAX)
                m.x = m.a;
            else
                m.a = m.x;
        }
    }
    return SECCOMP_RET_KILL_PROCESS; /* the kernel lets no program run out of its end */
}

uint32_t filters_judge(const struct filter *filters, size_t count, const struct remote_call *call)
{
    struct seccomp_data data = {.nr = (int)call->nr, .arch = AUDIT_ARCH_X86_64};
    uint32_t strictest = SECCOMP_RET_ALLOW;
    memcpy(data.args, call->args, sizeof data.args);
    for (size_t k = 0; k < count; k++) {
        uint32_t action = run(&filters[k], &data) & SECCOMP_RET_ACTION_FULL;
        if ((int32_t)action < (int32_t)strictest)
            strictest = action;
    }
    return strictest;
}

int filters_suspend(pid_t tid, long options, struct err *e)
{
    if (ptrace(PTRACE_SETOPTIONS, tid, NULL, (void *)(options | PTRACE_O_SUSPEND_SECCOMP)) == 0)
        return 0;
    return errno == EPERM ? err_set(e, E_UNSUPPORTED, "its seccomp filters can be set aside by root only") : err_errno(e, "set filters aside");
}
