/* Tests of the descriptors alone, without stopping a whole pod: a case sets its descriptors up in a child (and children of that), which
 * stops itself; files_save looks at it; then either the child runs on and verifies, or it is killed, the image is encoded and
 * decoded, files_load_* make the descriptors in fresh processes and a fresh network namespace, and those verify. */
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../restore/files_load.h"
#include "../restore/restore.h"
#include "../snapshot/files_undo.h"
#include "../snapshot/snapshot.h"
#include "tap.h"

#define EXTRA_MAX 4

struct shared {              /* survives from set-up to verification */
    pid_t pids[EXTRA_MAX];
    int extras;
    int arrived;             /* of the restored processes */
    char why[ERR_MESSAGE_MAX];
    uint64_t numbers[64];
    char bytes[4 << 20];
};
static struct shared *sh;

struct test_case {
    const char *name;
    void (*setup)(void);             /* in the first process; may call extra_start */
    bool (*verify)(int which);       /* in process `which` (0: the first) */
    const char *refused;             /* words that files_save must refuse with, or NULL */
};

#define NEED(x) ((x) ? true : (snprintf(sh->why, sizeof sh->why, "line %d: %s (errno %d)", __LINE__, #x, errno), false))
#define MUST(x) do { if (!(x)) { fprintf(stderr, "# set-up line %d: %s: %s\n", __LINE__, #x, strerror(errno)); _exit(99); } } while (0)

static const struct test_case *now_running;

/* Another process with a copy of the descriptors; which counts from 1. */
static inline void extra_start(void (*also)(void))
{
    int which = sh->extras + 1;
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid) {
        sh->pids[sh->extras++] = pid;
        return;
    }
    if (also)
        also();
    raise(SIGSTOP);
    _exit(now_running->verify(which) ? 0 : 1);
}

/* A descriptor on its way. */
static inline void give(int to, int fd)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.head = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    struct iovec part = {(char[]){"x"}, 1};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
    MUST(sendmsg(to, &m, 0) == 1);
}

static inline void loopback_up(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    MUST(unshare(CLONE_NEWNET) == 0);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    MUST(fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &request) == 0);
    /* 192.0.2.0/24 leads nowhere, without an answer */
    struct rtentry route = {.rt_dev = (char[]){"lo"}, .rt_flags = RTF_UP};
    struct sockaddr_in network = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0xc0000200)}, mask = network;
    mask.sin_addr.s_addr = htonl(0xffffff00);
    memcpy(&route.rt_dst, &network, sizeof network);
    memcpy(&route.rt_genmask, &mask, sizeof mask);
    MUST(ioctl(fd, SIOCADDRT, &route) == 0);
    close(fd);
}

static inline pid_t victim_start(const struct test_case *c)
{
    memset(sh, 0, sizeof *sh);
    fflush(stdout);
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0) {
        loopback_up();
        MUST(close_range(3, ~0u, 0) == 0);
        int null = open("/dev/null", O_RDWR);
        MUST(null >= 0 && dup2(null, 0) == 0 && dup2(null, 1) == 1 && dup2(null, 2) == 2 && close(null) == 0);
        c->setup();
        raise(SIGSTOP);
        _exit(c->verify(0) ? 0 : 1);
    }
    int status;
    MUST(waitpid(pid, &status, WUNTRACED) == pid);
    if (!WIFSTOPPED(status))
        fprintf(stderr, "# %s: set-up ended with %x\n", c->name, (unsigned)status);
    for (int i = 0; i < sh->extras; i++)
        for (char state = 0; state != 'T';) {
            char path[64], text[256] = "";
            snprintf(path, sizeof path, "/proc/%d/stat", sh->pids[i]);
            FILE *f = fopen(path, "r");
            MUST(f && fgets(text, sizeof text, f));
            fclose(f);
            state = strrchr(text, ')')[2];
            usleep(1000);
        }
    return WIFSTOPPED(status) ? pid : -1;
}

static char pod_dir[] = "/tmp/unit-files-XXXXXX";
static struct store *store;

