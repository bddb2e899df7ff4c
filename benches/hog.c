/* A process with MEBIBYTES of incompressible memory: `hog MEBIBYTES`. Prints `ready`, then checks a page now and then; on SIGUSR1 it checks
 * every page, prints `OK` and ends. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static volatile sig_atomic_t asked;

static void on_signal(int signal)
{
    asked = signal;
}

static uint64_t value(uint64_t at)
{
    at = (at ^ at >> 30) * 0xbf58476d1ce4e5b9u;
    at = (at ^ at >> 27) * 0x94d049bb133111ebu;
    return at ^ at >> 31;
}

int main(int argc, char **argv)
{
    uint64_t words = strtoull(argc > 1 ? argv[1] : "1024", NULL, 10) << 17, *memory = malloc(words * 8);
    if (!memory)
        return 1;
    for (uint64_t k = 0; k < words; k++)
        memory[k] = value(k);
    signal(SIGUSR1, on_signal);
    puts("ready");
    fflush(stdout);
    while (!asked)
        usleep(10000);
    for (uint64_t k = 0; k < words; k++)
        if (memory[k] != value(k))
            return printf("word %lu is wrong\n", k), 2;
    puts("OK");
    return 0;
}
