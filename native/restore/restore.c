/* A restore from the image to the line `done`: everything is checked before anything is made; the pod is made with its network cut;
 * podinit makes the processes, the tracer beside it turns them into what they were; `ready`; on `go` the sockets wake, the network
 * opens, and all run at once. Failure or abort at any point leaves nothing (pod_create sees to that). */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../pod/root.h"
#include "../snapshot/barrier.h"
#include "../snapshot/stop.h"
#include "huge.h"
#include "lazy.h"
#include "leftovers.h"
#include "load.h"
#include "outside_cut.h"
#include "share.h"
#include "spaces.h"
#include "sysv_load.h"
#include "tcp_room.h"

enum word { WORD_TREE = 't', WORD_FINISH = 'f', WORD_FINISHED = 'd', WORD_RUN = 'r', WORD_NEXT_PID = 'n', WORD_NEXT_PID_SET = 's' };

static int word_send(int channel, char word, struct err *e)
{
    return send(channel, &word, 1, MSG_NOSIGNAL) == 1 ? 0 : err_errno(e, "tell the other process of the restore");
}

static int word_expect(int channel, char word, struct err *e)
{
    char got = 0;
    ssize_t n;
    do
        n = recv(channel, &got, 1, 0);
    while (n < 0 && errno == EINTR);
    if (n == 1 && got == word)
        return 0;
    struct timespec nap = {0, 100000000}; /* the other side says why; let it be heard first */
    nanosleep(&nap, NULL);
    return err_set(e, E_PROTOCOL, "the other process of the restore died");
}

/* ---- the pod's next process number, on its way (spaces.h) */
struct next_pid {
    char word;
    uint64_t pid;
};

int space_next_pid(const struct restore *r, uint64_t pid, struct err *e)
{
    struct next_pid ask = {.word = WORD_NEXT_PID, .pid = pid};
    if (send(r->act_channel, &ask, sizeof ask, MSG_NOSIGNAL) != (ssize_t)sizeof ask)
        return err_errno(e, "tell the other process of the restore");
    return word_expect(r->act_channel, WORD_NEXT_PID_SET, e);
}

/* WORD_FINISH ends it. */
static int next_pids_serve(const struct restore *r, int channel, struct err *e)
{
    for (;;) {
        struct next_pid ask = {0};
        ssize_t n = recv(channel, &ask, sizeof ask, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 1 && ask.word == WORD_FINISH)
            return 0;
        if (n != (ssize_t)sizeof ask || ask.word != WORD_NEXT_PID)
            return err_set(e, E_PROTOCOL, "the other process of the restore died");
        if (next_pid_set(r, ask.pid, e) < 0 || word_send(channel, WORD_NEXT_PID_SET, e) < 0)
            return -1;
    }
}

/* ---- in the keeper */
static int fill(struct pod *pod, void *ctx, struct err *e)
{
    struct restore *r = ctx;
    if (trees_load(r, pod, e) < 0 || hostfiles_load(r, pod, e) < 0)
        return -1;
    return r->pager ? lazy_note(r, pod, e) : 0;
}

/* ---- in podinit */
static void last_pid_set(const struct image *image)
{
    uint64_t last = image->pod.last_pid;
    struct err ignored;
    for (size_t k = 0; k < image->tasks_count; k++)
        for (size_t n = 0; n < image->tasks[k].threads_count; n++)
            if (image->tasks[k].threads[n].tid > last)
                last = image->tasks[k].threads[n].tid;
    if (io_putf(&ignored, "/proc/sys/kernel/ns_last_pid", "%lu", last) < 0)
        return; /* new processes then get lower numbers that are free: nothing depends on it */
}

static int in_pod(struct pod *pod, void *ctx, int channel, struct err *e)
{
    struct restore *r = ctx;
    r->pod = pod;
    pod->pager = r->pager;
    if (r->pager && pager_listen(r->pager, pod->dirfd, e) < 0)
        return -1;
    r->stdout_fd = pod->stdout_fd;
    r->stderr_fd = pod->stderr_fd;
    last_pid_set(r->image);
    if (next_pid_open(r, e) < 0)
        return -1;
    if (ipc_load(r, e) < 0 || tcp_room_make(r, e) < 0 || root_seal(e) < 0 || spaces_load(r, e) < 0 || ipc_spaces_load(r, e) < 0 || files_load_shared(r, e) < 0)
        return -1;
    outside_cuts_mark(r);
    tcp_room_end();
    if (processes_make(r, e) < 0)
        return -1;
    pod->facts.command_pid = r->image->pod.command_pid;
    if (word_send(channel, WORD_TREE, e) < 0 || next_pids_serve(r, channel, e) < 0 || ipc_load_finish(r, e) < 0 ||
        files_load_finish(r, e) < 0)
        return -1;
    outside_cuts_make(r);
    if (word_send(channel, WORD_FINISHED, e) < 0)
        return -1;
    return word_expect(channel, WORD_RUN, e);
}

/* ---- beside podinit */
static uint64_t lazy_bytes(const struct restore *r)
{
    return r->lazy_bytes ? *r->lazy_bytes : 0;
}

static int act(struct pod *pod, void *ctx, int channel, struct err *e)
{
    struct restore *r = ctx;
    r->pod = pod;
    r->act_channel = channel;
    if (word_expect(channel, WORD_TREE, e) < 0 || inject_all(r, e) < 0)
        return -1;
    output_event("ready", "\"processes\":%zu,\"lazy_bytes\":%lu,\"took_ms\":%.3f", r->image->tasks_count, lazy_bytes(r),
                 (double)(clock_ns(CLOCK_MONOTONIC) - r->started_ns) / 1e6);
    if (r->barrier && barrier_wait("go", e) < 0)
        return -1;
    if (word_send(channel, WORD_FINISH, e) < 0 || word_expect(channel, WORD_FINISHED, e) < 0)
        return -1;
    outside_cuts_tell(r);
    if (release_all(r, e) < 0)
        return -1;
    return word_send(channel, WORD_RUN, e);
}

