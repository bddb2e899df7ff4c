/* See files_load.h and restore.h: the order in which descriptions come to be. */
#include "files_load.h"
#include "tcp_kick.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NUMBERS_SPARE 64u    /* for the moment */
#define LOWEST_BASE 64u

/* ---- numbers */
static int compare_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t *used_numbers(const struct image *image, size_t *count)
{
    uint64_t *used = NULL;
    for (size_t i = 0; i < image->tasks_count; i++)
        for (size_t k = 0; k < image->tasks[i].fds_count; k++)
            *(uint64_t *)list_add((void **)&used, count, sizeof *used) = image->tasks[i].fds[k].number;
    if (*count)
        qsort(used, *count, sizeof *used, compare_number);
    return used;
}

/* Room for all that podinit makes, between or above the numbers that tasks use; -1 if there is none below the limit. */
static int room_find(const uint64_t *used, size_t count, uint64_t from, uint64_t needed, uint64_t limit)
{
    for (size_t i = 0; i < count; i++) {
        if (used[i] < from)
            continue;
        if (used[i] - from >= needed)
            return (int)from;
        from = used[i] + 1;
    }
    return from + needed <= limit ? (int)from : -1;
}

/* Behind what tasks use: the kernel's table of a process ends with its highest number, and is copied by each fork. */
static uint64_t number_behind(const uint64_t *used, size_t count)
{
    uint64_t behind = LOWEST_BASE;
    for (size_t i = 0; i < count && used[i] < RESTORE_FD_BASE; i++)
        behind = used[i] < behind ? behind : used[i] + 1;
    return behind;
}

static int base_number(const struct restore *r)
{
    struct rlimit limit = {.rlim_cur = RESTORE_FD_BASE};
    size_t count = 0;
    AUTO_FREE uint64_t *used = used_numbers(r->image, &count);
    uint64_t needed = r->image->files_count + r->image->memobjs_count + 2 * r->image->unix_sockets_count + r->image->user_spaces_count +
                      r->image->mount_spaces_count + r->image->other_spaces_count + NUMBERS_SPARE;
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    int base = room_find(used, count, number_behind(used, count), needed, limit.rlim_cur);
    return base >= 0 ? base : room_find(used, count, LOWEST_BASE, needed, limit.rlim_cur);
}

int high_place(const struct restore *r, int fd, struct err *e)
{
    static const struct image *known;
    static int base;
    if (known != r->image) {
        known = r->image;
        base = base_number(r);
    }
    int high = base < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, base);
    int number = errno;
    close(fd);
    errno = number;
    if (base < 0)
        return err_set(e, E_UNSUPPORTED, "descriptors: this node's limit (RLIMIT_NOFILE) leaves no room for %zu", r->image->files_count);
    return high < 0 ? err_errno(e, "a descriptor above %d", base) : high;
}

int file_place(struct restore *r, size_t index, int fd, struct err *e)
{
    if (r->file_fds[index] >= 0) {
        close(fd);
        return err_set(e, E_BAD_IMAGE, "file %lu comes twice", r->image->files[index].id);
    }
    r->file_fds[index] = high_place(r, fd, e);
    return r->file_fds[index] < 0 ? -1 : 0;
}

/* Ids are mostly 1, 2, 3, …: look there first. */
int file_index(const struct restore *r, uint64_t id, size_t *index, struct err *e)
{
    const struct image *image = r->image;
    if (id >= 1 && id <= image->files_count && image->files[id - 1].id == id) {
        *index = id - 1;
        return 0;
    }
    for (size_t i = 0; i < image->files_count; i++)
        if (image->files[i].id == id) {
            *index = i;
            return 0;
        }
    return err_set(e, E_BAD_IMAGE, "a reference to file %lu, which is not there", id);
}

int file_flags_set(const struct restore *r, size_t index, struct err *e)
{
    int flags = (int)(r->image->files[index].flags & FILE_FLAGS_SETTABLE);
    int now = fcntl(r->file_fds[index], F_GETFL);
    if (now < 0 || ((now ^ flags) & FILE_FLAGS_SETTABLE && fcntl(r->file_fds[index], F_SETFL, flags) < 0))
        return err_errno(e, "flags %x of a descriptor", (unsigned)flags);
    return 0;
}

