/* See remote_code.h. */
#include "remote_code.h"

#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

enum reg { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };

/* The interpreter of a table of calls; needs no stack. Falls through to what is emitted behind it. */
__asm__(".section .rodata\n.globl remote_table_code\n.globl remote_table_code_end\nremote_table_code:\n"
        "1: test %r14,%r14\n jz 2f\n"
        " mov 0(%r15),%rax\n mov 8(%r15),%rdi\n mov 16(%r15),%rsi\n mov 24(%r15),%rdx\n"
        " mov 32(%r15),%r10\n mov 40(%r15),%r8\n mov 48(%r15),%r9\n syscall\n mov %rax,56(%r15)\n"
        " add $64,%r15\n dec %r14\n test %r13,%r13\n jz 1b\n cmp $-4095,%rax\n jb 1b\n"
        "2:\nremote_table_code_end:\n.previous\n");
extern const uint8_t remote_table_code[], remote_table_code_end[];

void snippet_free(struct snippet *c)
{
    buf_free(&c->bytes);
}

static void emit(struct snippet *c, const char *bytes, size_t len)
{
    buf_add(&c->bytes, bytes, len);
}

static void emit_mov(struct snippet *c, enum reg reg, uint64_t value)
{
    uint8_t head[2] = {(uint8_t)(0x48 | (reg >= R8)), (uint8_t)(0xb8 | (reg & 7))};
    buf_add(&c->bytes, head, sizeof head);
    buf_add(&c->bytes, &value, sizeof value);
}

static void emit_call(struct snippet *c, uint64_t nr, uint64_t a, uint64_t b, uint64_t d, uint64_t f)
{
    emit_mov(c, RAX, nr);
    emit_mov(c, RDI, a);
    emit_mov(c, RSI, b);
    emit_mov(c, RDX, d);
    emit_mov(c, R10, f);
    emit(c, "\x0f\x05", 2); /* syscall */
}

static void emit_tell(struct snippet *c, const struct victim *v, size_t thread)
{
    emit_call(c, SYS_tgkill, (uint64_t)v->inner_pid, (uint64_t)v->threads[thread].inner_tid, (uint64_t)v->notify_signal, 0);
    c->told = c->at + c->bytes.len;
}

static void emit_jump_through(struct snippet *c, uint64_t literal)
{
    int32_t distance = (int32_t)(literal - (c->at + c->bytes.len + 6));
    emit(c, "\xff\x25", 2); /* jmp *distance(%rip) */
    buf_add(&c->bytes, &distance, sizeof distance);
}

void code_resume_point(const struct user_regs_struct *stopped, struct user_regs_struct *out)
{
    *out = *stopped;
    int64_t result = (int64_t)stopped->rax;
    if ((int64_t)stopped->orig_rax < 0 || result > -512 || result < -516 || result == -515)
        return;
    out->rax = result == -516 ? SYS_restart_syscall : stopped->orig_rax;
    out->rip -= 2;
}

/* Literals: mask, rip, flags. Everything back but the flags when flags_at is 0 (then nothing here may change them). */
static void emit_escape(struct snippet *c, const struct victim *v, size_t thread, uint64_t literals, uint64_t flags_at)
{
    const struct victim_thread *t = &v->threads[thread];
    struct user_regs_struct r;
    code_resume_point(&t->regs, &r);
    emit_call(c, SYS_rt_sigprocmask, SIG_SETMASK, literals, 0, 8);
    if (flags_at) {
        emit_mov(c, RSP, flags_at);
        emit(c, "\x9d", 1); /* popfq */
    }
    const uint64_t values[16] = {r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi,
                                 r.r8,  r.r9,  r.r10, r.r11, r.r12, r.r13, r.r14, r.r15};
    for (int k = 15; k >= 0; k--)
        emit_mov(c, (enum reg)k, values[k]);
    emit_jump_through(c, literals + 8);
}

static void emit_literals(struct snippet *c, const struct victim *v, size_t thread, uint64_t at)
{
    struct user_regs_struct r;
    code_resume_point(&v->threads[thread].regs, &r);
    uint64_t literals[CODE_EXIT / 8] = {v->threads[thread].sigmask, r.rip, r.eflags};
    uint8_t exit_code[CODE_START - CODE_EXIT] = {0xb8, SYS_exit_group, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05};
    c->at = at;
    buf_add(&c->bytes, literals, sizeof literals);
    buf_add(&c->bytes, exit_code, sizeof exit_code);
}

void code_batch(struct snippet *c, const struct victim *v, size_t thread, uint64_t scratch)
{
    emit_literals(c, v, thread, scratch);
    buf_add(&c->bytes, remote_table_code, (size_t)(remote_table_code_end - remote_table_code));
    emit_tell(c, v, thread);
    emit_escape(c, v, thread, scratch, scratch + CODE_FLAGS);
}

void code_crowd(struct snippet *c, const struct victim *v, uint64_t scratch)
{
    emit_literals(c, v, 0, scratch);
    buf_add(&c->bytes, remote_table_code, (size_t)(remote_table_code_end - remote_table_code));
    emit_mov(c, RAX, SYS_tgkill);
    emit_mov(c, RDI, (uint64_t)v->inner_pid);
    emit(c, "\x4c\x89\xe6", 3); /* mov %r12,%rsi */
    emit_mov(c, RDX, (uint64_t)v->notify_signal);
    emit(c, "\x0f\x05", 2);
    c->told = c->at + c->bytes.len;
    emit_mov(c, RAX, SYS_exit_group); /* nobody is there to be told */
    emit(c, "\x31\xff\x0f\x05", 4);
}

void code_one(struct snippet *c, const struct victim *v, size_t thread, uint64_t at)
{
    emit_literals(c, v, thread, at);
    emit(c, "\x0f\x05\x48\x89\xc3", 5); /* syscall; mov %rax,%rbx */
    emit_tell(c, v, thread);
    emit_escape(c, v, thread, at, 0);
}

void code_clone(struct snippet *c, const struct victim *v, size_t thread, uint64_t scratch, const struct code_child *child)
{
    emit_literals(c, v, thread, scratch);
    if (child->closes)
        emit_call(c, SYS_close_range, 0, ~0u, 0, 0);
    emit_mov(c, RAX, SYS_clone3);
    emit_mov(c, RDI, child->args_address);
    emit_mov(c, RSI, child->args_len);
    /* syscall; mov %rax,%rbx; test %rax,%rax; jne over; mov $exit_group,%eax; xor %edi,%edi; syscall; over: */
    emit(c, "\x0f\x05\x48\x89\xc3\x48\x85\xc0\x75\x09\xb8\xe7\x00\x00\x00\x31\xff\x0f\x05", 19);
    emit_tell(c, v, thread);
    emit_escape(c, v, thread, scratch, scratch + CODE_FLAGS);
}
