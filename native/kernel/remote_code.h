/* Machine code that is written into a victim: x86-64 bytes, position known, made for one thread. */
#pragma once
#include "remote.h"

/* Offsets in the scratch area. The gap below CODE_FLAGS is room for a signal frame: while the escape code restores the
 * flags its stack pointer stands there for two instructions. */
enum {
    CODE_LITERALS = 0, CODE_EXIT = 24, CODE_START = 64, /* CODE_EXIT: exit_group(0), at the same place whatever code is there */
    CODE_FLAGS = 12288 - 64, CODE_TABLE = 12288,
    CODE_DATA = CODE_TABLE + REMOTE_BATCH_MAX * (int)sizeof(struct remote_call) + 3072,
    CODE_BYTES = 65536,
    /* a lane is a small area of the same shape */
    CODE_LANE_BYTES = REMOTE_SCRATCH_BYTES / REMOTE_LANES,
    CODE_LANE_DATA = CODE_TABLE + REMOTE_LANE_CALLS * (int)sizeof(struct remote_call),
    CODE_SLOT_BYTES = 7680, /* behind CODE_TABLE */
    CODE_SLOT_DATA = REMOTE_CROWD_CALLS * (int)sizeof(struct remote_call),
};

struct snippet {
    struct buf bytes;
    uint64_t at;       /* address of bytes[0] */
    uint64_t told;     /* rip of the thread when the tracer has been told */
};
void snippet_free(struct snippet *c);
#define AUTO_SNIPPET __attribute__((cleanup(snippet_free)))

/* A table of calls: r15 table, r14 count, r13 stop on error. */
void code_batch(struct snippet *c, const struct victim *v, size_t thread, uint64_t scratch);
/* The same for any thread of a process that ends with its tracer: r12 its number. */
void code_crowd(struct snippet *c, const struct victim *v, uint64_t scratch);
/* The call that stands in the registers; its result is in rbx when the tracer is told. */
void code_one(struct snippet *c, const struct victim *v, size_t thread, uint64_t at);
/* A clone3 whose child ends at once if it ever runs here; `closes`: all descriptors of the thread's before it. */
struct code_child {
    uint64_t args_address, args_len;
    bool closes;
};
void code_clone(struct snippet *c, const struct victim *v, size_t thread, uint64_t scratch, const struct code_child *child);
/* Run code that has been written, from `regs` with all signals blocked but the notifying one; wait until it tells, `last`: its registers then (remote.c). */
MUST_CHECK int remote_code_start(struct victim *v, size_t thread, struct user_regs_struct *regs, struct err *e);
MUST_CHECK int remote_code_await(struct victim *v, size_t thread, uint64_t told, struct user_regs_struct *last, struct err *e);
/* Where the thread continues: as the kernel would make it when it restarts the interrupted call. */
void code_resume_point(const struct user_regs_struct *stopped, struct user_regs_struct *out);
