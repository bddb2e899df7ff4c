/* Messages of a POSIX queue, taken and put back by engines that are killed at any instant: whoever undoes it finds all of them, in their order. */
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "snapshot/mqueue_take.h"
#include "pod/state.h"
#include "tap.h"

#define MESSAGES 10
#define ROUNDS 300
#define ROUNDS_MAX 5000

static struct pod pod;
static mqd_t queue;
static const char *name;

static int find(const struct pod *p, dev_t dev, ino_t ino, struct err *e)
{
    struct stat st;
    (void)p;
    (void)e;
    return fstat(queue, &st) == 0 && st.st_dev == dev && st.st_ino == ino ? mq_open(name, O_RDWR | O_NONBLOCK) : -1;
}

static void fill(void)
{
    char text[256];
    for (unsigned k = 0; k < MESSAGES; k++) {
        memset(text, (int)('a' + k), sizeof text);
        if (mq_send(queue, text, k * 25, k % 3) < 0)
            abort();
    }
}

/* In the order in which they are received: of priority 2 the numbers 2, 5, 8, then those of 1, then those of 0. */
static bool is_whole(void)
{
    char got[256];
    bool whole = true;
    for (unsigned priority = 3; priority-- > 0;)
        for (unsigned k = priority, p; k < MESSAGES; k += 3) {
            ssize_t n = mq_receive(queue, got, sizeof got, &p);
            whole = whole && n == (ssize_t)k * 25 && p == priority && (n == 0 || (got[0] == (char)('a' + k) && got[n - 1] == got[0]));
        }
    return whole && mq_receive(queue, got, sizeof got, NULL) < 0 && errno == EAGAIN;
}

static void save_for_ever(int told)
{
    if (write(told, "", 1) != 1)
        _exit(1);
    for (;;) {
        struct mqueue out = {0};
        struct err e = {0};
        if (mqueue_messages_save(&pod, queue, &out, &e) < 0 || out.messages_count != MESSAGES)
            _exit(1);
        for (size_t k = 0; k < out.messages_count; k++)
            free(out.messages[k].data.data);
        free(out.messages);
    }
}

static bool killed_after(uint64_t delay_ns)
{
    int status, ends[2];
    char byte;
    if (pipe(ends) < 0)
        return false;
    pid_t pid = fork();
    if (pid == 0)
        save_for_ever(ends[1]);
    bool begun = read(ends[0], &byte, 1) == 1;
    close(ends[0]);
    close(ends[1]);
    for (uint64_t end = clock_ns(CLOCK_MONOTONIC) + delay_ns; clock_ns(CLOCK_MONOTONIC) < end;)
        continue;
    return begun && pid > 0 && kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid && WIFSIGNALED(status);
}

static void kills(void)
{
    int begun = 0, whole = 0, missing = 0, rounds = 0;
    for (; rounds < ROUNDS || (!missing && rounds < ROUNDS_MAX); rounds++) { /* the instant that matters is short */
        struct mq_attr attr;
        struct err e = {0};
        fill();
        if (!killed_after(random_below(500000)))
            break;
        begun += faccessat(pod.dirfd, "mqueue", F_OK, 0) == 0;
        missing += mq_getattr(queue, &attr) == 0 && attr.mq_curmsgs != MESSAGES;
        if (mqueue_messages_undo(&pod, find, &e) < 0)
            printf("# %s\n", e.message);
        whole += is_whole();
    }
    ok(whole == rounds, "%d engines killed, %d with POD/mqueue, %d while messages were away: each time they are all back in their order", whole, begun, missing);
    ok(missing > 0, "some of them were killed while messages were away");
}

static void refusals(void)
{
    struct err e = {0};
    struct stat st;
    fill();
    mqd_t reader = mq_open(name, O_RDONLY | O_NONBLOCK);
    struct mqueue out = {0};
    ok(mqueue_messages_save(&pod, reader, &out, &e) < 0, "what cannot be put back fails: %s", e.message);
    ok(fstatat(pod.dirfd, "mqueue", &st, 0) == 0, "what was taken is kept");
    ok(mqueue_messages_undo(&pod, find, &e) == 0 && fstatat(pod.dirfd, "mqueue", &st, 0) < 0 && is_whole(), "and put back by whoever can");
    for (size_t k = 0; k < out.messages_count; k++)
        free(out.messages[k].data.data);
    free(out.messages);
    ok(mqueue_messages_undo(&pod, find, &e) == 0, "nothing to undo is no failure");
    int fd = openat(pod.dirfd, "mqueue", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ok(fd >= 0 && ftruncate(fd, 100) == 0 && mqueue_messages_undo(&pod, find, &e) == 0 && fstatat(pod.dirfd, "mqueue", &st, 0) < 0,
       "a file in which nothing stands yet is taken away");
    close(fd);
    mq_close(reader);
}

int main(void)
{
    char dir[] = "/tmp/clusteros-mqueue-XXXXXX";
    struct mq_attr attr = {.mq_maxmsg = MESSAGES, .mq_msgsize = 256};
    struct err e = {0};
    seed_begin();
    if (!mkdtemp(dir) || (pod.dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 || journal_begin(&pod, "test", &e) < 0)
        return 1;
    AUTO_FREE char *own = xasprintf("/clusteros-%d", getpid());
    name = own;
    queue = mq_open(name, O_RDWR | O_NONBLOCK | O_CREAT | O_EXCL, 0600, &attr);
    kills();
    refusals();
    mq_close(queue);
    mq_unlink(name);
    if (journal_end(&pod, &e) < 0 || rmdir(dir) < 0)
        return 1;
    return done_testing();
}
