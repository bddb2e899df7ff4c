/* A snapshot from the first look to the line `done`. The order is the contract (design section 6):
 *   check, prepared | stop, ask the processes, freeze, cut the network, descriptors, memory, trees, captured | open, run on, write.
 * From `freeze` to the end of the pause a dead engine leaves the pod frozen: nobody runs with a cut network or sockets in repair
 * mode before the keeper has undone that. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../base/aside.h"
#include "../base/fiber.h"
#include "../kernel/procfs.h"
#include "../pod/pager.h"
#include "../pod/state.h"
#include "barrier.h"
#include "check.h"
#include "copy_first.h"
#include "huge.h"
#include "lease_save.h"
#include "map_flags.h"
#include "mapped.h"
#include "memories.h"
#include "nets_lock.h"
#include "parent_pages.h"
#include "save.h"
#include "seccomp_save.h"
#include "sleep_save.h"
#include "spaces.h"
#include "stop.h"
#include "../base/urgent.h"
#include "../base/warm.h"
#include "undo.h"

#define CHECK_TRIES 10
#define PROCESS_EXITING 0x4ul /* PF_EXITING of linux/sched.h */
#define WARM_BYTES (4ul << 20)
#define WARM_THREAD_BYTES (12ul << 10)
#define WARM_MAX_BYTES (48ul << 20)
#define PATIENCE_NS 5000000000ul
#define FILL_PATIENCE_MS 300000ul /* memory of a restored pod that is still coming */

struct take {
    const struct snapshot_options *options;
    struct pod pod;
    struct image parent;
    struct digest parent_digest;
    struct snapshot s;
    struct sleeper_list sleepers;
    struct buf waits;             /* for the next snapshot (sleep_save.h) */
    uint64_t started_ns, stopped_ns, released_ns;
    bool stopped, frozen, locked; /* what is to be undone */
    bool room;                    /* there was a processor that nobody used */
    struct memories memories;
    struct tracks tracks;
    struct map_flags map_flags;
    struct aside aside;           /* reading of them */
    struct huge huge;
    double step_ms[6];            /* stop, ask, cut, descriptors, memory, trees */
    uint64_t step_ns[6], go_ns;   /* when each was done; when the word to run on came */
    uint64_t prepared_ns, put_ns, durable_ns; /* ready to stop; all content handed to the store; and on the disk */
};
static int injection_note(const struct victim *v, const char *what, uint64_t address, uint64_t len, struct err *e)
{
    if (journal_note("%s %d %lu %lx %lu", what, v->pid, v->start_time, address, len) < 0)
        return err_set(e, E_IO, "write the journal");
    return 0;
}

static int note(const char *word, struct err *e)
{
    return journal_note("%s", word) < 0 ? err_set(e, E_IO, "write the journal") : 0;
}

/* A vfork, a thread that is just ending: what is seen once may be gone at the next look. */
static int check_first(const struct take *t, struct err *e)
{
    for (int tries = 0;; tries++) {
        struct refusals r = {0};
        if (snapshot_check(&t->pod, &r, e) < 0)
            return -1;
        if (!r.count)
            return 0;
        struct refusal first = r.items[0];
        refusals_free(&r);
        if (tries == CHECK_TRIES) {
            AUTO_FREE char *fd = first.fd < 0 ? xstrdup("") : xasprintf(" descriptor %ld:", first.fd);
            return err_set(e, E_UNSUPPORTED, "process %lu:%s %s", first.pid, fd, first.words);
        }
        struct timespec nap = {0, 2000000L << (tries / 2)};
        nanosleep(&nap, NULL);
    }
}

static int parent_open(struct take *t, struct err *e)
{
    if (!t->options->parent)
        return 0;
    if (image_read(t->options->parent, &t->parent, &t->parent_digest, e) < 0)
        return err_wrap(e, "parent image");
    t->s.parent = &t->parent;
    t->s.image.parent = t->parent_digest;
    parent_pages_look(&t->s);
    return 0;
}

