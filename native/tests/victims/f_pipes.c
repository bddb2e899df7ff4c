/* Numbers go round through pipes and a FIFO between three processes; a full pipe, one with packets and one whose packets were written before the mode was
 * given up lie still.
 * COVERAGE: pipe with data, packet mode, size | captured |
 * COVERAGE: FIFO | captured | */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "victim.h"

static void all(ssize_t (*move)(int, void *, size_t), int fd, void *data, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = move(fd, (char *)data + at, len - at);
        MUST(n > 0 || (n < 0 && errno == EINTR));
        at += n > 0 ? (size_t)n : 0;
    }
}
static ssize_t out(int fd, void *data, size_t len)
{
    return write(fd, data, len);
}
/* Hand on what comes; end at the end of file. */
static _Noreturn void stage(int from, int to)
{
    char block[777];
    for (;;) {
        ssize_t n = read(from, block, sizeof block);
        if (n == 0)
            _exit(0);
        MUST(n > 0);
        all(out, to, block, (size_t)n);
    }
}

int main(void)
{
    int a[2], c[2], still[2], packets[2], former[2];
    MUST(pipe(a) == 0 && pipe(c) == 0 && pipe2(still, O_NONBLOCK) == 0 && pipe2(packets, O_DIRECT) == 0);
    MUST(mkfifo("/tmp/fifo", 0600) == 0);
    uint64_t kept = 0;
    for (char block[1000]; write(still[1], memset(block, 'k', 1000), 1000) == 1000; kept++)
        ;
    MUST(pipe2(former, O_DIRECT) == 0 && write(former[1], "ab", 2) == 2 && write(former[1], "cde", 3) == 3);
    MUST(fcntl(former[1], F_SETFL, 0) == 0 && write(former[1], "stream", 6) == 6 && fcntl(former[1], F_GETFL) == O_WRONLY);
    MUST(write(packets[1], "one", 3) == 3 && write(packets[1], "three", 5) == 5);
    if (fork() == 0) {
        close(a[1]);
        stage(a[0], open("/tmp/fifo", O_WRONLY));
    }
    if (fork() == 0) {
        close(a[1]), close(a[0]);
        int fifo = open("/tmp/fifo", O_RDONLY);
        stage(fifo, c[1]);
    }
    close(a[0]), close(c[1]);
    victim_ready();
    uint64_t sent = 0, got = 0, ahead = 6000, number;
    while (!asked || got < sent) {
        for (; !asked && sent - got < ahead; sent++)
            all(out, a[1], &sent, sizeof sent);
        all(read, c[0], &number, sizeof number);
        MUST(number == got++);
    }
    char text[1000];
    for (; kept; kept--)
        MUST(read(still[0], text, 1000) == 1000 && text[0] == 'k' && text[999] == 'k');
    MUST(read(still[0], text, 1) < 0 && errno == EAGAIN && read(packets[0], text, 100) == 3 && read(packets[0], text, 100) == 5);
    MUST(read(former[0], text, 100) == 2 && read(former[0], text, 100) == 3 && read(former[0], text, 100) == 6 && !(fcntl(former[1], F_GETFL) & O_DIRECT));
    close(a[1]);
    for (int status, i = 0; i < 2; i++)
        MUST(wait(&status) > 0 && status == 0);
    return victim_ok();
}
