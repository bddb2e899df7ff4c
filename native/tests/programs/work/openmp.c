/* Loops, sections, tasks and critical parts under OpenMP; whole numbers only, so that no order of summing matters. */
#include <stdint.h>
#include <stdio.h>
#include <time.h>

static uint64_t mix(uint64_t x, int rounds)
{
    while (rounds--)
        x = (x * 6364136223846793005u + 1442695040888963407u) ^ x >> 29;
    return x;
}
static uint64_t tree(uint64_t x, int depth)
{
    uint64_t left = 0, right = 0;
    if (depth == 0)
        return mix(x, 2000);
#pragma omp task shared(left)
    left = tree(2 * x, depth - 1);
#pragma omp task shared(right)
    right = tree(2 * x + 1, depth - 1);
#pragma omp taskwait
    return left ^ right;
}
int main(void)
{
    uint64_t state = 1;
    for (int step = 0; step < 150; step++) {
        uint64_t sum = 0, most = 0, forest = 0;
#pragma omp parallel for schedule(dynamic, 7) reduction(+ : sum)
        for (int k = 0; k < 400; k++) {
            uint64_t x = mix(state + (uint64_t)k, 500);
            sum += x;
#pragma omp critical
            most = x > most ? x : most;
        }
#pragma omp parallel num_threads(4)
#pragma omp single
        forest = tree(state, 5);
        state = sum ^ most ^ forest;
        nanosleep(&(struct timespec){0, 12000000}, NULL);
        printf("step %d %llu\n", step, (unsigned long long)state);
        fflush(stdout);
    }
    puts("end");
    return 0;
}
