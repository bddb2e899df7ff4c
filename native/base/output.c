/* The JSON lines that the engine speaks; it writes JSON and parses none. See base.h. */
#include "base.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int output_fd = -1;
static uint64_t last_progress_ns;

void output_open(int fd)
{
    if (output_fd >= 0)
        close(output_fd);
    output_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

void output_event(const char *event, const char *fields, ...)
{
    if (strcmp(event, "progress") == 0) {
        uint64_t now = clock_ns(CLOCK_MONOTONIC);
        if (now - last_progress_ns < 1000000000u)
            return;
        last_progress_ns = now;
    }
    char *body = NULL;
    va_list args;
    va_start(args, fields);
    int n = vasprintf(&body, fields ? fields : "", args);
    va_end(args);
    CHECK(n >= 0);
    AUTO_FREE char *line = xasprintf("{\"event\":\"%s\"%s%s}\n", event, *body ? "," : "", body);
    free(body);
    struct err ignored; /* nobody listens any more: the act goes on, its result is kept by the keeper */
    if (output_fd >= 0 && io_write_all(output_fd, line, strlen(line), &ignored) < 0)
        return;
}

void output_failed(const struct err *e)
{
    AUTO_FREE char *message = json_quote(e->message);
    output_event("failed", "\"code\":\"%s\",\"exit\":%d,\"message\":%s", err_name(e->code), (int)e->code, message);
}

/* Length of the valid UTF-8 sequence at s (RFC 3629), or 0. */
static size_t utf8_length(const uint8_t *s, size_t left)
{
    if (s[0] < 0x80)
        return 1;
    size_t want = s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : 0;
    if (s[0] >= 0xf5 || want == 0 || want > left)
        return 0;
    for (size_t k = 1; k < want; k++)
        if ((s[k] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
        (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return want;
}

char *json_quote_bytes(const char *s, size_t len)
{
    struct buf out = {0};
    buf_add(&out, "\"", 1);
    for (size_t k = 0; k < len;) {
        const uint8_t *c = (const uint8_t *)s + k;
        size_t n = utf8_length(c, len - k);
        if (n == 0)
            buf_add(&out, "\xef\xbf\xbd", 3);
        else if (*c == '"' || *c == '\\')
            buf_addf(&out, "\\%c", *c);
        else if (*c < 0x20 || *c == 0x7f)
            buf_addf(&out, "\\u%04x", *c);
        else
            buf_add(&out, c, n);
        k += n ? n : 1;
    }
    buf_add(&out, "\"", 2); /* with the NUL */
    return (char *)out.data;
}

char *json_quote(const char *s)
{
    return json_quote_bytes(s, strlen(s));
}
