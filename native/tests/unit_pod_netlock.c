/* The network lock: two pods and the hub send each other datagrams all the time; while one pod is locked nothing reaches it or leaves it, nor
 * goes over its loopback; the others talk on, no link goes down, and afterwards all is as before. Needs root. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "../kernel/netlink.h"
#include "../pod/pod.h"
#include "../verbs/verbs.h"
#include "tap.h"

#define PORT 4000
#define TALKS 5
#define TURNS 10
#define PATIENCE_MS 20000

enum talk { A_TO_B, A_TO_HUB, A_LOOPBACK, B_TO_HUB, HUB_TO_A };
static struct shared {
    volatile uint64_t answers[TALKS], turns[TALKS];
    volatile int carrier_lost;
} *shared;

static void echo_forever(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(PORT)}, from;
    if (bind(fd, (struct sockaddr *)&here, sizeof here) < 0)
        _exit(1);
    for (char data[64];;) {
        socklen_t len = sizeof from;
        ssize_t n = recvfrom(fd, data, sizeof data, 0, (struct sockaddr *)&from, &len);
        if (n > 0 && sendto(fd, data, (size_t)n, 0, (struct sockaddr *)&from, len) < 0)
            continue; /* locked */
    }
}

/* Ask every few milliseconds, and count what comes back; send errors (EPERM under the lock) are part of the trial. */
static void ask_forever(const char *address, enum talk talk)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    inet_pton(AF_INET, address, &to.sin_addr);
    for (uint64_t number = 1;; number++) {
        uint64_t answer = 0;
        if (sendto(fd, &number, sizeof number, 0, (struct sockaddr *)&to, sizeof to) < 0)
            poll(NULL, 0, 1);
        struct pollfd watched = {.fd = fd, .events = POLLIN};
        while (answer != number && poll(&watched, 1, 20) > 0)
            if (recv(fd, &answer, sizeof answer, 0) < 0)
                break;
        shared->answers[talk] += answer == number; /* a late answer to an earlier question does not count */
        shared->turns[talk]++;
        poll(NULL, 0, 3);
    }
}

static pid_t child(void (*ask)(const char *, enum talk), const char *address, enum talk talk)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (ask)
            ask(address, talk);
        echo_forever();
    }
    return pid;
}

static void carrier_watch(const char *unused, enum talk none)
{
    (void)unused, (void)none;
    for (;; poll(NULL, 0, 5)) {
        struct err ignored;
        AUTO_BUF struct buf text = {0};
        if (io_slurp(AT_FDCWD, "/sys/class/net/eth0/carrier", &text, 64, &ignored) < 0 || text.data[0] != '1')
            shared->carrier_lost = 1;
    }
}

static int in_pod(struct pod *pod, void *ctx, int channel, struct err *e)
{
    (void)channel, (void)e;
    pod->facts.command_pid = (uint64_t)child(NULL, NULL, 0);
    if (strcmp(ctx, "a") == 0) {
        child(ask_forever, "10.77.0.2", A_TO_B);
        child(ask_forever, "10.77.255.254", A_TO_HUB);
        child(ask_forever, "127.0.0.1", A_LOOPBACK);
        child(carrier_watch, NULL, 0);
    } else {
        child(ask_forever, "10.77.255.254", B_TO_HUB);
    }
    return 0;
}

/* ---- the hub: this process's own network namespace with a bridge */

