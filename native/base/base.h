/* Small tools that every room of the engine uses: cleanup attributes, whole reads and writes, growing
 * buffers, clocks, /proc readers, and the JSON lines that the engine speaks. Knows nothing of pods. */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "err.h"

#define PAGE_BYTES 4096ul
#define PATH_BYTES 4096
#define ARRAY_LENGTH(a) (sizeof(a) / sizeof((a)[0]))

/* ---- cleanup: `AUTO_CLOSE int fd = open(...)`, `AUTO_FREE char *p = ...` */
void cleanup_close(int *fd);
void cleanup_free(void *p);
void cleanup_file(FILE **f);
void cleanup_dir(void *d);
#define AUTO_CLOSE __attribute__((cleanup(cleanup_close)))
#define AUTO_FREE __attribute__((cleanup(cleanup_free)))
#define AUTO_FILE __attribute__((cleanup(cleanup_file)))
#define AUTO_DIR __attribute__((cleanup(cleanup_dir)))

/* ---- memory: no memory left ends the process (the engine is a program of its own) */
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *p, size_t count, size_t size);
char *xstrdup(const char *s);
char *xasprintf(const char *format, ...) PRINTF(1, 2);

/* ---- searching: the number of the first of `count` items, in ascending order, that is not before what is looked for; `before` says it of item `k` */
#define FIRST_NOT(count, k, before) \
    __extension__({ \
        size_t first_ = 0, behind_ = (count); \
        while (first_ < behind_) { \
            const size_t k = first_ + (behind_ - first_) / 2; \
            if (before) \
                first_ = k + 1; \
            else \
                behind_ = k; \
        } \
        first_; \
    })

/* ---- a growing byte buffer */
struct buf {
    uint8_t *data;
    size_t len, cap;
};
void buf_add(struct buf *b, const void *data, size_t len);
void buf_addf(struct buf *b, const char *format, ...) PRINTF(2, 3);
void buf_free(struct buf *b);
#define AUTO_BUF __attribute__((cleanup(buf_free)))

/* ---- files: EINTR and short counts handled; paths may be relative to dirfd */
MUST_CHECK int io_read_all(int fd, void *data, size_t len, struct err *e);   /* exactly len, else E_IO */
MUST_CHECK int io_write_all(int fd, const void *data, size_t len, struct err *e);
MUST_CHECK int io_pread_all(int fd, void *data, size_t len, uint64_t offset, struct err *e);
MUST_CHECK int io_pwrite_all(int fd, const void *data, size_t len, uint64_t offset, struct err *e);
MUST_CHECK int io_slurp(int dirfd, const char *path, struct buf *out, size_t max, struct err *e); /* adds a NUL that len does not count */
MUST_CHECK int io_slurpf(struct buf *out, size_t max, struct err *e, const char *format, ...) PRINTF(4, 5);
MUST_CHECK int io_put(int dirfd, const char *path, const void *data, size_t len, struct err *e);  /* plain write to an existing file (procfs, sysfs, cgroupfs) */
MUST_CHECK int io_putf(struct err *e, const char *path, const char *format, ...) PRINTF(3, 4);
/* Durable: temporary name, write, fsync, rename, fsync of the directory. */
MUST_CHECK int io_replace(int dirfd, const char *name, const void *data, size_t len, mode_t mode, struct err *e);
/* The same without fsync, for what matters only as long as the machine is up: whole for everybody who looks, whoever is killed. */
MUST_CHECK int io_replace_soon(int dirfd, const char *name, const void *data, size_t len, mode_t mode, struct err *e);
MUST_CHECK int io_mkdirs(const char *path, mode_t mode, struct err *e);
/* fchownat; 0 or -1 with errno. An owner or group that our user namespace has no name for is left as it is: ours (ordinary users have one name). */
MUST_CHECK int io_chown(int dirfd, const char *name, uint64_t uid, uint64_t gid, int flags);

/* ---- time, in nanoseconds of the clock */
uint64_t clock_ns(clockid_t clock);

/* ---- one output for machines: JSON lines on the descriptor that output_open chose (close-on-exec).
 * Events: hello, step, progress (at most 1/s), warn, prepared, captured, ready, and one done or failed.
 * Fields are given as a printf format of JSON without the braces; use json_quote for strings. */
void output_open(int fd);                       /* duplicates fd above 2 with close-on-exec */
void output_event(const char *event, const char *fields, ...) PRINTF(2, 3);
void output_failed(const struct err *e);        /* {"event":"failed","code":"...","exit":N,"message":"..."} */
char *json_quote(const char *s);                /* malloc'ed, with the quotes; invalid UTF-8 becomes U+FFFD */
char *json_quote_bytes(const char *s, size_t len);

/* ---- argv: long options only; every verb has --help. Unknown option, missing value: E_USAGE. */
struct option_spec {
    const char *name;      /* without the dashes */
    char type;             /* 's' string, 'u' unsigned integer (suffixes K M G), 'b' flag, 'd' directory/path string */
    void *target;          /* const char **, uint64_t *, bool * */
    bool required;
    const char *help;
};
/* Parse argv[1..]; *rest is the index of the first argument behind the options (after "--" if given). */
MUST_CHECK int options_parse(int argc, char **argv, const char *usage, const struct option_spec *specs,
                             size_t count, int *rest, struct err *e);
