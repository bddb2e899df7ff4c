/* The store: what was committed comes back, equal chunks once, every failed write and every kill leaves it whole. */
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "store/crew.h"
#include "store/sha256.h"
#include "store/store_io.h"
#include "tests/tap.h"

/* ---- the n-th call of the disk fails (all later ones too, as on a full disk, or that one only) */
static long fault_at, fault_calls;
static int fault_number;
static bool fault_stays;

int store_io_fault(const char *operation)
{
    (void)operation;
    long call = __atomic_add_fetch(&fault_calls, 1, __ATOMIC_RELAXED);
    return fault_at && (call == fault_at || (fault_stays && call > fault_at)) ? fault_number : 0;
}

static void fault_set(long at, int number, bool stays)
{
    fault_calls = 0;
    fault_at = at;
    fault_number = number;
    fault_stays = stays;
}

/* ---- contents: number k gives the same bytes always; odd ones compress. Threads use it: no shared state. */
static uint64_t mixed(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ul;
    z = (z ^ z >> 27) * 0x94d049bb133111ebul;
    return z ^ z >> 31;
}

static size_t content_of(uint64_t k, uint8_t out[CHUNK_MAX])
{
    size_t len = 1 + mixed(k + 1) % (k % 8 ? 9000 : CHUNK_MAX);
    for (size_t i = 0; i < len; i += 8) {
        uint64_t word = mixed(k * 1000003 + i + 7) & (k % 2 ? 0x0101010101010101ul : ~0ul);
        memcpy(out + i, &word, len - i < 8 ? len - i : 8);
    }
    out[0] = (uint8_t)(k | 1);
    return len;
}

static int put_number(struct store *s, uint64_t k, struct digest *d, struct err *e)
{
    static _Thread_local uint8_t data[CHUNK_MAX];
    uint64_t stored;
    size_t len = content_of(k, data);
    return store_put(s, data, len, d, &stored, e);
}

static bool has_number(struct store *s, uint64_t k)
{
    static _Thread_local uint8_t want[CHUNK_MAX], got[CHUNK_MAX];
    struct digest d;
    struct err e = {0};
    size_t len = content_of(k, want);
    sha256_of(want, len, &d);
    if (!store_has(s, &d))
        return false;
    if (store_get(s, &d, got, len, &e)) {
        printf("# %s\n", e.message);
        return false;
    }
    return memcmp(want, got, len) == 0;
}

static struct store *opened(const char *dir, bool create)
{
    struct store *s = NULL;
    struct err e = {0};
    if (store_open(dir, create, &s, &e)) {
        printf("# %s\n", e.message);
        abort();
    }
    return s;
}

static bool put_range(struct store *s, uint64_t from, uint64_t to, struct err *e)
{
    struct digest d;
    for (uint64_t k = from; k < to; k++)
        if (put_number(s, k, &d, e))
            return false;
    return true;
}

static bool has_range(const char *dir, uint64_t from, uint64_t to)
{
    struct store *s = opened(dir, false);
    uint64_t missing = 0;
    for (uint64_t k = from; k < to; k++)
        missing += !has_number(s, k);
    store_close(s);
    return missing == 0;
}

static uint64_t bytes_below(const char *dir)
{
    AUTO_FREE char *command = xasprintf("find %s -type f -printf '%%s\\n' | awk '{n+=$1} END {print n+0}'", dir);
    FILE *f = popen(command, "r");
    uint64_t n = 0;
    if (!f || fscanf(f, "%lu", &n) != 1)
        abort();
    pclose(f);
    return n;
}

/* ---- tests */
static void committed_chunks_come_back(const char *dir)
{
    struct err e = {0};
    struct store *s = opened(dir, true);
    ok(put_range(s, 0, 100, &e), "100 chunks are put");
    ok(has_number(s, 5), "a chunk can be read before the commit");
    ok(store_commit(s, &e) == 0, "they are committed");
    store_close(s);
    ok(has_range(dir, 0, 100), "all come back, byte for byte, after the store was opened anew");
}