static inline struct pod pod_of(pid_t pid)
{
    struct pod pod = {.init_pid = pid, .dirfd = open(pod_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    snprintf(pod.dir, sizeof pod.dir, "%s", pod_dir);
    for (size_t i = 0; i < ARRAY_LENGTH(pod.tree_fds); i++)
        pod.tree_fds[i] = -1;
    return pod;
}

static inline int save(pid_t pid, struct image *out, struct err *e)
{
    struct pod pod = pod_of(pid);
    struct victim victims[1 + EXTRA_MAX] = {0};
    struct snapshot s = {.pod = &pod, .store = store, .victims = victims};
    for (int i = 0; i <= sh->extras; i++) {
        struct task *t = LIST_ADD(&s.image, tasks);
        victims[i].pid = victims[i].inner_pid = i ? sh->pids[i - 1] : pid;
        victims[i].pidfd = (int)syscall(SYS_pidfd_open, victims[i].pid, 0);
        t->pid = (uint64_t)victims[i].pid;
        t->state = TASK_RUNNING;
        s.victim_count++;
    }
    unlinkat(pod.dirfd, "journal", 0);
    int result = journal_begin(&pod, "test", e);
    result = result == 0 ? files_save(&s, e) : result;
    for (int i = 0; i <= sh->extras; i++)
        close(victims[i].pidfd);
    close(pod.dirfd);
    *out = s.image;
    return result;
}

static inline void all_kill(pid_t pid)
{
    for (int i = 0; i < sh->extras; i++)
        kill(sh->pids[i], SIGKILL);
    kill(pid, SIGKILL);
    for (int status; waitpid(-1, &status, 0) > 0;)
        ;
}

/* ---- round one: it runs on as if nothing had been */
static inline void run_on(const struct test_case *c, pid_t pid)
{
    int status = -1, bad = 0;
    for (int i = 0; i < sh->extras; i++)
        kill(sh->pids[i], SIGCONT);
    kill(pid, SIGCONT);
    for (int got; (got = waitpid(-1, &status, 0)) > 0;)
        bad |= status;
    ok(bad == 0, "%s: runs on after the snapshot%s%s", c->name, bad ? ": " : "", bad ? sh->why : "");
}

/* ---- round two: killed and made anew */
static inline void arrive_and_wait(int count)
{
    __atomic_add_fetch(&sh->arrived, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 5000 && __atomic_load_n(&sh->arrived, __ATOMIC_SEQ_CST) < count; i++)
        usleep(1000);
}

static inline void task_run(const struct test_case *c, struct restore *r, int which, int keep)
{
    struct err e;
    const struct task *task = &r->image->tasks[which];
    if (files_load_task(r, task, &keep, 1, &e) < 0) {
        snprintf(sh->why, sizeof sh->why, "%s", e.message);
        _exit(2);
    }
    arrive_and_wait(sh->extras + 1);
    if (files_load_epolls(r, task, &e) < 0) {
        snprintf(sh->why, sizeof sh->why, "%s", e.message);
        _exit(3);
    }
    arrive_and_wait(2 * (sh->extras + 1) + 1);
    _exit(c->verify(which) ? 0 : 1);
}

static inline int load_and_run(const struct test_case *c, const struct image *image)
{
    struct err e;
    struct pod pod = pod_of(getpid());
    struct restore r = {.pod = &pod, .store = store, .image = image, .stdout_fd = -1, .stderr_fd = -1};
    loopback_up();
    sh->arrived = 0;
    if (files_load_shared(&r, &e) < 0) {
        snprintf(sh->why, sizeof sh->why, "%s", e.message);
        return 1;
    }
    int keep = fcntl(2, F_DUPFD_CLOEXEC, RESTORE_FD_BASE + 5000);
    for (int i = 0; i <= sh->extras; i++)
        if (fork() == 0)
            task_run(c, &r, i, keep);
    while (__atomic_load_n(&sh->arrived, __ATOMIC_SEQ_CST) < 2 * (sh->extras + 1) && !sh->why[0])
        usleep(1000);
    if (!sh->why[0] && files_load_finish(&r, &e) < 0)
        snprintf(sh->why, sizeof sh->why, "%s", e.message);
    if (!sh->why[0] && netlock_clear(&pod, &e) < 0)
        snprintf(sh->why, sizeof sh->why, "%s", e.message);
    close_range(3, ~0u, 0);
    __atomic_add_fetch(&sh->arrived, 1, __ATOMIC_SEQ_CST);
    int status, bad = 0;
    while (wait(&status) > 0)
        bad |= status;
    return bad || sh->why[0];
}

static inline void made_anew(const struct test_case *c, const struct image *image)
{
    AUTO_BUF struct buf encoded = {0};
    struct image decoded = {0};
    struct err e;
    image_encode(&encoded, image);
    struct cursor cursor = {encoded.data, encoded.data + encoded.len};
    if (!ok(image_decode(&cursor, &decoded, &e) == 0, "%s: the image can be decoded", c->name))
        return;
    sh->why[0] = 0;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        _exit(load_and_run(c, &decoded));
    int status = -1;
    waitpid(pid, &status, 0);
    ok(status == 0, "%s: is the same after a restore%s%s", c->name, status ? ": " : "", status ? sh->why : "");
    image_free(&decoded);
}

static inline void case_run(const struct test_case *c)
{
    now_running = c;
    for (int round = 0; round < 2; round++) {
        struct image image = {0};
        struct err e = {0};
        pid_t pid = victim_start(c);
        if (!ok(pid > 0, "%s: is set up", c->name))
            return;
        int result = save(pid, &image, &e);
        if (c->refused) {
            ok(result < 0 && strstr(e.message, c->refused), "%s: is refused with \"%s\"%s%s", c->name, c->refused,
               result < 0 ? ": " : "", result < 0 ? e.message : ", but was taken");
            all_kill(pid);
            image_free(&image);
            return;
        }
        if (!ok(result == 0, "%s: is saved%s%s", c->name, result ? ": " : "", result ? e.message : "")) {
            all_kill(pid);
        } else if (round == 0)
            run_on(c, pid);
        else {
            all_kill(pid);
            made_anew(c, &image);
        }
        image_free(&image);
    }
}

static inline bool harness_begin(void)
{
    struct err e;
    char store_dir[64];
    sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(sh != MAP_FAILED && mkdtemp(pod_dir));
    snprintf(store_dir, sizeof store_dir, "%s/store", pod_dir);
    return store_open(store_dir, true, &store, &e) == 0 || ok(false, "a store: %s", e.message);
}

static inline void harness_end(void)
{
    store_close(store);
    AUTO_FREE char *command = xasprintf("rm -rf %s", pod_dir);
    ok(system(command) == 0, "the test's directory is gone again");
}

static inline int cases_run(const struct test_case *cases, size_t count)
{
    const char *only = getenv("ONLY");
    if (!harness_begin())
        return done_testing();
    for (size_t i = 0; i < count; i++)
        if (!only || strstr(cases[i].name, only))
            case_run(&cases[i]);
    harness_end();
    return done_testing();
}
