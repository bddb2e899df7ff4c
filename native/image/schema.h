/* C types of schema.def, and what is made from it. Decoding trusts nothing: every length is checked against
 * the bytes that are there, counts against IMAGE_ITEMS_MAX. */
#pragma once
#include "../base/base.h"

#define IMAGE_FORMAT 7ul
#define IMAGE_ITEMS_MAX (1ul << 24)
#define DIGEST_BYTES 32
#define RIGHTS_MAX 253 /* descriptors in a message of a Unix socket (SCM_MAX_FD) */

struct digest {
    uint8_t bytes[DIGEST_BYTES];
};
struct bytes {
    uint8_t *data;
    size_t len;
};

#define STRUCT(name) struct name {
#define END(name) };
#define U(field) uint64_t field;
#define I(field) int64_t field;
#define S(field) char *field;
#define B(field) struct bytes field;
#define D(field) struct digest field;
#define L(type, field) struct type *field; size_t field##_count;
#define O(type, field) struct type field;
#include "schema.def"
#undef STRUCT
#undef END
#undef U
#undef I
#undef S
#undef B
#undef D
#undef L
#undef O

enum task_state { TASK_RUNNING = 1, TASK_STOPPED = 2, TASK_ZOMBIE = 3 };
enum memobj_kind { MEMOBJ_SHARED_ANON = 1, MEMOBJ_MEMFD = 2, MEMOBJ_UNLINKED = 3, MEMOBJ_SYSV = 4 };
enum vma_kind { VMA_ANON = 1, VMA_FILE = 2, VMA_MEMOBJ = 3, VMA_VDSO = 4, VMA_VVAR = 5, VMA_STACK = 6, VMA_HEAP = 7, VMA_VVAR_CLOCK = 8 };
enum vma_flags { VMAF_SHARED = 1, VMAF_GROWSDOWN = 2, VMAF_NORESERVE = 4, VMAF_HUGETLB = 8 };
enum vma_advice { ADV_HUGEPAGE = 1, ADV_NOHUGEPAGE = 2, ADV_DONTFORK = 4, ADV_WIPEONFORK = 8, ADV_DONTDUMP = 16, ADV_MERGEABLE = 32, ADV_LOCKED = 64, ADV_LOCKONFAULT = 128, ADV_RANDOM = 256, ADV_SEQUENTIAL = 512, ADV_SEALED = 1024 };
enum file_kind {
    FILE_REGULAR = 1, FILE_DIRECTORY, FILE_PATH_ONLY, FILE_DEVICE, FILE_PIPE, FILE_FIFO, FILE_UNIX, FILE_TCP, FILE_UDP,
    FILE_NETLINK, FILE_EPOLL, FILE_EVENTFD, FILE_TIMERFD, FILE_SIGNALFD, FILE_INOTIFY, FILE_MEMOBJ, FILE_PTY_MASTER,
    FILE_PTY_SLAVE, FILE_PROC, FILE_PIDFD, FILE_STDOUT, FILE_STDERR /* the log files of `run --stdout/--stderr` */,
    FILE_MQUEUE, FILE_RAW /* raw and packet sockets */
};

/* A mount of the job: a bind mount of something of the pod; one that came along with such a one; of a file system that the job mounted. */
enum mounted_kind { MOUNTED_POD = 1, MOUNTED_ALONG, MOUNTED_OWN };

/* For every struct NAME of schema.def: NAME_encode, NAME_decode, NAME_json, NAME_free (image/codec.c).
 * decode: fills a zeroed struct, 0 or -1 (E_BAD_IMAGE, says where). */
struct cursor {
    const uint8_t *at, *end;
};
#define STRUCT(name) \
    void name##_encode(struct buf *out, const struct name *in); \
    MUST_CHECK int name##_decode(struct cursor *in, struct name *out, struct err *e); \
    void name##_json(FILE *out, const struct name *in); \
    void name##_free(struct name *x);
#define END(name)
#define U(field)
#define I(field)
#define S(field)
#define B(field)
#define D(field)
#define L(type, field)
#define O(type, field)
#include "schema.def"
#undef STRUCT
#undef END
#undef U
#undef I
#undef S
#undef B
#undef D
#undef L
#undef O

/* Grow a list by one zeroed element and return it: struct vma *v = LIST_ADD(mm, vmas); */
void *list_add(void **list, size_t *count, size_t item_bytes);
#define LIST_ADD(owner, field) \
    ({ \
        __typeof__(owner) list_owner_ = (owner); /* evaluated once */ \
        (__typeof__(list_owner_->field))list_add((void **)&list_owner_->field, &list_owner_->field##_count, \
                                                 sizeof *list_owner_->field); \
    })
void bytes_set(struct bytes *b, const void *data, size_t len);
bool digest_is_zero(const struct digest *d);
void digest_hex(const struct digest *d, char out[65]);
/* 64 lower-case digits, nothing behind them: E_USAGE otherwise. */
MUST_CHECK int digest_parse(const char *hex, struct digest *out, struct err *e);
