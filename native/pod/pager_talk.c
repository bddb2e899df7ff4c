/* The pager's socket: who brings content, and who asks how it stands; and the queue in which a restore leaves descriptors. See pager.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "pager_parts.h"

#define FDS_PER_MESSAGE 200
#define ROOM_BYTES (PAGER_SLOTS * CHUNK_MAX)
#define FIRST_WORD_US 200000

/* ---- descriptors, `data` beside them */
static int fds_send(int socket, const void *data, size_t len, const int *fds, size_t count, struct err *e)
{
    char control[CMSG_SPACE(FDS_PER_MESSAGE * sizeof(int))] = {0};
    struct iovec words = {(void *)(uintptr_t)data, len};
    struct msghdr m = {.msg_iov = &words, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){.cmsg_len = CMSG_LEN(count * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(c), fds, count * sizeof(int));
    return sendmsg(socket, &m, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)len ? 0 : err_errno(e, "hand over descriptors");
}

int pager_give(const struct pager *p, const uint32_t *models, const int *fds, size_t count, struct err *e)
{
    for (size_t at = 0; at < count; at += FDS_PER_MESSAGE) {
        size_t n = count - at < FDS_PER_MESSAGE ? count - at : FDS_PER_MESSAGE;
        if (fds_send(p->queue[1], models + at, n * sizeof *models, fds + at, n, e) < 0)
            return -1;
    }
    return 0;
}

void queue_take(struct paging *p, void (*take)(struct paging *p, uint32_t model, int fd))
{
    for (;;) {
        uint32_t models[FDS_PER_MESSAGE];
        int fds[FDS_PER_MESSAGE];
        char control[CMSG_SPACE(sizeof fds)];
        struct iovec words = {models, sizeof models};
        struct msghdr m = {.msg_iov = &words, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        ssize_t n = recvmsg(p->queue, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
        if (n <= 0)
            return;
        size_t count = (size_t)n / sizeof models[0];
        CHECK(c && c->cmsg_len == CMSG_LEN(count * sizeof fds[0]));
        memcpy(fds, CMSG_DATA(c), count * sizeof fds[0]);
        for (size_t k = 0; k < count; k++)
            take(p, models[k], fds[k]);
    }
}

/* ---- the filler */
void filler_drop(struct paging *p)
{
    if (p->filler >= 0)
        close(p->filler);
    p->filler = -1;
    slots_forget(p);
    if (p->room)
        munmap(p->room, ROOM_BYTES);
    p->room = NULL;
}

/* Each has a memory of its own: one that was given up may still write into its. */
static bool room_give(struct paging *p, int client)
{
    struct err ignored;
    AUTO_CLOSE int memfd = memfd_create("pages", MFD_CLOEXEC);
    if (memfd < 0 || ftruncate(memfd, (off_t)ROOM_BYTES) < 0)
        return false;
    void *room = mmap(NULL, ROOM_BYTES, PROT_READ, MAP_SHARED, memfd, 0);
    if (room == MAP_FAILED)
        return false;
    if (fds_send(client, "m", 1, &memfd, 1, &ignored) < 0) {
        munmap(room, ROOM_BYTES);
        return false;
    }
    p->room = room;
    return true;
}

bool filler_say(struct paging *p, const struct pager_ask *ask)
{
    return send(p->filler, ask, sizeof *ask, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof *ask; /* its end is heard in its place */
}

void filler_hear(struct paging *p)
{
    struct pager_answer answer;
    for (;;) {
        ssize_t n = recv(p->filler, &answer, sizeof answer, MSG_DONTWAIT);
        if (n == (ssize_t)sizeof answer) {
            slot_answer(p, &answer);
            continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        filler_drop(p);
        return;
    }
}

/* ---- whoever comes */
static void status_tell(const struct paging *p, int client)
{
    struct pager_status s = {.total_bytes = p->total_bytes, .processes = (uint32_t)p->space_count, .lacking = p->lacking};
    for (size_t k = 0; k < p->space_count; k++)
        s.left_bytes += missing_bytes(&p->spaces[k].missing);
    if (s.total_bytes < s.left_bytes) /* children have it too */
        s.total_bytes = s.left_bytes;
    memcpy(s.why, p->why, sizeof s.why);
    (void)send(client, &s, sizeof s, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static bool may_speak(int client)
{
    struct ucred who;
    socklen_t len = sizeof who;
    struct timeval soon = {.tv_usec = FIRST_WORD_US};
    return getsockopt(client, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 && who.uid == geteuid() &&
           setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon) == 0;
}

void client_accept(struct paging *p)
{
    char word = 0;
    int client = accept4(p->listening, NULL, NULL, SOCK_CLOEXEC);
    if (client < 0)
        return;
    if (may_speak(client) && recv(client, &word, 1, 0) == 1 && word == PAGER_FILLER) {
        filler_drop(p);
        if (room_give(p, client)) {
            p->filler = client;
            return;
        }
    }
    if (word == PAGER_STATUS)
        status_tell(p, client);
    close(client);
}