/* ---- before */
static const char *either(const char *given, const char *fallback)
{
    return given ? given : fallback && fallback[0] ? fallback : NULL;
}

static int owner_check(const struct restore_options *o, const struct image *image, struct err *e)
{
    if ((o->uid != UINT64_MAX && o->uid != image->pod.uid) || (o->gid != UINT64_MAX && o->gid != image->pod.gid))
        return err_set(e, E_DENIED, "the image belongs to user %lu, group %lu", image->pod.uid, image->pod.gid);
    return 0;
}

static void spec_make(const struct restore_options *o, const struct image *image, struct pod_spec *spec)
{
    const struct pod_facts *f = &image->pod;
    *spec = (struct pod_spec){
        .dir = o->pod, .net = o->net, .hostname = either(o->hostname, f->hostname), .cpus = either(o->cpus, f->cpus),
        .stdout_path = o->stdout_path, .stderr_path = o->stderr_path, .uid = f->uid, .gid = f->gid,
        .mem_bytes = o->mem_bytes != UINT64_MAX ? o->mem_bytes : f->mem_bytes, .io_uring_allowed = f->io_uring_allowed,
        .hosts_file = o->hosts, .lower = o->lower, .network_locked = true, .machine_id = either(f->machine_id, NULL),
        .boot_id = either(f->boot_id, NULL),
        .monotonic_offset_ns = (int64_t)(f->monotonic_ns - clock_ns(CLOCK_MONOTONIC)),
        .boottime_offset_ns = (int64_t)(f->boottime_ns - clock_ns(CLOCK_BOOTTIME)),
    };
}

static int *descriptors_make(size_t count)
{
    size_t bytes = (count + 1) * sizeof(int);
    int *fds = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0); /* podinit fills it, the tracer reads it */
    CHECK(fds != MAP_FAILED);
    for (size_t k = 0; k < count; k++)
        fds[k] = -1;
    return fds;
}

/* Chunks are right because the manifest names them by digest; it is right because whoever asks knows its digest from elsewhere. */
static int digest_check(const struct restore_options *o, const struct digest *found, struct err *e)
{
    struct digest wanted;
    if (!o->digest)
        return 0;
    if (digest_parse(o->digest, &wanted, e) < 0)
        return -1;
    return memcmp(&wanted, found, sizeof wanted) ? err_set(e, E_BAD_IMAGE, "this is not the image %s: its manifest was changed", o->digest) : 0;
}

static int open_all(const struct restore_options *o, struct image *image, struct restore *r, struct err *e)
{
    AUTO_FREE char *own = xasprintf("%s/store", o->image);
    if (image_read(o->image, image, &r->digest, e) < 0 || digest_check(o, &r->digest, e) < 0 || owner_check(o, image, e) < 0 || image_validate(image, e) < 0 ||
        image_host_check(image, e) < 0 || image_outside_check(image, o->files, e) < 0 || births_plan(image, &r->births, e) < 0)
        return err_wrap(e, "image %s", o->image);
    r->image_dir = xstrdup(o->image);
    r->store_dir = xstrdup(o->store ? o->store : own);
    if (store_open(r->store_dir, false, &r->store, e) < 0)
        return -1;
    r->image = image;
    if (o->files == FILES_RESTORE)
        outside_cuts_choose(r);
    r->lower = o->lower;
    r->barrier = o->barrier;
    r->file_fds = descriptors_make(image->files_count);
    r->memobj_fds = descriptors_make(image->memobjs_count);
    if (shares_plan(r, e) < 0 || huge_check(r, HUGE_FREE, e) < 0 || (o->lazy && lazy_plan(r, e) < 0))
        return -1;
    return tree_board_make(r, e);
}

static int pod_make(const char *dir, const struct pod_spec *spec, struct restore *r, struct pod *pod, struct err *e)
{
    static const struct pod_program program = {.fill = fill, .in_pod = in_pod, .act = act};
    struct err other;
    if (leftovers_begin(dir, e) < 0)
        return -1;
    bool failed = pod_create(spec, &program, r, pod, e) < 0;
    if (leftovers_end(dir, failed, &other) < 0 && !failed)
        output_event("warn", "\"message\":\"the mark of the restore cannot be removed\"");
    return failed ? -1 : 0;
}

int restore_image(const struct restore_options *options, struct err *e)
{
    struct restore r = {.stdout_fd = -1, .stderr_fd = -1, .started_ns = clock_ns(CLOCK_MONOTONIC)};
    struct image image = {0};
    struct pod_spec spec;
    struct pod pod;
    int result = open_all(options, &image, &r, e);
    if (result == 0) {
        spec_make(options, &image, &spec);
        result = pod_make(options->pod, &spec, &r, &pod, e);
    }
    if (result == 0) {
        output_event("done", "\"processes\":%zu,\"init_pid\":%d,\"keeper_pid\":%d,\"command_pid\":%lu,\"lazy_bytes\":%lu,\"took_ms\":%.3f", image.tasks_count,
                     pod.init_pid, pod.keeper_pid, image.pod.command_pid, lazy_bytes(&r), (double)(clock_ns(CLOCK_MONOTONIC) - r.started_ns) / 1e6);
        pod_close(&pod);
    }
    if (r.store)
        store_close(r.store);
    free(r.births);
    free(r.share_models);
    lazy_plan_free(&r);
    free(r.image_dir);
    free(r.store_dir);
    image_free(&image);
    return result < 0 ? err_wrap(e, "restore") : 0;
}