/* As much as looking at that many threads takes. */
static void warm(const struct take *t)
{
    size_t bytes = WARM_BYTES + t->sleepers.count * WARM_THREAD_BYTES;
    warm_heap(bytes < WARM_MAX_BYTES ? bytes : WARM_MAX_BYTES);
    warm_fibers();
}

/* The job runs on while its memory is written. */
static bool is_live(const struct take *t)
{
    return t->options->live && t->options->then == THEN_RUN;
}

static int map_flags_first(void *ctx, struct err *e)
{
    struct take *t = ctx;
    return map_flags_look(&t->pod, &t->map_flags, e);
}

/* What a mapped file is does not change while it is mapped. */
static void regular_look(struct take *t)
{
    for (size_t k = 0; k < t->map_flags.count; k++)
        for (size_t n = 0; n < t->map_flags.items[k].maps.count; n++) {
            const struct proc_map *m = &t->map_flags.items[k].maps.items[n];
            struct stat at;
            struct err gone;
            if (m->path[0] == '/' && m->ino && !m->deleted && !plain_files_have(&t->s.regular, m) &&
                mapped_stat(&t->pod, t->map_flags.items[k].pid, m, &at, &gone) == 0 && S_ISREG(at.st_mode))
                plain_files_add(&t->s.regular, m);
        }
}

static int prepare(struct take *t, struct err *e)
{
    struct err none;
    AUTO_FREE char *own = xasprintf("%s/store", t->options->image);
    if (pod_open(t->options->pod, &t->pod, e) < 0)
        return -1;
    t->s.pod = &t->pod;
    t->s.upper = pod_tree_open(&t->pod, "root", &none);
    if (pager_await(&t->pod, FILL_PATIENCE_MS, e) < 0)
        return -1;
    remote_journal = injection_note;
    seccomp_guard(&t->pod);
    if (t->options->then == THEN_STOP && pod_freezer_kind(&t->pod) == FREEZER_NONE)
        return err_set(e, E_UNSUPPORTED, "the pod has no cgroup: it cannot be left frozen");
    if (io_mkdirs(t->options->image, 0700, e) < 0 || store_open(t->options->store ? t->options->store : own, true, &t->s.store, e) < 0)
        return -1;
    t->s.sleepers = &t->sleepers;
    if (parent_open(t, e) < 0 || check_first(t, e) < 0 || sleepers_look(&t->pod, &t->sleepers, e) < 0 || sleepers_note(&t->pod, &t->sleepers, e) < 0)
        return -1;
    (void)pagemap_tells_holes(); /* not in the pause */
    if (is_live(t))
        aside_begin(&t->aside, map_flags_first, t);
    warm(t);
    tracks_begin(&t->tracks);
    t->s.tracks = t->tracks.on && t->options->then != THEN_KILL ? &t->tracks : NULL;
    if (!is_live(t)) /* nobody waits */
        return 0;
    t->s.map_flags = &t->map_flags;
    if (aside_end(&t->aside, e) < 0)
        return -1;
    regular_look(t);
    t->room = urgent_room();
    huge_look(&t->map_flags, &t->tracks, &t->huge);
    return copy_first_prepare(&t->s, e);
}

static void go_first(const struct take *t)
{
    urgent_begin(is_live(t) ? t->s.copy_bytes : UINT64_MAX);
}

static int stop(struct take *t, struct err *e)
{
    go_first(t);
    t->stopped_ns = clock_ns(CLOCK_MONOTONIC);
    if (journal_begin(&t->pod, "snapshot", e) < 0)
        return -1;
    t->stopped = true;
    if (pod_is_frozen(&t->pod) && note("thaw", e) < 0)
        return -1;
    if (tree_stop(&t->pod, &t->s.victims, &t->s.victim_count, e) < 0)
        return -1;
    return sleepers_confirm(&t->sleepers, t->s.victims, t->s.victim_count) ? 0 : sleepers_note(&t->pod, &t->sleepers, e);
}

static int injected_away(void *ctx, size_t k, struct err *e)
{
    struct take *t = ctx;
    return t->s.victims[k].thread_count ? remote_close(&t->s.victims[k], e) : 0;
}

