/* podinit's thread: the loop, the events, the pages. See pager.h. Pages are put (UFFDIO_COPY) only when no event waits: the kernel says EAGAIN
 * otherwise. So a list is right whenever it is used. */
#include "pager.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "missing.h"
#include "pager_parts.h"

#define EVENTS_AT_ONCE 16
#define FIRST_NICE (-20)
#define IDLE_MS 1000
#define HELD_UP_MS 1
#define NO_ROOM_MS 20

/* ---- spaces */
static struct space *space_add(struct paging *p, int fd, size_t model)
{
    p->spaces = xrealloc(p->spaces, p->space_count + 1, sizeof *p->spaces);
    struct space *s = &p->spaces[p->space_count++];
    *s = (struct space){.fd = fd, .model = model};
    return s;
}

static void space_free(struct space *s)
{
    close(s->fd); /* its mappings are plain ones again; whoever waits goes on */
    missing_free(&s->missing);
    free(s->fresh);
}

static void spaces_drop(struct paging *p)
{
    size_t kept = 0;
    for (size_t k = 0; k < p->space_count; k++) {
        struct space *s = &p->spaces[k];
        if (s->missing.count && !s->gone)
            p->spaces[kept++] = *s;
        else
            space_free(s);
    }
    p->space_count = kept;
}

/* ---- events: the process waits until they are read, and goes on at once */
static void fork_follow(struct paging *p, size_t parent, int fd)
{
    struct space *child = space_add(p, fd, p->spaces[parent].model);
    missing_copy(&p->spaces[parent].missing, &child->missing);
}

static void fresh_note(struct space *s, uint64_t page)
{
    for (size_t k = 0; k < s->fresh_count; k++)
        if (s->fresh[k] == page)
            return;
    s->fresh = xrealloc(s->fresh, s->fresh_count + 1, sizeof *s->fresh);
    s->fresh[s->fresh_count++] = page;
}

static void fault_note(struct paging *p, struct space *s, uint64_t address)
{
    uint64_t page = address & ~(PAGE_BYTES - 1);
    const struct missing_range *r = missing_from(&s->missing, page);
    if (r && r->start <= page)
        pieces_want(p, s->model, r->source + (page - r->start));
    else
        fresh_note(s, page);
}

static void event_take(struct paging *p, size_t index, const struct uffd_msg *m)
{
    struct space *s = &p->spaces[index];
    switch (m->event) {
    case UFFD_EVENT_PAGEFAULT:
        fault_note(p, s, m->arg.pagefault.address);
        break;
    case UFFD_EVENT_FORK:
        fork_follow(p, index, (int)m->arg.fork.ufd);
        break;
    case UFFD_EVENT_REMAP:
        missing_move(&s->missing, m->arg.remap.from, m->arg.remap.to, m->arg.remap.len);
        break;
    case UFFD_EVENT_REMOVE:
    case UFFD_EVENT_UNMAP:
        missing_cut(&s->missing, m->arg.remove.start, m->arg.remove.end);
        break;
    default:
        CHECK(!"an event of the memory that was not asked for");
    }
}

/* Faults are told before other events, whatever came first: they are only noted here, and looked at by the list as it is at the end. */
static void events_read(struct paging *p, size_t index)
{
    struct uffd_msg messages[EVENTS_AT_ONCE];
    for (;;) {
        ssize_t n = read(p->spaces[index].fd, messages, sizeof messages);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN) /* no descriptor or no memory for a child's: its parent waits, and this is told again at once */
            poll(NULL, 0, NO_ROOM_MS);
        if (n <= 0)
            return;
        for (size_t k = 0; k < (size_t)n / sizeof messages[0]; k++)
            event_take(p, index, &messages[k]);
    }
}

/* ---- pages */
enum put { PUT_DONE, PUT_HELD_UP };

static void held_up(struct paging *p, int ms)
{
    if (p->timeout_ms > ms)
        p->timeout_ms = ms;
}

static void stuck_note(struct paging *p, int failed)
{
    p->stuck = true;
    snprintf(p->why, sizeof p->why, "pages cannot be put: %s", strerror(failed));
}

