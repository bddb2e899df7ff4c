/* POSIX message queues: named with descriptors of both processes, named without any, one whose name is gone; limits, modes, flags; a child
 * that waits for a message.
 * COVERAGE: POSIX message queues | captured | all of the pod, opened by somebody or not */
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "victim.h"

static mqd_t named, reader, nameless, nameless2;
static pid_t child;

static mqd_t make(const char *name, int flags, mode_t mode, long count, long bytes)
{
    struct mq_attr attr = {.mq_maxmsg = count, .mq_msgsize = bytes};
    mqd_t q = mq_open(name, O_CREAT | O_EXCL | flags, mode, &attr);
    MUST(q != (mqd_t)-1);
    return q;
}
static void say(mqd_t q, const char *text)
{
    MUST(mq_send(q, text, strlen(text), 3) == 0);
}
static void take(mqd_t q, const char *text)
{
    char got[200] = "";
    unsigned priority;
    ssize_t n;
    while ((n = mq_receive(q, got, sizeof got, &priority)) < 0 && errno == EINTR)
        ;
    MUST(n == (ssize_t)strlen(text) && !strcmp(got, text) && priority == 3);
}

int main(void)
{
    struct mq_attr attr;
    struct stat st;
    umask(0);
    named = make("/named", O_WRONLY, 0640, 5, 100);
    reader = mq_open("/named", O_RDONLY | O_NONBLOCK);
    MUST(mq_close(make("/alone", O_RDWR, 0622, 3, 77)) == 0);
    nameless = make("/gone", O_RDWR, 0600, 2, 200), nameless2 = mq_open("/gone", O_RDWR);
    MUST(mq_unlink("/gone") == 0 && mq_close(make("/gone", O_RDWR, 0600, 1, 10)) == 0);
    child = fork();
    if (child == 0) {
        signal(SIGUSR1, SIG_IGN);
        take(nameless2, "to the child");
        say(nameless2, "from the child");
        _exit(0);
    }
    victim_wait();
    MUST(mq_getattr(reader, &attr) == 0 && attr.mq_maxmsg == 5 && attr.mq_msgsize == 100 && attr.mq_flags == O_NONBLOCK && attr.mq_curmsgs == 0);
    MUST(fstat(named, &st) == 0 && (st.st_mode & 0777) == 0640 && st.st_uid == getuid() && st.st_nlink == 1);
    say(named, "hello");
    take(reader, "hello");
    mqd_t alone = mq_open("/alone", O_RDONLY), gone = mq_open("/gone", O_RDONLY);
    MUST(mq_getattr(alone, &attr) == 0 && attr.mq_maxmsg == 3 && attr.mq_msgsize == 77 && mq_getattr(gone, &attr) == 0 && attr.mq_msgsize == 10);
    MUST(fstat(nameless, &st) == 0 && st.st_nlink == 0 && mq_getattr(nameless, &attr) == 0 && attr.mq_msgsize == 200);
    say(nameless, "to the child");
    int status;
    MUST(waitpid(child, &status, 0) == child && status == 0);
    take(nameless, "from the child");
    MUST(mq_unlink("/named") == 0 && mq_unlink("/alone") == 0);
    return victim_ok();
}