static void equal_chunks_are_kept_once(const char *dir)
{
    struct err e = {0};
    uint64_t before = bytes_below(dir), stored = 1;
    struct store *s = opened(dir, true);
    uint8_t data[CHUNK_MAX];
    struct digest d;
    size_t len = content_of(7, data);
    ok(!store_put(s, data, len, &d, &stored, &e) && stored == 0, "a chunk that is there takes no room again");
    ok(!store_commit(s, &e), "a commit of nothing new is done");
    store_close(s);
    ok(bytes_below(dir) == before, "and the store has not grown by a byte");
}

static void zeros_are_not_kept(const char *dir)
{
    struct err e = {0};
    uint64_t stored = 1;
    struct store *s = opened(dir, true);
    uint8_t data[5000] = {0}, back[5000];
    struct digest d;
    ok(!store_put(s, data, sizeof data, &d, &stored, &e) && digest_is_zero(&d) && stored == 0, "zeros have the zero digest and take no room");
    memset(back, 1, sizeof back);
    ok(!store_get(s, &d, back, sizeof back, &e) && memcmp(data, back, sizeof data) == 0, "and read as zeros");
    store_close(s);
}

static void wrong_requests_are_refused(const char *dir)
{
    struct err e = {0};
    struct store *s = opened(dir, false);
    uint8_t data[CHUNK_MAX];
    struct digest d;
    size_t len = content_of(3, data);
    sha256_of(data, len, &d);
    ok(store_get(s, &d, data, len - 1, &e) == -1 && e.code == E_BAD_IMAGE, "a chunk of another length is refused: %s", e.message);
    ok(store_get(s, &d, data, CHUNK_MAX + 1, &e) == -1 && e.code == E_BAD_IMAGE, "a length of more than a chunk is refused");
    d.bytes[0] ^= 1;
    ok(store_get(s, &d, data, len, &e) == -1 && e.code == E_BAD_IMAGE && strstr(e.message, "not in the store"), "a chunk that is not there is named: %s", e.message);
    store_close(s);
    ok(store_open("/nonexistent/store", false, &s, &e) == -1 && e.code == E_NO_INPUT, "a store that is not there is said to be missing");
}

static void uncommitted_chunks_are_lost(const char *dir)
{
    struct err e = {0};
    uint64_t before = bytes_below(dir);
    struct store *s = opened(dir, true);
    bool put = put_range(s, 1000, 1010, &e);
    store_close(s);
    ok(put && bytes_below(dir) == before && !has_range(dir, 1000, 1001), "what was not committed is gone when the store is closed");
}

struct writer {
    const char *dir;
    uint64_t from;
    struct store *store;
    bool good;
};

static void *writer_run(void *argument)
{
    struct writer *w = argument;
    struct err e = {0};
    w->good = put_range(w->store, w->from, w->from + 60, &e);
    for (uint64_t k = w->from; k < w->from + 60; k++)
        w->good = w->good && has_number(w->store, k);
    return NULL;
}

static void threads_put_at_once(const char *dir)
{
    struct err e = {0};
    struct store *s = opened(dir, true);
    struct writer w[4];
    pthread_t t[4];
    for (uint64_t i = 0; i < 4; i++) {
        w[i] = (struct writer){dir, 2000 + 30 * i, s, false}; /* they overlap by half */
        pthread_create(&t[i], NULL, writer_run, &w[i]);
    }
    bool good = true;
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
        good = good && w[i].good;
    }
    good = good && !store_commit(s, &e);
    store_close(s);
    ok(good && has_range(dir, 2000, 2150), "four threads put overlapping chunks at once, and all come back");
}