int file_reopen(int fd, uint64_t flags, struct err *e)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int anew = open(path, (int)(flags & (O_ACCMODE | FILE_FLAGS_SETTABLE | O_SYNC | O_DSYNC)) | O_CLOEXEC | O_NOCTTY);
    return anew < 0 ? err_errno(e, "open a file anew") : anew;
}

/* ---- rights */
/* An ordinary user's pod: podinit is the pod's user from its start, root has no name in there. */
static bool is_owner_already(const struct restore *r)
{
    return r->pod->facts.uid && getuid() == r->pod->facts.uid;
}

void owner_rights_begin(const struct restore *r)
{
    if (is_owner_already(r))
        return;
    CHECK(syscall(SYS_setresgid, -1, r->pod->facts.gid, -1) == 0);
    CHECK(syscall(SYS_setresuid, -1, r->pod->facts.uid, -1) == 0);
}

void owner_rights_end(const struct restore *r)
{
    int number = errno;
    if (is_owner_already(r))
        return;
    CHECK(syscall(SYS_setresuid, -1, 0, -1) == 0);
    CHECK(syscall(SYS_setresgid, -1, 0, -1) == 0);
    CHECK(prctl(PR_SET_DUMPABLE, 1) == 0); /* a change of uid takes it away, and descriptors are pulled from here */
    errno = number;
}

/* ---- all of them */
static void limit_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int *numbers_none(size_t count)
{
    int *fds = xcalloc(count + 1, sizeof *fds);
    for (size_t i = 0; i < count; i++)
        fds[i] = -1;
    return fds;
}

static bool has_path_loader(const struct file *f)
{
    switch (f->kind) {
    case FILE_REGULAR: case FILE_DIRECTORY: case FILE_PATH_ONLY: case FILE_DEVICE: case FILE_PROC: case FILE_MEMOBJ:
    case FILE_STDOUT: case FILE_STDERR:
        return !file_is_late(f);
    default:
        return false;
    }
}

static int paths_load(struct restore *r, struct err *e)
{
    for (size_t i = 0; i < r->image->files_count; i++)
        if (has_path_loader(&r->image->files[i]) && file_load(r, i, e) < 0)
            return err_wrap(e, "file %s", r->image->files[i].path);
    return 0;
}

/* Whatever an image says, every description is there, of a kind that is known, before a task is made. */
static int completeness_check(const struct restore *r, struct err *e)
{
    for (size_t i = 0; i < r->image->files_count; i++)
        if (r->file_fds[i] < 0 && !file_is_late(&r->image->files[i]))
            return err_set(e, E_BAD_IMAGE, "file %lu of kind %lu has no description", r->image->files[i].id, r->image->files[i].kind);
    return 0;
}

int files_load_shared(struct restore *r, struct err *e)
{
    limit_raise();
    if (!r->file_fds)
        r->file_fds = numbers_none(r->image->files_count);
    if (!r->memobj_fds)
        r->memobj_fds = numbers_none(r->image->memobjs_count);
    if (memobjs_load(r, e) < 0 || paths_load(r, e) < 0 || pipes_load(r, e) < 0 || udp_load(r, e) < 0 || raw_load(r, e) < 0 || tcp_load(r, e) < 0 ||
        netlink_load(r, e) < 0 || mqueues_load(r, e) < 0 || eventfd_load(r, e) < 0 || timerfd_load(r, e) < 0 || signalfd_load(r, e) < 0 ||
        ptys_load(r, e) < 0)
        return -1;
    if (unix_load(r, e) < 0) /* its messages bring all of the above; it makes names, which nobody watches yet */
        return -1;
    if (directories_load_half(r, e) < 0 || inotify_load(r, e) < 0 || locks_load_shared(r, e) < 0 || epoll_load(r, e) < 0)
        return -1;
    return completeness_check(r, e);
}

int files_load_finish(struct restore *r, struct err *e)
{
    if (memobjs_seal(r, e) < 0 || owners_load_threads(r, e) < 0 || tcp_load_finish(r, e) < 0)
        return -1;
    tcp_kick_start(r);
    return 0;
}
