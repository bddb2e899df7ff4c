/* TAP for the unit tests in C: ok(condition, "sentence"); ends with done_testing(). A test prints its seed. */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int tap_count, tap_failures;

__attribute__((format(printf, 2, 3))) static inline bool ok(bool condition, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("%s %d - ", condition ? "ok" : "not ok", ++tap_count);
    vprintf(format, args);
    printf("\n");
    va_end(args);
    tap_failures += !condition;
    fflush(stdout);
    return condition;
}

static inline int done_testing(void)
{
    printf("1..%d\n", tap_count);
    return tap_failures ? 1 : 0;
}

/* Seeded numbers (splitmix64); TEST_SEED repeats a run. */
static uint64_t tap_state;

static inline void seed_begin(void)
{
    const char *given = getenv("TEST_SEED");
    tap_state = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL) ^ (uint64_t)getpid() << 32;
    printf("# TEST_SEED=%lu\n", tap_state);
}

static inline uint64_t random_next(void)
{
    uint64_t z = tap_state += 0x9e3779b97f4a7c15ul;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ul;
    z = (z ^ z >> 27) * 0x94d049bb133111ebul;
    return z ^ z >> 31;
}

static inline uint64_t random_below(uint64_t n)
{
    return random_next() % n;
}

static inline void random_fill(void *data, size_t len)
{
    uint8_t *p = data;
    for (size_t i = 0; i < len; i += 8) {
        uint64_t word = random_next();
        memcpy(p + i, &word, len - i < 8 ? len - i : 8);
    }
}

/* A directory of the test's own, removed at exit. */
static char tap_dir[64];

static inline void tap_dir_remove(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", tap_dir);
    if (tap_dir[0] && system(command) != 0)
        fprintf(stderr, "%s is left behind\n", tap_dir);
}

static inline const char *tap_dir_make(void)
{
    snprintf(tap_dir, sizeof tap_dir, "/tmp/unit.XXXXXX");
    if (!mkdtemp(tap_dir))
        abort();
    atexit(tap_dir_remove);
    return tap_dir;
}
