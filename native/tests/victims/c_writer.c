/* `c_writer [huge]`: writes all of its pages (of 16 MiB; 96 MiB in huge pages) over and over, after SIGUSR2 only every sixteenth: nobody should watch it in between, and each page must still be as it was at
 * a cut. What it wrote last stands in shared memory, which no snapshot takes over from another. */
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>

#include "victim.h"

enum { PAGE = 4096, FEW_PAGES = 4096, HUGE_PAGES = 24576, CALM = 16 };
static const uintptr_t huge_bytes = 2ul << 20;
static volatile sig_atomic_t calm;
static uint64_t pages = FEW_PAGES;

static void on_usr2(int number)
{
    (void)number;
    calm = 1;
}

static void page_write(uint8_t *memory, uint64_t *model, uint64_t page, uint64_t round)
{
    model[page] = round * pages + page;
    memcpy(memory + page * PAGE, &model[page], sizeof model[page]);
    memcpy(memory + (page + 1) * PAGE - sizeof model[page], &model[page], sizeof model[page]);
}

static void pages_check(const uint8_t *memory, const uint64_t *model)
{
    for (uint64_t k = 0; k < pages; k++)
        MUST(memcmp(memory + k * PAGE, &model[k], sizeof model[k]) == 0 && memcmp(memory + (k + 1) * PAGE - sizeof model[k], &model[k], sizeof model[k]) == 0);
}

static uint8_t *memory_make(bool huge)
{
    uint8_t *memory = mmap(NULL, pages * PAGE + huge_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(memory != MAP_FAILED);
    if (!huge)
        return memory;
    memory = (uint8_t *)(((uintptr_t)memory + huge_bytes - 1) & ~(huge_bytes - 1));
    MUST(madvise(memory, pages * PAGE, MADV_HUGEPAGE) == 0);
    return memory;
}

int main(int argc, char **argv)
{
    const struct timespec moment = {0, 200000};
    bool huge = argc > 1 && strcmp(argv[1], "huge") == 0;
    pages = huge ? HUGE_PAGES : FEW_PAGES;
    uint8_t *memory = memory_make(huge);
    uint64_t *model = mmap(NULL, pages * sizeof *model, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(model != MAP_FAILED);
    for (uint64_t k = 0; k < pages; k++)
        page_write(memory, model, k, 0);
    signal(SIGUSR2, on_usr2);
    victim_ready();
    for (uint64_t round = 1; !asked; round++)
        for (uint64_t k = 0; k < pages && !asked; k += calm ? CALM : 1) {
            page_write(memory, model, k, round);
            if (k % 256 == 0)
                nanosleep(&moment, NULL);
        }
    pages_check(memory, model);
    return victim_ok();
}