static void processes_write_at_once(const char *dir)
{
    pid_t pids[3];
    for (uint64_t i = 0; i < 3; i++)
        if ((pids[i] = fork()) == 0) {
            struct err e = {0};
            bool good = true;
            for (uint64_t round = 0; round < 5; round++) {
                struct store *s = opened(dir, true);
                good = good && put_range(s, 3000 + 20 * round, 3020 + 20 * round, &e) && !store_commit(s, &e);
                store_close(s);
            }
            _exit(good ? 0 : 1);
        }
    bool good = true;
    for (int i = 0; i < 3; i++) {
        int status;
        waitpid(pids[i], &status, 0);
        good = good && status == 0;
    }
    ok(good && has_range(dir, 3000, 3100), "three processes write the same store at once");
}

/* ---- ranges */
static uint8_t *memory;
static const size_t memory_len = 3 * CHUNK_MAX + 5000;

static int memory_source(void *ctx, uint64_t at, void *out, size_t len, struct err *e)
{
    (void)e;
    memcpy(out, memory + (at - *(uint64_t *)ctx), len);
    return 0;
}

static int memory_sink(void *ctx, uint64_t at, const void *data, size_t len, struct err *e)
{
    (void)e;
    uint8_t *to = *(uint8_t **)ctx + (at - 0x7000 - CHUNK_MAX);
    if (data)
        memcpy(to, data, len);
    else
        memset(to, 0, len);
    return 0;
}

static void ranges_are_cut_and_come_back(const char *dir)
{
    struct err e = {0};
    struct store *s = opened(dir, true);
    memory = xcalloc(memory_len, 1);
    random_fill(memory, memory_len);
    memset(memory + CHUNK_MAX - 0x7000, 0, CHUNK_MAX);
    uint64_t base = 0x7000 + CHUNK_MAX, stored = 0;
    struct store_range ranges[] = {{base, CHUNK_MAX}, {base + CHUNK_MAX, memory_len - CHUNK_MAX}};
    struct extent *x = NULL;
    size_t count = 0;
    bool put = !store_put_ranges(s, ranges, 2, memory_source, &base, &x, &count, &stored, &e);
    bool aligned = true, ordered = true;
    for (size_t i = 0; i < count; i++) {
        aligned = aligned && x[i].len <= CHUNK_MAX && x[i].at / CHUNK_MAX == (x[i].at + x[i].len - 1) / CHUNK_MAX;
        ordered = ordered && (i == 0 || x[i].at == x[i - 1].at + x[i - 1].len);
    }
    ok(put && aligned && ordered && stored > 2 * CHUNK_MAX, "ranges are cut at multiples of a chunk, in order");
    uint8_t *back = xcalloc(memory_len, 1);
    memset(back, 7, memory_len);
    ok(!store_get_ranges(s, x, count, memory_sink, &back, &e) && memcmp(back, memory, memory_len) == 0, "and come back through the sink, zeros too");
    struct extent *again = NULL;
    size_t again_count = 0;
    uint64_t again_stored = 0;
    ok(!store_put_extents(s, base + CHUNK_MAX - 0x7000, memory + CHUNK_MAX - 0x7000, memory_len - CHUNK_MAX + 0x7000, &again,
                          &again_count, &again_stored, &e) && again_stored == 0,
       "content at the same place in another range meets its old chunks");
    ok(!store_commit(s, &e), "committed");
    store_close(s);
    free(x);
    free(again);
    free(back);
    free(memory);
}

static int piece_fails(void *ctx, size_t worker, size_t i, struct err *e)
{
    (void)worker;
    __atomic_add_fetch((long *)ctx, 1, __ATOMIC_RELAXED);
    return i == 50 ? err_set(e, E_IO, "piece 50") : 0;
}

static void a_crew_stops_at_a_failure(void)
{
    struct err e = {0};
    long done = 0;
    int result = crew_work(100000, piece_fails, &done, &e);
    ok(result == -1 && strcmp(e.message, "piece 50") == 0 && done >= 50 && done < 100000,
       "a crew gives back the failure of a piece and stops soon (%ld of 100000 done)", done);
}

