/* A small parallel program for the system tests: N processes on N pods pass a numbered token around over TCP and check every number.
 *
 *   ring ROUNDS PODS          on pod-0: starts `ring ROUNDS PODS RANK` on the other pods with clusteros-rsh, is rank 0 itself
 *
 * Every rank keeps PAYLOAD bytes of state that each token changes; at the end rank 0 prints `ring: done ROUNDS CHECKSUM`, which depends
 * on every token of every rank. A lost, doubled or changed token ends the run with status 3. `progress.txt` tells the round. */
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PORT = 9000, PAYLOAD = 1 << 20, MESSAGE = 64 * 1024 };

static int rank, pods;
static uint8_t *state;

static void die(const char *what, long a, long b)
{
    fprintf(stderr, "ring: rank %d: %s (%ld, %ld)\n", rank, what, a, b);
    exit(3);
}

static int listener(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 4))
        die("cannot listen", PORT, 0);
    return fd;
}

static int connect_to(int who)
{
    char name[32];
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found;
    snprintf(name, sizeof name, "pod-%d", who);
    for (int tries = 0; tries < 600; tries++) {
        if (getaddrinfo(name, "9000", &hints, &found) == 0) {
            int fd = socket(AF_INET, SOCK_STREAM, 0);
            int done = connect(fd, found->ai_addr, found->ai_addrlen) == 0;
            freeaddrinfo(found);
            if (done)
                return fd;
            close(fd);
        }
        usleep(50000);
    }
    die("cannot reach", who, 0);
    return -1;
}

static void put(int fd, const void *data, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = send(fd, (const char *)data + at, len - at, MSG_NOSIGNAL);
        if (n <= 0)
            die("send failed", n, 0);
        at += (size_t)n;
    }
}

static void take(int fd, void *data, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = recv(fd, (char *)data + at, len - at, 0);
        if (n <= 0)
            die("the ring is broken", n, 0);
        at += (size_t)n;
    }
}

static uint64_t mix(uint64_t token)
{
    size_t from = (size_t)(token * 2654435761u % (PAYLOAD / 4096)) * 4096;
    for (size_t k = 0; k < 4096; k++) {
        state[from + k] = (uint8_t)(state[from + k] * 31 + (token >> (k & 7)) + (uint64_t)rank);
        token = (token ^ state[from + k]) * 0x100000001b3u;
    }
    return token;
}

static void start_others(char **argv)
{
    for (int who = 1; who < pods; who++)
        if (fork() == 0) {
            char place[32], number[16], here[4096];
            snprintf(place, sizeof place, "pod-%d", who);
            snprintf(number, sizeof number, "%d", who);
            if (!getcwd(here, sizeof here) || chdir(here))
                exit(4);
            execlp("clusteros-rsh", "clusteros-rsh", place, "cd", here, "&&", argv[0], argv[1], argv[2], number, (char *)NULL);
            execl("/opt/clusteros/bin/clusteros-rsh", "clusteros-rsh", place, "cd", here, "&&", argv[0], argv[1], argv[2], number, (char *)NULL);
            exit(4);
        }
}

static void report(long round)
{
    FILE *f = fopen("progress.txt", "w");
    if (!f || fprintf(f, "%ld\n", round) < 0 || fclose(f))
        die("progress.txt could not be written", round, 0);
}

int main(int argc, char **argv)
{
    if (argc < 3)
        die("usage: ring ROUNDS PODS [RANK]", argc, 0);
    long rounds = strtol(argv[1], NULL, 10);
    pods = (int)strtol(argv[2], NULL, 10), rank = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 0;
    state = calloc(PAYLOAD, 1);
    int door = listener();
    if (rank == 0)
        start_others(argv);
    int next = connect_to((rank + 1) % pods), last = accept(door, NULL, NULL);
    static uint64_t message[MESSAGE / 8];
    uint64_t token = 1;
    for (long round = 0; round < rounds; round++) {
        if (rank != 0 || round > 0) {
            take(last, message, sizeof message);
            if (message[0] != (uint64_t)(rank ? round : round - 1) || message[MESSAGE / 8 - 1] != ~message[1])
                die("token lost, doubled or changed", (long)message[0], round);
            token = message[1];
        }
        token = mix(token);
        message[0] = (uint64_t)round, message[1] = token, message[MESSAGE / 8 - 1] = ~token;
        put(next, message, sizeof message);
        if (rank == 0) {
            report(round);
            struct timespec pause = {.tv_nsec = 10000000};
            nanosleep(&pause, NULL);
        }
    }
    if (rank == 0) {
        take(last, message, sizeof message);
        printf("ring: done %ld %016lx\n", rounds, message[1]);
        fflush(stdout);
        while (wait(NULL) > 0)
            ;
    }
    return 0;
}
