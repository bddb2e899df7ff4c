/* POD/journal: one line for each thing that is about to be done to the victims. Written before the deed; whoever finds the
 * engine dead undoes what stands there, last line first. A line that was only half written was not acted upon.
 * A process works on one pod at a time: the file stays open from begin to end. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../snapshot/undo.h"
#include "state.h"
#include "pod.h"

#define JOURNAL "journal"
#define JOURNAL_MAX (64ul << 20)
#define LINE_MAX_BYTES 512

static int at_work = -1;

static void work_end(void)
{
    if (at_work >= 0)
        close(at_work);
    at_work = -1;
}

int journal_begin(const struct pod *pod, const char *act, struct err *e)
{
    work_end();
    at_work = openat(pod->dirfd, JOURNAL, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    if (at_work < 0 && errno == EEXIST)
        return err_set(e, E_BUSY, "another act works on the pod, or one has died and was not undone yet (native adopt)");
    if (at_work < 0)
        return err_errno(e, "make the journal");
    AUTO_FREE char *line = xasprintf("act %s %d\n", act, getpid());
    return io_write_all(at_work, line, strlen(line), e);
}

int journal_note(const char *format, ...)
{
    char line[LINE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    CHECK(len > 0 && (size_t)len < sizeof line - 1);
    line[len++] = '\n';
    struct err ignored;
    return at_work < 0 ? -1 : io_write_all(at_work, line, (size_t)len, &ignored);
}

int journal_end(const struct pod *pod, struct err *e)
{
    work_end();
    if (unlinkat(pod->dirfd, JOURNAL, 0) < 0 && errno != ENOENT)
        return err_errno(e, "remove the journal");
    return 0;
}

/* Lines as pointers into text, the half-written last one left out. */
static char **lines_of(struct buf *text, size_t *count)
{
    char **lines = NULL;
    *count = 0;
    for (char *line = (char *)text->data, *end; line && (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        lines = xrealloc(lines, *count + 1, sizeof *lines);
        lines[(*count)++] = line;
    }
    return lines;
}

int journal_replay_undo(const struct pod *pod, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    if (faccessat(pod->dirfd, JOURNAL, F_OK, 0) < 0 && errno == ENOENT) /* it died before it began, or after it had ended */
        return undo_without_lines(pod, e);
    if (io_slurp(pod->dirfd, JOURNAL, &text, JOURNAL_MAX, e) < 0)
        return err_wrap(e, "journal");
    size_t count;
    AUTO_FREE char **lines = lines_of(&text, &count);
    if (undo_lines(pod, lines, count, e) < 0)
        return err_wrap(e, "undo what a dead engine left");
    return journal_end(pod, e);
}