static void wake(const struct space *s, uint64_t start, uint64_t len)
{
    struct uffdio_range r = {start, len};
    (void)ioctl(s->fd, UFFDIO_WAKE, &r);
}

/* How far one call got; 0: not at all, and *failed says why. */
static uint64_t pages_copy(const struct space *s, uint64_t at, uint64_t len, const uint8_t *data, int *failed)
{
    struct uffdio_copy c = {.dst = at, .src = (uint64_t)(uintptr_t)data, .len = len};
    *failed = ioctl(s->fd, UFFDIO_COPY, &c) < 0 ? errno : 0;
    if (!*failed)
        return len;
    return c.copy > 0 ? (uint64_t)c.copy : 0;
}

/* ENOENT is said of what lies in two mappings, too: what a page alone gets is true of that page. */
static uint64_t page_copy(struct space *s, uint64_t at, const uint8_t *data, int *failed)
{
    uint64_t done = pages_copy(s, at, PAGE_BYTES, data, failed);
    if (!done && *failed == EEXIST)
        wake(s, at, PAGE_BYTES);
    return *failed == EEXIST || *failed == ENOENT ? PAGE_BYTES : done;
}

/* [start, end) of the list is put, or needs not be: the mapping is gone, or the process. */
static enum put range_put(struct paging *p, struct space *s, struct missing_range r, const uint8_t *data)
{
    while (r.start < r.end) {
        int failed;
        uint64_t done = pages_copy(s, r.start, r.end - r.start, data, &failed);
        if (!done && (failed == ENOENT || failed == EEXIST))
            done = page_copy(s, r.start, data, &failed);
        s->gone = s->gone || failed == ESRCH;
        if (s->gone)
            return PUT_DONE;
        missing_cut(&s->missing, r.start, r.start + done);
        r.start += done;
        data += done;
        if (!done) {
            held_up(p, failed == EAGAIN ? HELD_UP_MS : NO_ROOM_MS); /* an event waits; or there is no memory just now */
            if (failed != EAGAIN)
                stuck_note(p, failed);
            return PUT_HELD_UP;
        }
    }
    return PUT_DONE;
}

bool piece_put(struct paging *p, size_t model, const struct pager_piece *piece, const uint8_t *data)
{
    struct missing_range r;
    bool all = true;
    for (size_t k = 0; k < p->space_count; k++) {
        struct space *s = &p->spaces[k];
        while (s->model == model && !s->gone && missing_of(&s->missing, piece->at, piece->len, &r))
            if (range_put(p, s, r, data + (r.source - piece->at)) == PUT_HELD_UP) {
                all = false;
                break;
            }
    }
    return all;
}

/* Pages of which nothing is in the image, or no longer. By now the list may say otherwise: the event that moved it there came behind the fault. */
static void fresh_put(struct paging *p, struct space *s)
{
    size_t kept = 0;
    for (size_t k = 0; k < s->fresh_count && !s->gone; k++) {
        uint64_t page = s->fresh[k];
        const struct missing_range *r = missing_from(&s->missing, page);
        struct uffdio_zeropage z = {.range = {page, PAGE_BYTES}};
        if (r && r->start <= page) {
            pieces_want(p, s->model, r->source + (page - r->start));
            continue;
        }
        int failed = ioctl(s->fd, UFFDIO_ZEROPAGE, &z) < 0 ? errno : 0;
        if (failed == EAGAIN || failed == ENOMEM) {
            s->fresh[kept++] = page;
            held_up(p, failed == EAGAIN ? HELD_UP_MS : NO_ROOM_MS);
        } else if (failed) {
            s->gone = failed == ESRCH;
            wake(s, page, PAGE_BYTES); /* it looks again: the page is there, or the mapping gone */
        }
    }
    s->fresh_count = kept;
}

/* ---- the loop */
static void watches_fill(struct paging *p)
{
    p->watched = xrealloc(p->watched, p->space_count + 2, sizeof *p->watched);
    p->watched[0] = (struct pollfd){.fd = p->listening, .events = POLLIN};
    p->watched[1] = (struct pollfd){.fd = p->filler, .events = POLLIN};
    for (size_t k = 0; k < p->space_count; k++)
        p->watched[k + 2] = (struct pollfd){.fd = p->spaces[k].fd, .events = POLLIN};
}

