/* See err.h. */
#include "err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum code code_of_errno(int number)
{
    switch (number) {
    case ENOSPC:
    case EDQUOT:
        return E_NO_SPACE;
    case EPERM:
    case EACCES:
        return E_DENIED;
    case EIO:
        return E_IO;
    default:
        return E_OS;
    }
}

int err_set(struct err *e, enum code code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    e->code = code;
    vsnprintf(e->message, sizeof e->message, format, args);
    va_end(args);
    return -1;
}

int err_errno(struct err *e, const char *format, ...)
{
    int number = errno;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(e->message, sizeof e->message, format, args);
    va_end(args);
    size_t at = n < 0 ? 0 : (size_t)n;
    if (at < sizeof e->message)
        snprintf(e->message + at, sizeof e->message - at, ": %s", strerror(number));
    e->code = code_of_errno(number);
    return -1;
}

int err_wrap(struct err *e, const char *format, ...)
{
    char inner[ERR_MESSAGE_MAX];
    memcpy(inner, e->message, sizeof inner);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(e->message, sizeof e->message, format, args);
    va_end(args);
    size_t at = n < 0 ? 0 : (size_t)n, len = strlen(inner);
    if (at + 2 >= sizeof e->message)
        return -1;
    len = len < sizeof e->message - at - 3 ? len : sizeof e->message - at - 3; /* what does not fit is cut off */
    memcpy(e->message + at, ": ", 2);
    memcpy(e->message + at + 2, inner, len);
    e->message[at + 2 + len] = 0;
    return -1;
}

const char *err_words(enum code code)
{
    switch (code) {
#define CODE(name, exit_status, http, retry, words) case E_##name: return words;
#include "../codes.def"
#undef CODE
    }
    return "unknown outcome";
}

const char *err_name(enum code code)
{
    switch (code) {
#define CODE(name, exit_status, http, retry, words) case E_##name: return #name;
#include "../codes.def"
#undef CODE
    }
    return "UNKNOWN";
}

_Noreturn void check_failed(const char *file, int line, const char *text)
{
    fprintf(stderr, "native: %s:%d: this must hold and does not: %s\n", file, line, text);
    abort();
}
