/* Images that lie: true images of processes with many kinds of descriptors, with bytes changed at random, are loaded in a sandbox (own
 * mounts, root directory, network). Whatever they say, loading ends, by success or by an error with words, and never by a signal. */
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#include "files_harness.h"

#define ROUNDS 150
#define CHANGES_MAX 4
#define LOAD_TIMEOUT_S 20

static void setup(void)
{
    int p[2], fd;
    struct epoll_event event = {.events = EPOLLIN};
    struct itimerspec often = {.it_value = {.tv_nsec = 1000000}, .it_interval = {.tv_nsec = 1000000}};
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "/tmp/hostile.sock"}, abstract = {.sun_family = AF_UNIX, .sun_path = "\0hostile"};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(7200), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct flock lock = {.l_type = F_WRLCK, .l_len = 5};
    unlink(name.sun_path);
    MUST(pipe(p) == 0 && write(p[1], "pipe", 4) == 4 && pipe2(p, O_DIRECT) == 0 && write(p[1], "packet", 6) == 6);
    MUST((fd = open("/tmp/hostile-file", O_RDWR | O_CREAT, 0600)) >= 0 && write(fd, "data", 4) == 4 && fcntl(fd, F_SETLK, &lock) == 0);
    MUST((fd = open("/tmp/hostile-gone", O_RDWR | O_CREAT, 0600)) >= 0 && write(fd, "data", 4) == 4 && unlink("/tmp/hostile-gone") == 0);
    MUST(memfd_create("hostile", 0) >= 0 && eventfd(3, 0) >= 0 && inotify_init1(0) >= 0);
    MUST((fd = timerfd_create(CLOCK_MONOTONIC, 0)) >= 0 && timerfd_settime(fd, 0, &often, NULL) == 0);
    int set = epoll_create1(0);
    MUST(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0 && socketpair(AF_UNIX, SOCK_DGRAM, 0, p) == 0 && send(p[0], "d", 1, 0) == 1);
    give(p[0], fd);
    int l = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
    MUST(bind(l, (void *)&name, sizeof name) == 0 && listen(l, 3) == 0 && connect(c, (void *)&name, sizeof name) == 0 && accept(l, NULL, NULL) >= 0);
    MUST(bind(socket(AF_UNIX, SOCK_DGRAM, 0), (void *)&abstract, sizeof abstract) == 0);
    int tl = socket(AF_INET, SOCK_STREAM, 0), tc = socket(AF_INET, SOCK_STREAM, 0), u = socket(AF_INET, SOCK_DGRAM, 0);
    MUST(bind(tl, (void *)&in, sizeof in) == 0 && listen(tl, 3) == 0 && connect(tc, (void *)&in, sizeof in) == 0 && accept(tl, NULL, NULL) >= 0);
    MUST(send(tc, "tcp", 3, 0) == 3 && bind(u, (void *)&in, sizeof in) == 0 && sendto(u, "udp", 3, 0, (void *)&in, sizeof in) == 3);
    MUST(socket(AF_NETLINK, SOCK_RAW, 0) >= 0 && open("/proc/meminfo", O_RDONLY) >= 0);
}

static bool verify(int which)
{
    (void)which;
    return true;
}

/* A root directory of its own: what a lying image opens, makes and removes is nobody's. */
static void sandbox_enter(void)
{
    MUST(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    MUST(mount("sandbox", pod_dir, "tmpfs", 0, "size=64m") == 0 && chdir(pod_dir) == 0);
    MUST(mkdir("tmp", 0777) == 0 && mkdir("dev", 0755) == 0 && mkdir("proc", 0755) == 0 && mount("proc", "proc", "proc", 0, NULL) == 0);
    MUST(mknod("dev/null", S_IFCHR | 0666, makedev(1, 3)) == 0 && chroot(".") == 0 && chdir("/") == 0);
    int fd = open("/tmp/hostile-file", O_RDWR | O_CREAT, 0600);
    MUST(fd >= 0 && write(fd, "data", 4) == 4 && close(fd) == 0);
}

static void image_try(const struct image *image)
{
    static const struct test_case c = {"hostile", setup, verify, NULL};
    int null = open("/dev/null", O_RDWR);
    alarm(LOAD_TIMEOUT_S);
    sandbox_enter();
    dup2(null, 2);
    sh->extras = (int)(image->tasks_count ? image->tasks_count - 1 : 0);
    if (sh->extras >= EXTRA_MAX || !image->tasks_count)
        _exit(1);
    _exit(load_and_run(&c, image) ? 1 : 0);
}

static void bytes_change(struct buf *b)
{
    size_t changes = 1 + (size_t)(random_next() % CHANGES_MAX);
    for (size_t i = 0; i < changes; i++) {
        uint8_t *at = &b->data[random_next() % b->len];
        unsigned flipped = *at ^ 1u << random_next() % 8;
        *at = (uint8_t)(random_next() % 2 ? flipped : random_next());
    }
}

/* How it ended: 0 loaded, 1 refused, 2 not an image at all, -1 by a signal. */
static int round_run(const struct buf *true_bytes, bool lying)
{
    AUTO_BUF struct buf lie = {0};
    struct image image = {0};
    struct err e;
    int status = 0;
    buf_add(&lie, true_bytes->data, true_bytes->len);
    if (lying)
        bytes_change(&lie);
    struct cursor cursor = {lie.data, lie.data + lie.len};
    if (image_decode(&cursor, &image, &e) < 0 || image_check(&image, &e) < 0) {
        image_free(&image);
        return 2;
    }
    sh->why[0] = 0;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        image_try(&image);
    waitpid(pid, &status, 0);
    image_free(&image);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int main(void)
{
    static const struct test_case c = {"many kinds", setup, verify, NULL};
    struct image image = {0};
    struct err e = {0};
    AUTO_BUF struct buf bytes = {0};
    int ends[4] = {0}, bad = 0;
    if (!harness_begin())
        return done_testing();
    seed_begin();
    pid_t pid = victim_start(&c);
    int saved = save(pid, &image, &e);
    all_kill(pid);
    ok(saved == 0, "a true image%s%s", saved ? ": " : "", saved ? e.message : "");
    image_encode(&bytes, &image);
    image_free(&image);
    ok(round_run(&bytes, false) == 0, "the true image loads in the sandbox%s%s", sh->why[0] ? ": " : "", sh->why);
    for (int i = 0; i < ROUNDS && saved == 0; i++) {
        int end = round_run(&bytes, true);
        bad += end < 0 || end > 2;
        ends[end < 0 || end > 2 ? 3 : end]++;
    }
    ok(bad == 0, "%d lying images: %d loaded, %d refused with words, %d not taken for images, %d ended otherwise", ROUNDS, ends[0], ends[1],
       ends[2], ends[3]);
    ok(ends[0] > 0 && ends[1] > 0, "some loaded all the same, some were refused by the loaders");
    harness_end();
    return done_testing();
}