/* All that needs calls in the processes; afterwards nothing of ours is left in them. */
static int ask(struct take *t, struct err *e)
{
    if (facts_save(&t->s, e) < 0 || tasks_save(&t->s, e) < 0 || memories_cut(&t->memories, &t->s, is_live(t), e) < 0)
        return -1;
    if (fibers_run(t->s.victim_count, injected_away, t, e) < 0)
        return -1;
    buf_free(&t->waits);
    sleepers_describe(t->s.victims, t->s.image.tasks, t->s.victim_count, &t->waits);
    return leaders_save(&t->s, e);
}

static int cut(struct take *t, struct err *e)
{
    if (pod_freezer_kind(&t->pod) != FREEZER_NONE) {
        if (note("freeze", e) < 0)
            return -1;
        t->frozen = true;
        if (pod_freeze(&t->pod, e) < 0)
            return -1;
    }
    if (note("lock", e) < 0)
        return -1;
    t->locked = true;
    return netlock_set(&t->pod, e) < 0 ? -1 : nets_cut(t->s.spaces, e);
}

static int memory(struct take *t, struct err *e)
{
    return memories_save(&t->memories, &t->s, e);
}

static int descriptors(struct take *t, struct err *e)
{
    return files_save(&t->s, e);
}

static int trees(struct take *t, struct err *e)
{
    return trees_save(&t->s, e);
}

static int capture(struct take *t, struct err *e)
{
    static const struct {
        const char *name;
        int (*step)(struct take *t, struct err *e);
    } steps[] = {{"stop", stop}, {"ask", ask}, {"cut", cut}, {"descriptors", descriptors}, {"memory", memory}, {"trees", trees}};
    for (size_t k = 0; k < ARRAY_LENGTH(steps); k++) {
        uint64_t began_ns = clock_ns(CLOCK_MONOTONIC);
        if (steps[k].step(t, e) < 0)
            return err_wrap(e, "capture");
        t->step_ns[k] = clock_ns(CLOCK_MONOTONIC);
        t->step_ms[k] = (double)(t->step_ns[k] - began_ns) / 1e6;
    }
    return 0;
}

static void keep_first(int *result, int now, struct err *e, const struct err *other)
{
    if (now < 0 && *result == 0) {
        *e = *other;
        *result = -1;
    }
}

/* Everything that `stop` and `cut` did, backwards. Called once in every case; the journal ends here. */
static int run_on(struct take *t, bool stay_frozen, struct err *e)
{
    int result = 0;
    struct err other;
    if (!t->stopped)
        return 0;
    if (t->frozen && mqueues_undo(&t->pod, e) < 0)
        return -1; /* it stays frozen and cut, and its journal stays: whoever undoes this tries again */
    if (t->locked)
        keep_first(&result, netlock_clear(&t->pod, &other), e, &other);
    if (t->locked && spaces_have_nets(t->s.spaces))
        keep_first(&result, nets_open(&t->pod, &other), e, &other);
    stay_frozen = stay_frozen || pod_wants_frozen(&t->pod);
    if (t->frozen && !stay_frozen)
        keep_first(&result, pod_thaw(&t->pod, &other), e, &other);
    keep_first(&result, tree_release(&t->pod, t->s.victims, t->s.victim_count, stay_frozen, &other), e, &other);
    keep_first(&result, journal_end(&t->pod, &other), e, &other);
    t->released_ns = clock_ns(CLOCK_MONOTONIC);
    urgent_end();
    netlock_rest_aside();
    t->stopped = t->locked = t->frozen = false;
    return result;
}

/* The keeper ends the pod when it has kept our last line. Until then nothing of it may run: it stays frozen, its network cut, and the
 * journal stays too: if that line gets lost, the pod runs on. Without a freezer it is ended here. */
static int leave_to_end(struct take *t, struct err *e)
{
    if (!t->frozen && kill(t->pod.init_pid, SIGKILL) < 0 && errno != ESRCH)
        return err_errno(e, "end the pod");
    t->stopped = t->locked = t->frozen = false;
    return 0;
}

static int map_flags_again(void *ctx, struct err *e)
{
    struct take *t = ctx;
    return memories_confirm(&t->memories, &t->s, e);
}