static void files_keep_their_holes(const char *dir)
{
    struct err e = {0};
    AUTO_FREE char *from = xasprintf("%s.from", dir), *to = xasprintf("%s.to", dir);
    AUTO_CLOSE int in = open(from, O_RDWR | O_CREAT | O_CLOEXEC, 0600), out = open(to, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    uint64_t size = 64ul << 20, stored = 0;
    uint8_t data[10000];
    random_fill(data, sizeof data);
    if (ftruncate(in, (off_t)size) || pwrite(in, data, sizeof data, 20 << 20) < 0 || pwrite(in, data, 10, (off_t)size - 10) < 0)
        abort();
    struct store *s = opened(dir, true);
    struct extent *x = NULL;
    size_t count = 0;
    int put = store_put_file(s, in, size, &x, &count, &stored, &e);
    ok(!put && count == 2 && stored < 40000, "a sparse file of 64 MiB takes %zu extents", count);
    ok(!store_get_file(s, out, size, x, count, &e), "it is written back");
    AUTO_FREE char *compare = xasprintf("cmp -s %s %s", from, to);
    struct stat st;
    fstat(out, &st);
    ok(system(compare) == 0 && st.st_blocks * 512 < 100000, "with the same content and its holes (%ld blocks)", (long)st.st_blocks);
    struct extent far = {.at = size - 5, .len = 10, .digest = x[0].digest};
    ok(store_get_file(s, out, size, &far, 1, &e) == -1 && e.code == E_BAD_IMAGE, "content behind the end of a file is refused");
    unlink(from);
    unlink(to);
    store_close(s);
    free(x);
}

/* ---- faults */
/* Whatever fails: the call says so, what was committed before stays, and the same content can be put afterwards. */
static void every_failing_call(const char *base, int number, bool stays, enum code code)
{
    AUTO_FREE char *dir = xasprintf("%s/faults-%d-%d", base, number, stays);
    struct err e = {0};
    fault_set(0, 0, false);
    struct store *s = opened(dir, true);
    bool good = put_range(s, 0, 5, &e) && !store_commit(s, &e);
    store_close(s);
    long call = 1, silent = 0, lost = 0, wrong_code = 0, unusable = 0;
    for (bool reached = true; reached && good; call++) {
        struct err f = {0};
        uint64_t from = 10 + 10 * (uint64_t)call;
        fault_set(call, number, stays);
        s = NULL;
        bool failed = store_open(dir, true, &s, &f) || !put_range(s, from, from + 5, &f) || store_commit(s, &f);
        reached = fault_calls >= call;
        fault_set(0, 0, false);
        silent += reached != failed;
        wrong_code += failed && f.code != code;
        if (s && failed) {
            struct err g = {0};
            int told_again = store_commit(s, &g); /* the error that a put gave; then it is over */
            (void)told_again;
            unusable += !put_range(s, from, from + 5, &g) || store_commit(s, &g);
        }
        store_close(s);
        lost += !has_range(dir, 0, 5);
        if (failed && s)
            lost += !has_range(dir, from, from + 5);
    }
    ok(good && call > 8 && !silent, "errno %d at each of %ld calls%s: each failure is told", number, call - 1, stays ? " and all later ones" : "");
    ok(!wrong_code, "with the right code");
    ok(!lost && !unusable, "nothing that was committed is lost, and the store stays usable at once");
}

/* ---- kill -9 at a random moment, again and again */
static void killed_at_random(const char *base)
{
    AUTO_FREE char *dir = xasprintf("%s/kills", base), *log = xasprintf("%s/kills.log", base);
    struct store *s = opened(dir, true);
    store_close(s);
    AUTO_CLOSE int fd = open(log, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    for (uint64_t round = 0; round < 60; round++) {
        pid_t pid = fork();
        if (pid == 0) {
            struct err e = {0};
            for (uint64_t k = round * 1000;; k += 4) {
                struct store *mine = opened(dir, true);
                if (!put_range(mine, k, k + 4, &e) || store_commit(mine, &e) || write(fd, &k, sizeof k) != sizeof k)
                    _exit(1);
                store_close(mine);
            }
        }
        usleep((useconds_t)(1000 + random_below(25000)));
        kill(pid, SIGKILL);
        int status;
        waitpid(pid, &status, 0);
        if (!WIFSIGNALED(status))
            abort();
    }
    uint64_t k, batches = 0, lost = 0;
    s = opened(dir, false);
    for (lseek(fd, 0, SEEK_SET); read(fd, &k, sizeof k) == (ssize_t)sizeof k; batches++)
        for (uint64_t i = 0; i < 4; i++)
            lost += !has_number(s, k + i);
    bool clean = store_damage(s, 0) == NULL;
    store_close(s);
    ok(batches > 0 && !lost && clean, "60 writers killed at random moments: all of %lu committed batches are whole", batches);
    struct gc_result r;
    struct err e = {0};
    AUTO_FREE char *images = xasprintf("%s/no-images", base), *parts = xasprintf("test -z \"$(find %s -name '*.part' -o -name '*.tmp')\"", dir);
    mkdir(images, 0700);
    int swept = store_gc(dir, images, 3600, false, &r, &e);
    ok(!swept && system(parts) == 0 && r.kept_chunks >= 4 * batches, "gc sweeps their uncommitted packs and nothing young (%lu chunks kept)%s", r.kept_chunks, e.message);
    s = opened(dir, false);
    lost = 0;
    for (lseek(fd, 0, SEEK_SET); read(fd, &k, sizeof k) == (ssize_t)sizeof k;)
        for (uint64_t i = 0; i < 4; i++)
            lost += !has_number(s, k + i);
    store_close(s);
    ok(lost == 0, "and all of the batches are still there");
}

static void damage_is_found_and_forgotten(const char *base)
{
    AUTO_FREE char *dir = xasprintf("%s/damage", base);
    struct err e = {0};
    struct digest d;
    struct store *s = opened(dir, true);
    bool put = !put_number(s, 1, &d, &e) && !store_commit(s, &e);
    store_close(s);
    AUTO_FREE char *flip = xasprintf("f=$(ls %s/packs/*.pack) && printf '\\377' | dd of=$f bs=1 seek=20 conv=notrunc status=none", dir);
    s = opened(dir, true);
    ok(put && system(flip) == 0 && !has_number(s, 1), "a flipped byte of a chunk is found when it is read");
    ok(!store_forget(s, &d, &e) && !store_has(s, &d), "the chunk can be given up");
    store_close(s);
    s = opened(dir, true);
    ok(!store_has(s, &d), "which other processes see too");
    ok(!put_number(s, 1, &d, &e) && !store_commit(s, &e) && has_number(s, 1), "then putting it again makes it whole");
    store_close(s);
    ok(has_range(dir, 1, 2), "for every later reader");
}

static int source_of_pattern(void *ctx, uint64_t at, void *out, size_t len, struct err *e)
{
    (void)e;
    memcpy(out, (uint8_t *)ctx + at, len);
    return 0;
}

static int sink_of_pattern(void *ctx, uint64_t at, const void *data, size_t len, struct err *e)
{
    (void)e;
    memcpy((uint8_t *)ctx + at, data ? data : (uint8_t[CHUNK_MAX]){0}, len);
    return 0;
}

/* Fields of numbers compress when bytes of one place stand together; noise does not, and is stored as it is. Odd lengths come back too. */
static void fields_of_numbers_compress(const char *dir)
{
    struct err e = {0};
    struct store *s = NULL;
    static double field[CHUNK_MAX / 8];
    static uint8_t back[CHUNK_MAX], noise[CHUNK_MAX];
    struct digest d;
    uint64_t stored = 0;
    for (size_t k = 0; k < CHUNK_MAX / 8; k++)
        field[k] = 300.0 + (double)k * 1e-4 + (double)(random_next() >> 40) * 1e-9;
    random_fill(noise, sizeof noise);
    bool put = !store_open(dir, true, &s, &e) && !store_put(s, field, sizeof field, &d, &stored, &e);
    ok(put && stored < sizeof field * 3 / 4, "a field of numbers takes %lu of %zu bytes", stored, sizeof field);
    ok(!store_get(s, &d, back, sizeof field, &e) && memcmp(back, field, sizeof field) == 0, "and comes back %s", e.message);
    put = !store_put(s, (uint8_t *)field + 3, sizeof field - 8, &d, &stored, &e);
    ok(put && !store_get(s, &d, back, sizeof field - 8, &e) && memcmp(back, (uint8_t *)field + 3, sizeof field - 8) == 0, "at any offset %s", e.message);
    put = !store_put(s, noise, sizeof noise, &d, &stored, &e);
    ok(put && stored == sizeof noise, "noise is stored as it is");
    put = !store_commit(s, &e);
    store_close(s);
    struct store *again = NULL;
    ok(put && !store_open(dir, false, &again, &e) && !store_get(again, &d, back, sizeof noise, &e) && memcmp(back, noise, sizeof noise) == 0,
       "also for another reader %s", e.message);
    store_close(again);
}

/* The source changes after it was copied, and what was copied counts; what found no room is put at once. */
static void copies_are_named_later(const char *dir)
{
    struct err e = {0};
    struct store *s = NULL;
    enum { BYTES = 9 << 20, ROOM = 2 << 20 };
    uint8_t *data = xcalloc(1, BYTES), *was = xcalloc(1, BYTES), *back = xcalloc(1, BYTES);
    random_fill(data, BYTES);
    memset(data + 3 * CHUNK_MAX, 0, CHUNK_MAX);
    memcpy(was, data, BYTES);
    struct extent *x = NULL;
    struct store_range ranges[] = {{0, BYTES}};
    struct digest *digests[BYTES / CHUNK_MAX];
    uint64_t lens[BYTES / CHUNK_MAX], stored = 0;
    size_t count = 0, tokens = 0, named = 0, zeros = 0;
    bool copied = !store_open(dir, true, &s, &e) && !store_later_begin(s, ROOM, ROOM, &e) &&
                  !store_put_ranges(s, ranges, 1, source_of_pattern, data, &x, &count, &stored, &e);
    memset(data, 0x55, BYTES);
    for (size_t k = 0; k < count; k++) {
        zeros += digest_is_zero(&x[k].digest);
        named += !store_later_is(&x[k].digest) && !digest_is_zero(&x[k].digest);
        if (store_later_is(&x[k].digest)) {
            digests[tokens] = &x[k].digest;
            lens[tokens++] = x[k].len;
        }
    }
    ok(copied && count == BYTES / CHUNK_MAX && zeros == 1 && tokens >= ROOM / CHUNK_MAX && named > 0 && named + tokens + 1 == count,
       "as much as there is room for is only copied (%zu of %zu) %s", tokens, count, e.message);
    ok(!store_later_put(s, digests, lens, tokens, &stored, &e) && !store_commit(s, &e) && !store_get_ranges(s, x, count, sink_of_pattern, back, &e) &&
           memcmp(back, was, BYTES) == 0, "what was copied comes back, whatever its source became %s", e.message);
    store_later_end(s);
    store_close(s);
    free(data), free(was), free(back), free(x);
}

int main(void)
{
    seed_begin();
    const char *base = tap_dir_make();
    AUTO_FREE char *dir = xasprintf("%s/a/b/store", base);
    committed_chunks_come_back(dir);
    equal_chunks_are_kept_once(dir);
    zeros_are_not_kept(dir);
    wrong_requests_are_refused(dir);
    uncommitted_chunks_are_lost(dir);
    threads_put_at_once(dir);
    processes_write_at_once(dir);
    ranges_are_cut_and_come_back(dir);
    a_crew_stops_at_a_failure();
    files_keep_their_holes(dir);
    copies_are_named_later(dir);
    fields_of_numbers_compress(dir);
    every_failing_call(base, ENOSPC, true, E_NO_SPACE);
    every_failing_call(base, ENOSPC, false, E_NO_SPACE);
    every_failing_call(base, EIO, false, E_IO);
    killed_at_random(base);
    damage_is_found_and_forgotten(base);
    return done_testing();
}
