/* Errors of the engine. The world's faults return -1 with a struct err filled in; each level wraps, so
 * that the message reads as a path: "snapshot pod x: memory of pid 47: read 0x7f31: Input/output error".
 * A fault of the engine's own trips CHECK and ends the process (exit 70). */
#pragma once
#include <stddef.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF(a, b) __attribute__((format(printf, a, b)))
#define ERR_MESSAGE_MAX 1024

enum code {
#define CODE(name, exit_status, http, retry, words) E_##name = exit_status,
#include "../codes.def"
#undef CODE
};

struct err {
    enum code code;                 /* E_OK until something failed */
    char message[ERR_MESSAGE_MAX];  /* a sentence, outermost context first */
};

/* Fill in an error; always return -1, so that callers can `return err_set(...)`. */
int err_set(struct err *e, enum code code, const char *format, ...) PRINTF(3, 4);
/* The same with ": strerror(errno)" behind; maps ENOSPC/EDQUOT to NO_SPACE, EPERM/EACCES to DENIED, else OS. */
int err_errno(struct err *e, const char *format, ...) PRINTF(2, 3);
/* Put context in front of an error that is already set: "context: message". */
int err_wrap(struct err *e, const char *format, ...) PRINTF(2, 3);
const char *err_words(enum code code);
const char *err_name(enum code code);

_Noreturn void check_failed(const char *file, int line, const char *text);
#define CHECK(x) ((x) ? (void)0 : check_failed(__FILE__, __LINE__, #x))