static void up_and_address(int rtnl, const char *name, const char *address)
{
    struct err e = {0};
    int number;
    AUTO_BUF struct buf b = {0};
    struct ifinfomsg link = {.ifi_index = (int)if_nametoindex(name), .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    netlink_end(&b, netlink_begin(&b, RTM_NEWLINK, NLM_F_ACK, &link, sizeof link));
    struct ifaddrmsg m = {.ifa_family = AF_INET, .ifa_prefixlen = 16, .ifa_index = (uint32_t)link.ifi_index};
    struct in_addr in;
    inet_pton(AF_INET, address, &in);
    size_t at = netlink_begin(&b, RTM_NEWADDR, NLM_F_CREATE | NLM_F_ACK, &m, sizeof m);
    netlink_put(&b, IFA_LOCAL, &in, sizeof in);
    netlink_end(&b, at);
    if (netlink_send(rtnl, &b, &number, &e) < 0)
        printf("# %s: %s\n", name, e.message);
}

static void hub_make(void)
{
    struct err e = {0};
    int number;
    CHECK(unshare(CLONE_NEWNET) == 0);
    AUTO_CLOSE int rtnl = netlink_open(-1, NETLINK_ROUTE, &e);
    AUTO_BUF struct buf b = {0};
    struct ifinfomsg link = {0};
    size_t at = netlink_begin(&b, RTM_NEWLINK, NLM_F_CREATE | NLM_F_ACK, &link, sizeof link);
    netlink_put_str(&b, IFLA_IFNAME, "br0");
    size_t info = netlink_nest(&b, IFLA_LINKINFO);
    netlink_put_str(&b, IFLA_INFO_KIND, "bridge");
    netlink_nest_end(&b, info);
    netlink_end(&b, at);
    CHECK(netlink_send(rtnl, &b, &number, &e) == 0);
    up_and_address(rtnl, "br0", "10.77.255.254");
}

static bool pod_make(const char *dir, const char *name, const char *ip, bool locked, struct pod *out)
{
    struct err e = {0};
    AUTO_FREE char *net = xasprintf("hub=/proc/%d/ns/net,ip=%s/16", getpid(), ip);
    AUTO_FREE char *path = xasprintf("%s/%s", dir, name);
    const struct pod_spec spec = {.dir = path, .net = net, .network_locked = locked};
    const struct pod_program program = {.in_pod = in_pod};
    if (pod_create(&spec, &program, (void *)(uintptr_t)name, out, &e) == 0)
        return true;
    printf("# %s\n", e.message);
    return false;
}

/* ---- looking */

static void counts_take(uint64_t out[TALKS])
{
    for (int k = 0; k < TALKS; k++)
        out[k] = shared->answers[k];
}

static bool talk_moves(enum talk talk)
{
    uint64_t before = shared->answers[talk];
    for (int waited_ms = 0; waited_ms < PATIENCE_MS && shared->answers[talk] == before; waited_ms += 10)
        poll(NULL, 0, 10);
    return shared->answers[talk] != before;
}

/* Time says nothing on a busy machine: whoever asks has had so many turns. */
static bool turns_wait(enum talk talk, uint64_t turns)
{
    uint64_t before = shared->turns[talk];
    for (int waited_ms = 0; waited_ms < PATIENCE_MS && shared->turns[talk] < before + turns; waited_ms += 5)
        poll(NULL, 0, 5);
    return shared->turns[talk] >= before + turns;
}

static bool locked_talks_stand(void)
{
    static const enum talk locked[] = {A_TO_B, A_TO_HUB, A_LOOPBACK, HUB_TO_A};
    uint64_t before[TALKS], after[TALKS];
    bool stand = true;
    for (size_t k = 0; k < ARRAY_LENGTH(locked); k++)
        stand &= turns_wait(locked[k], 2); /* what had arrived before is counted */
    counts_take(before);
    for (size_t k = 0; k < ARRAY_LENGTH(locked); k++)
        stand &= turns_wait(locked[k], k ? 1 : TURNS);
    counts_take(after);
    for (size_t k = 0; k < ARRAY_LENGTH(locked); k++)
        stand &= before[locked[k]] == after[locked[k]];
    return stand;
}

static bool all_move(void)
{
    bool all = true;
    for (int k = 0; k < TALKS; k++)
        all &= talk_moves((enum talk)k);
    return all;
}

static void lock_trials(struct pod *a)
{
    struct err e = {0};
    ok(locked_talks_stand() && shared->answers[A_LOOPBACK] == 0, "a pod that is made with its network locked hears and says nothing, not even to itself");
    ok(talk_moves(B_TO_HUB), "other pods of the same bridge talk on");
    ok(netlock_clear(a, &e) == 0 && all_move(), "unlocked, every talk goes on %s", e.message);
    for (int round = 0; round < 10; round++) {
        uint64_t began = clock_ns(CLOCK_MONOTONIC);
        bool set = netlock_set(a, &e) == 0;
        uint64_t took_us = (clock_ns(CLOCK_MONOTONIC) - began) / 1000;
        bool twice = netlock_set(a, &e) == 0;
        ok(set && twice && locked_talks_stand() && talk_moves(B_TO_HUB), "round %d: locked in %lu us, twice is no error, nothing passes %s", round, took_us, e.message);
        ok(netlock_clear(a, &e) == 0 && netlock_clear(a, &e) == 0 && all_move(), "round %d: unlocked, twice is no error, everything passes %s", round, e.message);
    }
    ok(!shared->carrier_lost, "the pod never saw its carrier go");
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "adopt") == 0)
        return verb_adopt(argc - 1, argv + 1); /* the keeper executes this program anew */
    struct err e = {0};
    struct pod a, b;
    char dir[] = "/tmp/clusteros-netlock-XXXXXX";
    CHECK(geteuid() == 0 && mkdtemp(dir));
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    hub_make();
    pid_t echo = child(NULL, NULL, 0), asker = child(ask_forever, "10.77.0.1", HUB_TO_A);
    if (ok(pod_make(dir, "b", "10.77.0.2", false, &b), "a pod is made")) {
        if (ok(pod_make(dir, "a", "10.77.0.1", true, &a), "and another one, locked")) {
            lock_trials(&a);
            ok(netlock_set(&a, &e) == 0 && keeper_ask(a.dir, NULL, &e, "kill") == 0, "a locked pod can be ended %s", e.message);
            ok(netlock_forget(&a, &e) == 0, "and its lock at the hub is gone with it %s", e.message);
            pod_close(&a);
        }
        ok(keeper_ask(b.dir, NULL, &e, "kill") == 0, "the other ends too %s", e.message);
        pod_close(&b);
    }
    kill(echo, SIGKILL);
    kill(asker, SIGKILL);
    pid_t cleaner = fork();
    if (cleaner == 0)
        execlp("rm", "rm", "-rf", dir, (char *)NULL);
    waitpid(cleaner, NULL, 0);
    return done_testing();
}
