/* Every failed write, every kill and every flipped byte leaves the store whole: what was committed stays. */
#include "tests/store_numbers.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

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

int main(void)
{
    seed_begin();
    const char *base = tap_dir_make();
    every_failing_call(base, ENOSPC, true, E_NO_SPACE);
    every_failing_call(base, ENOSPC, false, E_NO_SPACE);
    every_failing_call(base, EIO, false, E_IO);
    killed_at_random(base);
    damage_is_found_and_forgotten(base);
    return done_testing();
}
