/* Full POSIX message queues: with descriptors, without any, and without a name where nobody can receive; priorities, and the order within each. A
 * child waits for room.
 * COVERAGE: messages in POSIX message queues | captured | in their order
 * COVERAGE: POSIX message queues with messages in a pod without a freezer (waited for) | refused | messages that were not received, in a pod without a freezer
 * MATRIX: rootless refused messages that were not received, in a pod without a freezer */
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <sys/wait.h>

#include "victim.h"

/* Priorities in an order in which none is received; a count within each. An empty one is among them. */
#define FILLING 10
static const unsigned priorities[FILLING] = {0, 3, 32767, 3, 0, 7, 3, 0, 7, 32767};
static void fill(mqd_t q)
{
    char text[300] = {0};
    for (unsigned k = 0; k < FILLING; k++) {
        memset(text, (int)('a' + k), sizeof text);
        MUST(mq_send(q, text, k * 20, priorities[k]) == 0);
    }
    struct timespec now = {0};
    MUST(mq_timedsend(q, text, 1, 0, &now) < 0 && errno == ETIMEDOUT); /* it is full */
}
static void drain(mqd_t q, long left_over)
{
    char got[300];
    struct mq_attr attr;
    for (unsigned left = FILLING, before = 32768, last = 0; left > 0; left--) {
        unsigned priority;
        ssize_t n = mq_receive(q, got, sizeof got, &priority);
        unsigned k = n < 0 ? FILLING : (unsigned)n / 20;
        MUST(k < FILLING && n % 20 == 0 && priority == priorities[k] && priority <= before && (priority < before || k > last));
        MUST(n == 0 || (got[0] == (char)('a' + k) && got[n - 1] == (char)('a' + k)));
        before = priority, last = k;
    }
    MUST(mq_getattr(q, &attr) == 0 && attr.mq_curmsgs == left_over);
}
static mqd_t for_reading(mqd_t q)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", (int)q);
    return open(path, O_RDONLY);
}

static mqd_t make(const char *name, int flags)
{
    struct mq_attr attr = {.mq_maxmsg = FILLING, .mq_msgsize = 300};
    mqd_t q = mq_open(name, O_CREAT | O_EXCL | flags, 0600, &attr);
    MUST(q != (mqd_t)-1);
    fill(q);
    return q;
}

int main(void)
{
    mqd_t named = make("/full", O_RDWR), alone = make("/alone", O_WRONLY), gone = make("/gone", O_WRONLY);
    MUST(mq_close(alone) == 0 && mq_unlink("/gone") == 0);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGUSR1, SIG_IGN);
        MUST(mq_send(named, "room", 4, 0) == 0);
        _exit(0);
    }
    victim_wait();
    MUST(waitpid(child, NULL, WNOHANG) == 0);
    drain(for_reading(gone), 0), drain(mq_open("/alone", O_RDONLY), 0), drain(named, 1);
    MUST(mq_unlink("/alone") == 0);
    char got[300];
    unsigned priority;
    int status;
    MUST(mq_receive(named, got, sizeof got, &priority) == 4 && priority == 0 && !memcmp(got, "room", 4));
    MUST(waitpid(child, &status, 0) == child && status == 0);
    return victim_ok();
}