static void turn(struct paging *p)
{
    watches_fill(p);
    size_t count = p->space_count;
    if (poll(p->watched, count + 2, p->timeout_ms) < 0)
        return;
    p->timeout_ms = IDLE_MS;
    p->stuck = false;
    for (size_t k = 0; k < count; k++)
        if (p->watched[k + 2].revents)
            events_read(p, k);
    for (size_t k = count; k < p->space_count; k++) /* children born meanwhile */
        events_read(p, k);
    for (size_t k = 0; k < p->space_count; k++)
        fresh_put(p, &p->spaces[k]);
    if (p->watched[1].revents)
        filler_hear(p);
    if (p->watched[0].revents)
        client_accept(p);
    slots_put(p);
    slots_ask(p);
    spaces_drop(p);
}

static void paging_end(struct paging *p)
{
    filler_drop(p);
    unlinkat(p->dirfd, PAGER_SOCKET, 0); /* first: whoever finds the socket still gets an answer */
    close(p->listening);
    close(p->queue);
    for (size_t k = 0; k < p->pager->models_count; k++)
        free(p->wishes[k]);
    free(p->wishes);
    free(p->spaces);
    free(p->urgent);
    free(p->watched);
    free(p);
}

/* Among the pod's own: a program that keeps a processor busy would else keep it from its memory half of the time. What is not allowed is left. */
static void go_first(void)
{
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), FIRST_NICE);
}

static void *paging_main(void *opaque)
{
    struct paging *p = opaque;
    go_first();
    p->timeout_ms = 0;
    patience_begin(p);
    while (p->space_count) {
        turn(p);
        patience_check(p);
    }
    paging_end(p);
    return NULL;
}

/* ---- the beginning */
int pager_listen(struct pager *p, int dirfd, struct err *e)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = PAGER_SOCKET};
    if (fchdir(dirfd) < 0)
        return err_errno(e, "enter the pod's directory");
    p->listening = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(PAGER_SOCKET);
    mode_t mask = umask(0177);
    bool made = p->listening >= 0 && bind(p->listening, (struct sockaddr *)&name, sizeof name) == 0 && listen(p->listening, 64) == 0;
    int failed = errno;
    umask(mask);
    errno = failed;
    if (!made)
        return err_errno(e, "make " PAGER_SOCKET);
    return chdir("/") < 0 ? err_errno(e, "chdir /") : 0;
}

static void space_take(struct paging *p, uint32_t model, int fd)
{
    struct space *s = space_add(p, fd, model);
    const struct pager_model *m = &p->pager->models[model];
    for (size_t k = 0; k < m->pieces_count; k++)
        missing_add(&s->missing, m->pieces[k].at, m->pieces[k].at + m->pieces[k].len, m->pieces[k].at);
    p->total_bytes += missing_bytes(&s->missing);
}

static struct paging *paging_make(struct pager *pager, int dirfd)
{
    struct paging *p = xcalloc(1, sizeof *p);
    *p = (struct paging){.pager = pager, .dirfd = dirfd, .listening = pager->listening, .queue = pager->queue[0], .filler = -1};
    p->wishes = xcalloc(pager->models_count + 1, sizeof *p->wishes);
    for (size_t k = 0; k < pager->models_count; k++)
        p->wishes[k] = xcalloc(pager->models[k].pieces_count + 1, 1);
    queue_take(p, space_take);
    return p;
}

static void descriptors_allow(void)
{
    struct rlimit most;
    if (getrlimit(RLIMIT_NOFILE, &most) < 0)
        return;
    most.rlim_cur = most.rlim_max;
    setrlimit(RLIMIT_NOFILE, &most);
}

int pager_start(struct pager *pager, int dirfd, struct err *e)
{
    pthread_t thread;
    sigset_t all, before;
    struct paging *p = paging_make(pager, dirfd);
    if (!p->space_count) {
        paging_end(p);
        return 0;
    }
    descriptors_allow();
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread, NULL, paging_main, p);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = failed;
    if (failed)
        return err_errno(e, "begin the thread that brings memory");
    pthread_detach(thread);
    return 0;
}