static int write_image(struct take *t, struct digest *digest, struct err *e)
{
    struct image *image = &t->s.image;
    aside_begin(&t->aside, map_flags_again, t); /* it takes as long as to put what has changed */
    if (copy_first_put(&t->s, e) < 0 || aside_end(&t->aside, e) < 0 || memories_finish(&t->memories, &t->s, e) < 0 || hostfiles_save(&t->s, e) < 0)
        return -1;
    image->pause_ns = t->released_ns - t->stopped_ns;
    image->stored_bytes = image->new_bytes;
    t->put_ns = clock_ns(CLOCK_MONOTONIC);
    if (store_commit(t->s.store, e) < 0)
        return err_wrap(e, "store");
    t->durable_ns = clock_ns(CLOCK_MONOTONIC);
    if (image_write(t->options->image, image, digest, e) < 0)
        return -1;
    tracks_name(&t->tracks, digest);
    return 0;
}

static void report(const struct take *t, const struct digest *digest)
{
    char hex[65];
    digest_hex(digest, hex);
    const struct image *image = &t->s.image;
    const uint64_t *at = t->step_ns;
    output_event("done",
                 "\"digest\":\"%s\",\"bytes\":%lu,\"bytes_new\":%lu,\"bytes_kept\":%lu,\"pause_ms\":%.3f,\"took_ms\":%.3f,\"processes\":%zu,"
                 "\"log_marks\":{\"stdout\":%lu,\"stderr\":%lu},\"timeline_ns\":{\"began\":%lu,\"prepared\":%lu,\"stop\":%lu,\"stopped\":%lu,\"asked\":%lu,\"cut\":%lu,"
                 "\"descriptors\":%lu,\"memory\":%lu,\"captured\":%lu,\"go\":%lu,\"released\":%lu,\"put\":%lu,\"durable\":%lu}",
                 hex, image->raw_bytes, image->new_bytes, t->s.kept_bytes, (double)image->pause_ns / 1e6,
                 (double)(clock_ns(CLOCK_MONOTONIC) - t->started_ns) / 1e6, image->tasks_count, image->pod.stdout_bytes,
                 image->pod.stderr_bytes, t->started_ns, t->prepared_ns, t->stopped_ns, at[0], at[1], at[2], at[3], at[4], at[5], t->go_ns, t->released_ns, t->put_ns, t->durable_ns);
}

/* What was seen of the pod is forgotten; what its image follows is not. */
static void forget(struct take *t)
{
    memories_end(&t->memories);
    victims_free(t->s.victims, t->s.victim_count);
    t->s.victims = NULL;
    t->s.victim_count = 0;
    image_free(&t->s.image);
    t->s.image = (struct image){.parent = t->parent_digest};
    t->s.kept_bytes = 0;
    store_later_reset(t->s.store);
    plain_files_free(&t->s.plain_files);
    leases_free(&t->s);
    spaces_drop(&t->s);
}

static int sleepers_again(struct take *t, struct err *e)
{
    sleepers_free(&t->sleepers);
    return sleepers_look(&t->pod, &t->sleepers, e) < 0 ? -1 : sleepers_note(&t->pod, &t->sleepers, e);
}

/* E_BUSY: something that passes by itself when the pod runs on for a moment (a connection that is just being made). The others' networks
 * may be cut already: whatever this pod sends them is lost and sent again. */
static int capture_patiently(struct take *t, struct err *e)
{
    uint64_t give_up_ns = clock_ns(CLOCK_MONOTONIC) + PATIENCE_NS;
    for (int tries = 1;; tries++) {
        if (capture(t, e) == 0)
            return 0;
        struct err other;
        if (e->code != E_BUSY || clock_ns(CLOCK_MONOTONIC) > give_up_ns)
            return -1;
        if (run_on(t, false, &other) < 0)
            return *e = other, -1;
        forget(t);
        struct timespec nap = {0, 2000000L * (tries < 100 ? tries : 100)};
        nanosleep(&nap, NULL);
        if (sleepers_settle(&t->pod, e) < 0 || sleepers_again(t, e) < 0)
            return -1;
    }
}

