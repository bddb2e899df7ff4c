/* See filler.h. */
#include "filler.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../pod/pager.h"
#include "../pod/state.h"

#define THREADS_MAX 4
#define NOTE_BYTES_MAX (4 * PATH_BYTES)

struct filler {
    struct pod pod;
    struct image image;
    struct store *store;
    int socket;
    uint8_t *room;
    uint64_t delay_ns; /* for tests */
};

/* ---- one piece, or two: the digests of two are computed together */
static const struct extent *wanted_find(const struct filler *f, const struct pager_ask *ask)
{
    CHECK(ask->slot < PAGER_SLOTS && ask->model < f->image.tasks_count && ask->extent < f->image.tasks[ask->model].mm.extents_count);
    return &f->image.tasks[ask->model].mm.extents[ask->extent];
}

static size_t whole_len(const struct extent *x)
{
    return x->whole ? x->whole : x->len;
}

static uint8_t *slot_of(const struct filler *f, const struct pager_ask *ask)
{
    return f->room + ask->slot * CHUNK_MAX;
}

static int content_put(const struct filler *f, const struct pager_ask *ask, const struct extent *x, const uint8_t *content, struct err *e)
{
    uint8_t *slot = slot_of(f, ask);
    if (x->skip > whole_len(x) || x->len > whole_len(x) - x->skip)
        return err_set(e, E_BAD_IMAGE, "an extent outside of its chunk");
    if (content != slot)
        memcpy(slot, content + x->skip, x->len);
    return 0;
}

/* Where a chunk is read to: the slot itself, when all of it is wanted. podinit takes nothing from there before it is told to. */
static uint8_t *place_of(const struct filler *f, const struct pager_ask *ask, const struct extent *x, uint8_t *aside)
{
    return x->skip == 0 && whole_len(x) == x->len ? slot_of(f, ask) : aside;
}

static void answer(const struct filler *f, const struct pager_ask *ask, const struct err *why)
{
    struct pager_answer a = {.slot = ask->slot, .code = why ? (int32_t)why->code : E_OK};
    if (why)
        snprintf(a.why, sizeof a.why, "%.*s", (int)sizeof a.why - 1, why->message);
    if (send(f->socket, &a, sizeof a, MSG_NOSIGNAL) != (ssize_t)sizeof a)
        return; /* podinit is gone, or listens to another one: the next recv(2) tells */
}

/* Damaged content counts as not there from now on, so that it can be fetched again. */
static void one_bring(const struct filler *f, const struct pager_ask *ask, uint8_t *aside)
{
    struct err why = {0}, other;
    const struct extent *x = wanted_find(f, ask);
    uint8_t *content = place_of(f, ask, x, aside);
    int failed = store_get(f->store, &x->digest, content, whole_len(x), &why) < 0 || content_put(f, ask, x, content, &why) < 0;
    if (failed && (why.code == E_BAD_IMAGE || why.code == E_IO) && store_has(f->store, &x->digest) && store_forget(f->store, &x->digest, &other) < 0)
        fprintf(stderr, "fill: %s\n", other.message);
    answer(f, ask, failed ? &why : NULL);
}

static void two_bring(const struct filler *f, const struct pager_ask asks[2], uint8_t *const asides[2])
{
    struct err ignored;
    const struct extent *x = wanted_find(f, &asks[0]), *y = wanted_find(f, &asks[1]);
    const struct digest *const digests[2] = {&x->digest, &y->digest};
    const size_t lens[2] = {whole_len(x), whole_len(y)};
    uint8_t *const contents[2] = {place_of(f, &asks[0], x, asides[0]), place_of(f, &asks[1], y, asides[1])};
    if (store_get_two(f->store, digests, (void *const *)contents, lens, &ignored) < 0 || content_put(f, &asks[0], x, contents[0], &ignored) < 0 ||
        content_put(f, &asks[1], y, contents[1], &ignored) < 0) {
        for (size_t k = 0; k < 2; k++)
            one_bring(f, &asks[k], asides[k]);
        return;
    }
    for (size_t k = 0; k < 2; k++)
        answer(f, &asks[k], NULL);
}

