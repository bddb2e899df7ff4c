/* Notices whatever a half-done snapshot leaves behind: a stream over TCP that must not lose a byte or see an error, datagrams that must never be
 * refused, waits that must not be interrupted, registers, masks, mappings, a child that shares memory. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "victim.h"

static volatile int ending;
static struct {
    volatile uint64_t sent, received, datagrams, waits;
} *board;

static void pair_make(int out[2])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    MUST(bind(listener, (struct sockaddr *)&at, sizeof at) == 0 && listen(listener, 1) == 0);
    MUST(getsockname(listener, (struct sockaddr *)&at, &len) == 0);
    out[0] = socket(AF_INET, SOCK_STREAM, 0);
    MUST(connect(out[0], (struct sockaddr *)&at, sizeof at) == 0);
    out[1] = accept(listener, NULL, NULL);
    MUST(out[1] >= 0);
    close(listener);
}
static void *sender(void *fd)
{
    uint64_t block[128], n = 0;
    while (!ending) {
        for (int k = 0; k < 128; k++)
            block[k] = n++;
        for (size_t done = 0; done < sizeof block;) {
            ssize_t sent = send((int)(intptr_t)fd, (char *)block + done, sizeof block - done, 0);
            if (sent < 0)
                fail(strerror(errno));
            done += (size_t)sent;
        }
        board->sent = n;
        usleep(200);
    }
    shutdown((int)(intptr_t)fd, SHUT_WR);
    return NULL;
}
static void receive(int fd)
{
    uint64_t n = 0, block[128];
    size_t have = 0;
    for (;;) {
        ssize_t got = recv(fd, (char *)block + have, sizeof block - have, 0);
        if (got < 0)
            fail(strerror(errno));
        if (got == 0)
            break;
        have += (size_t)got;
        for (size_t k = 0; k < have / 8; k++)
            MUST(block[k] == n++);
        memmove(block, block + have / 8, have % 8);
        have %= 8;
        board->received = n;
    }
    MUST(n == board->sent);
    _exit(5);
}
static void *datagrams(void *unused)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int a = socket(AF_INET, SOCK_DGRAM, 0);
    MUST(bind(a, (struct sockaddr *)&at, sizeof at) == 0 && getsockname(a, (struct sockaddr *)&at, &len) == 0);
    for (uint64_t n = 0, back; !ending; n++) {
        if (sendto(a, &n, sizeof n, 0, (struct sockaddr *)&at, sizeof at) != sizeof n)
            fail(strerror(errno));
        struct pollfd p = {.fd = a, .events = POLLIN};
        if (poll(&p, 1, 2000) == 1) { /* one may be lost in a cut network, none may be changed */
            MUST(recv(a, &back, sizeof back, 0) == sizeof back && back <= n);
            board->datagrams++;
        }
        usleep(300);
    }
    return unused;
}
static void *waits(void *unused)
{
    int epoll = epoll_create1(0);
    struct epoll_event event;
    sigset_t mask, now;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &mask, NULL);
    for (; !ending; board->waits++) {
        struct timespec nap = {0, 1000000};
        MUST(nanosleep(&nap, NULL) == 0 && poll(NULL, 0, 1) == 0);
        /* The kernel itself ends this wait when a tracer dies between the stop and its first look, as it does after SIGSTOP (signal(7)). */
        int n = epoll_wait(epoll, &event, 1, 1);
        MUST(n == 0 || (n < 0 && errno == EINTR));
        pthread_sigmask(SIG_SETMASK, NULL, &now);
        MUST(sigismember(&now, SIGUSR2) && !sigismember(&now, SIGTERM));
    }
    return unused;
}

int main(void)
{
    int pair[2];
    pthread_t threads[3];
    sigset_t ask;
    board = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pair_make(pair);
    pid_t child = fork();
    if (child == 0) {
        close(pair[0]);
        receive(pair[1]);
    }
    close(pair[1]);
    sigemptyset(&ask);
    sigaddset(&ask, SIGUSR1);
    sigprocmask(SIG_BLOCK, &ask, NULL); /* only the first thread takes it: the others' waits are never interrupted */
    void *(*const bodies[])(void *) = {sender, datagrams, waits};
    for (int k = 0; k < 3; k++)
        pthread_create(&threads[k], NULL, bodies[k], (void *)(intptr_t)pair[0]);
    sigprocmask(SIG_UNBLOCK, &ask, NULL);
    victim_ready();
    for (uint64_t turn = 0; !asked; turn++) {
        volatile double x = 1;
        uint64_t sum = 0;
        for (uint64_t k = 0; k < 50000; k++) {
            sum = sum * 6364136223846793005ul + k;
            x = x * 1.0000001 + 0.1;
        }
        static uint64_t first;
        first = first ? first : sum;
        MUST(sum == first);
        usleep(500);
    }
    ending = 1;
    for (int k = 0; k < 3; k++)
        pthread_join(threads[k], NULL);
    int status;
    MUST(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 5);
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps))
        MUST(!strstr(line, "rwxp"));
    printf("%lu words, %lu datagrams, %lu waits\n", board->received, board->datagrams, board->waits);
    return victim_ok();
}