static int cut_and_decide(struct take *t, struct err *e)
{
    if (capture_patiently(t, e) < 0)
        return -1;
    const double *ms = t->step_ms;
    output_event("captured", "\"processes\":%zu,\"stop_ms\":%.3f,\"ask_ms\":%.3f,\"cut_ms\":%.3f,\"descriptors_ms\":%.3f,\"memory_ms\":%.3f,\"trees_ms\":%.3f",
                 t->s.image.tasks_count, ms[0], ms[1], ms[2], ms[3], ms[4], ms[5]);
    if (t->options->barrier && barrier_wait("go", e) < 0)
        return -1;
    t->go_ns = clock_ns(CLOCK_MONOTONIC);
    return 0;
}

static int take(struct take *t, struct err *e)
{
    struct digest digest;
    if (prepare(t, e) < 0)
        return -1;
    t->prepared_ns = clock_ns(CLOCK_MONOTONIC);
    output_event("prepared", NULL);
    if (t->options->barrier) { /* whoever else hears the word would keep the processors from us */
        go_first(t);
        if (barrier_wait("stop", e) < 0)
            return -1;
    }
    if (cut_and_decide(t, e) < 0)
        return -1;
    bool kill_it = t->options->then == THEN_KILL;
    if (!kill_it && run_on(t, t->options->then == THEN_STOP, e) < 0)
        return -1;
    if (!kill_it && sleepers_keep(&t->pod, &t->waits, e) < 0)
        return -1;
    if (kill_it)
        t->released_ns = clock_ns(CLOCK_MONOTONIC);
    tracks_sample(&t->tracks);
    urgent_background(t->room);
    if (write_image(t, &digest, e) < 0)
        return -1;
    if (kill_it && leave_to_end(t, e) < 0)
        return -1;
    report(t, &digest);
    return 0;
}

/* A job that ends by itself while it is captured, or while its image is written, takes what we look at with it: that is what to say then. */
static void ended_say(const struct take *t, struct err *e)
{
    struct err before = *e, gone;
    struct proc_stat init = {0};
    if (!t->s.pod || e->code == E_ABORTED)
        return;
    if (proc_stat_read(t->pod.init_pid, t->pod.init_pid, &init, &gone) < 0 || init.start_time != t->pod.init_start ||
        init.flags & PROCESS_EXITING)
        err_set(e, E_CONFLICT, "the pod has ended in the meantime (%s)", before.message);
}

int snapshot_take(const struct snapshot_options *options, struct err *e)
{
    struct take t = {.options = options, .started_ns = clock_ns(CLOCK_MONOTONIC), .s.upper = -1};
    int result = take(&t, e);
    struct err other;
    if (aside_end(&t.aside, &other) < 0 && result == 0)
        *e = other, result = -1;
    if (run_on(&t, false, &other) < 0 && result == 0) {
        *e = other;
        result = -1;
    }
    if (result < 0 && t.s.pod && sleepers_settle(&t.pod, &other) < 0)
        output_event("warn", "\"message\":\"%s\"", "waits that go on begin anew after a restore");
    if (result < 0)
        ended_say(&t, e);
    bool copied = t.memories.copied;
    memories_end(&t.memories);
    tracks_end(&t.tracks);
    if (t.s.pod && copied)
        huge_give_back(&t.pod, &t.huge);
    huge_free(&t.huge);
    map_flags_free(&t.map_flags);
    sleepers_free(&t.sleepers);
    buf_free(&t.waits);
    if (t.s.store)
        store_close(t.s.store);
    victims_free(t.s.victims, t.s.victim_count);
    image_free(&t.s.image);
    parent_pages_free(&t.s);
    image_free(&t.parent);
    plain_files_free(&t.s.plain_files);
    plain_files_free(&t.s.regular);
    cleanup_close(&t.s.upper);
    leases_free(&t.s);
    spaces_drop(&t.s);
    if (t.s.pod)
        pod_close(&t.pod);
    return result < 0 ? err_wrap(e, "snapshot of %s", options->pod) : 0;
}
