/* One process: memory, registers of the floating-point unit, its pid, heap, stack, clock that does not jump.
 * COVERAGE: private memory, heap, stack | captured |
 * COVERAGE: registers of the floating-point unit | captured |
 * COVERAGE: pid, parent pid | captured |
 * COVERAGE: clocks that are read all the time (vDSO) | captured | nobody is captured in the middle of a reading
 * COVERAGE: a reading of a clock that a signal handler has interrupted, captured in the handler | differs | that one reading is off by the time between cut and restore */
#include <stdint.h>
#include <time.h>

#include "victim.h"

#define WORDS (1 << 20)
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(void)
{
    uint64_t *heap = malloc(WORDS * sizeof *heap), local[512], sum = 0;
    pid_t pid = getpid(), parent = getppid();
    srand(7);
    for (size_t k = 0; k < WORDS; k++)
        sum += heap[k] = (uint64_t)rand() << 31 ^ (uint64_t)rand();
    memset(local, 0x5a, sizeof local);
    victim_ready();
    double last = now(), x = 1, y = 1;
    for (unsigned long turn = 0; !asked; turn++) {
        double t = now();
        if (t < last || t > last + 20)
            fail("the clock jumped");
        last = t;
        x = x * 1.0000001 + 1e-9, y = y * 1.0000001 + 1e-9;
        if (x != y)
            fail("registers");
        if (turn % 4096 == 0 && (getpid() != pid || getppid() != parent))
            fail("its pid");
    }
    uint64_t check = 0;
    for (size_t k = 0; k < WORDS; k++)
        check += heap[k];
    for (size_t k = 0; k < 512; k++)
        if (local[k] != 0x5a5a5a5a5a5a5a5aul)
            fail("stack");
    void *more = malloc(8 << 20);
    if (check != sum || !more)
        fail("heap");
    return victim_ok();
}
