/* See barrier.h. Read byte by byte: what follows a line belongs to the next wait. */
#include "barrier.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int barrier_wait(const char *wanted, struct err *e)
{
    char word[32];
    size_t len = 0;
    for (;;) {
        char c;
        ssize_t n = read(STDIN_FILENO, &c, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(e, E_ABORTED, "nobody waits for it any more");
        if (c == '\n')
            break;
        if (len < sizeof word - 1)
            word[len++] = c;
    }
    word[len] = 0;
    if (strcmp(word, wanted) == 0)
        return 0;
    if (strcmp(word, "abort") == 0)
        return err_set(e, E_ABORTED, "aborted on request");
    return err_set(e, E_PROTOCOL, "expected '%s' or 'abort', got '%s'", wanted, word);
}
