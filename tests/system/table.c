/* A program with memory that is told apart page by page: `table ROUNDS` fills PAGES pages, each with its number and numbers that look random, and
 * compares all of them in every round; at the end it prints `table: done ROUNDS`, or how many pages were not what they were. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PAGES = 1024, WORDS = 512 };

static void page_make(uint64_t page[WORDS], uint64_t number)
{
    uint64_t x = number * 0x9e3779b97f4a7c15u + 1;
    for (size_t k = 0; k < WORDS; k++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        page[k] = x;
    }
    snprintf((char *)page, 32, "table page %06lu", (unsigned long)number);
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 0, wrong = 0;
    uint64_t (*table)[WORDS] = malloc(sizeof *table * PAGES), right[WORDS];
    for (uint64_t k = 0; table && k < PAGES; k++)
        page_make(table[k], k);
    for (long round = 0; table && round < rounds; round++) {
        for (uint64_t k = 0; k < PAGES; k++) {
            page_make(right, k);
            wrong += memcmp(table[k], right, sizeof right) != 0;
        }
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    if (!table || wrong)
        printf("table: %ld pages were not what they were\n", wrong);
    else
        printf("table: done %ld\n", rounds);
    return !table || wrong;
}