static void *bring_all(void *opaque)
{
    const struct filler *f = opaque;
    struct pager_ask asks[2];
    uint8_t *asides[2] = {xcalloc(1, CHUNK_MAX), xcalloc(1, CHUNK_MAX)};
    for (;;) {
        ssize_t n = recv(f->socket, &asks[0], sizeof asks[0], 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n != (ssize_t)sizeof asks[0])
            break;
        struct timespec nap = {(time_t)(f->delay_ns / 1000000000), (long)(f->delay_ns % 1000000000)};
        if (f->delay_ns)
            nanosleep(&nap, NULL);
        if (recv(f->socket, &asks[1], sizeof asks[1], MSG_DONTWAIT) == (ssize_t)sizeof asks[1])
            two_bring(f, asks, asides);
        else
            one_bring(f, &asks[0], asides[0]);
    }
    free(asides[0]);
    free(asides[1]);
    return NULL;
}

/* ---- the beginning */
static int note_read(struct filler *f, struct err *e)
{
    char *save = NULL;
    struct digest wanted, found;
    AUTO_BUF struct buf text = {0};
    if (io_slurp(f->pod.dirfd, "filling", &text, NOTE_BYTES_MAX, e) < 0)
        return -1;
    const char *hex = strtok_r((char *)text.data, "\n", &save), *image = strtok_r(NULL, "\n", &save), *store = strtok_r(NULL, "\n", &save);
    if (!hex || !image || !store)
        return err_set(e, E_PROTOCOL, "POD/filling is not what a restore writes");
    if (digest_parse(hex, &wanted, e) < 0 || image_read(image, &f->image, &found, e) < 0)
        return -1;
    if (memcmp(&wanted, &found, sizeof wanted))
        return err_set(e, E_BAD_IMAGE, "%s holds another image now", image);
    return store_open(store, false, &f->store, e);
}

static int room_take(struct filler *f, struct err *e)
{
    char word, control[CMSG_SPACE(sizeof(int))];
    struct iovec words = {&word, 1};
    struct msghdr m = {.msg_iov = &words, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (send(f->socket, (char[]){PAGER_FILLER}, 1, MSG_NOSIGNAL) != 1 || recvmsg(f->socket, &m, MSG_CMSG_CLOEXEC) != 1)
        return err_set(e, E_PROTOCOL, "podinit does not answer");
    const struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (!c || c->cmsg_len != CMSG_LEN(sizeof(int)))
        return err_set(e, E_PROTOCOL, "podinit gave no memory");
    AUTO_CLOSE int memfd = -1;
    memcpy(&memfd, CMSG_DATA(c), sizeof memfd);
    f->room = mmap(NULL, PAGER_SLOTS * CHUNK_MAX, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    return f->room == MAP_FAILED ? err_errno(e, "map the pages for podinit") : 0;
}

static size_t threads_wanted(void)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    return processors < 1 ? 1 : processors > THREADS_MAX ? THREADS_MAX : (size_t)processors;
}

static int threads_run(struct filler *f, struct err *e)
{
    pthread_t threads[THREADS_MAX];
    size_t count = 0;
    while (count < threads_wanted() && pthread_create(&threads[count], NULL, bring_all, f) == 0)
        count++;
    if (!count)
        return err_set(e, E_OS, "no thread can be begun");
    for (size_t k = 0; k < count; k++)
        pthread_join(threads[k], NULL);
    return 0;
}

static int work(struct filler *f, struct err *e)
{
    const char *delay = getenv("CLUSTEROS_FILL_DELAY_US");
    f->delay_ns = delay ? strtoull(delay, NULL, 10) * 1000 : 0;
    f->socket = pager_connect(&f->pod, e);
    if (f->socket < 0)
        return e->code == E_NO_INPUT ? 0 : -1;
    if (note_read(f, e) < 0 || room_take(f, e) < 0 || threads_run(f, e) < 0)
        return -1;
    AUTO_CLOSE int again = pager_connect(&f->pod, e);
    if (again >= 0)
        return err_set(e, E_ABORTED, "podinit hung up");
    return e->code == E_NO_INPUT ? 0 : -1;
}

int filler_work(const char *pod, struct err *e)
{
    struct filler f = {.socket = -1};
    signal(SIGPIPE, SIG_IGN);
    if (pod_state_load(pod, &f.pod, e) < 0)
        return -1;
    int result = work(&f, e);
    if (f.socket >= 0)
        close(f.socket);
    if (f.store)
        store_close(f.store);
    image_free(&f.image);
    pod_close(&f.pod);
    return result < 0 ? err_wrap(e, "fill the memory of %s", pod) : 0;
}
