/* Writes all of its pages over and over, after SIGUSR2 only every sixteenth: nobody should watch it in between, and each page must still be as it was at
 * a cut. What it wrote last stands in shared memory, which no snapshot takes over from another. */
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>

#include "victim.h"

enum { PAGE = 4096, PAGES = 4096, CALM = 16 };
static volatile sig_atomic_t calm;

static void on_usr2(int number)
{
    (void)number;
    calm = 1;
}

static void page_write(uint8_t *memory, uint64_t *model, uint64_t page, uint64_t round)
{
    model[page] = round * PAGES + page;
    memcpy(memory + page * PAGE, &model[page], sizeof model[page]);
    memcpy(memory + (page + 1) * PAGE - sizeof model[page], &model[page], sizeof model[page]);
}

static void pages_check(const uint8_t *memory, const uint64_t *model)
{
    for (uint64_t k = 0; k < PAGES; k++)
        MUST(memcmp(memory + k * PAGE, &model[k], sizeof model[k]) == 0 && memcmp(memory + (k + 1) * PAGE - sizeof model[k], &model[k], sizeof model[k]) == 0);
}

int main(void)
{
    const struct timespec moment = {0, 200000};
    uint8_t *memory = mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t *model = mmap(NULL, PAGES * sizeof *model, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(memory != MAP_FAILED && model != MAP_FAILED);
    for (uint64_t k = 0; k < PAGES; k++)
        page_write(memory, model, k, 0);
    signal(SIGUSR2, on_usr2);
    victim_ready();
    for (uint64_t round = 1; !asked; round++)
        for (uint64_t k = 0; k < PAGES && !asked; k += calm ? CALM : 1) {
            page_write(memory, model, k, round);
            if (k % 256 == 0)
                nanosleep(&moment, NULL);
        }
    pages_check(memory, model);
    return victim_ok();
}
