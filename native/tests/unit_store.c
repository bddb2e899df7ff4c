/* The store: what was committed comes back, equal chunks once, zeros not at all, many writers at once. */
#include "tests/store_numbers.h"

#include <pthread.h>
#include <sys/wait.h>

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
    return done_testing();
}
