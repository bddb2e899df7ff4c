/* Random work on memory: writes by the process and by the kernel, dropped pages, mappings that go, come and move, forks, huge pages, huge pages that
 * go and leave no page table. A model says what each page must hold; it stands in a mapped file's memory, which no snapshot takes over from another. SIGUSR2: the same anew by execve. */
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include "victim.h"

enum { PAGE = 4096, SLOTS = 24, PAGES = 64, BALLAST = 3072, HUGE = 1024, SPARSE = 15000, TABLES = 6, TABLE = 512 };
#define SLOT_AT 0x200000000ul
#define SLOT_STEP 0x100000ul
#define BALLAST_AT 0x300000000ul
#define TABLES_AT 0x400000000ul

static struct {
    uint64_t seed, tags[SLOTS][PAGES], ballast[BALLAST + HUGE], tables[TABLES];
    int mapped[SLOTS], whole[SLOTS]; /* whole: no other mapping was made inside of it */
} model = {.seed = 1};
static volatile sig_atomic_t anew;

static void on_usr2(int number)
{
    (void)number;
    anew = 1;
}

static uint64_t mixed(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ul;
    z = (z ^ z >> 27) * 0x94d049bb133111ebul;
    return z ^ z >> 31;
}

static uint64_t below(uint64_t n)
{
    return mixed(model.seed += 0x9e3779b97f4a7c15ul) % n;
}

static uint8_t *page_of(int slot, uint64_t page)
{
    return (uint8_t *)(SLOT_AT + (uint64_t)slot * SLOT_STEP + page * PAGE);
}

static uint8_t *ballast_of(uint64_t page)
{
    return (uint8_t *)(BALLAST_AT + page * PAGE);
}

static void content(uint64_t tag, uint64_t out[PAGE / 8])
{
    for (uint64_t k = 0; k < PAGE / 8; k++)
        out[k] = tag ? mixed(tag + k) : 0;
}

static void page_check(const uint8_t *page, uint64_t tag)
{
    uint64_t wanted[PAGE / 8];
    content(tag, wanted);
    if (memcmp(page, wanted, PAGE) != 0) {
        printf("page %p is not %lx\n", (const void *)page, tag);
        fail("content");
    }
}

/* By a store, by read(2), or by process_vm_writev(2). */
static void page_write(uint8_t *page, uint64_t *tag)
{
    uint64_t data[PAGE / 8], new = below(UINT64_MAX) | 1;
    int ends[2];
    content(new, data);
    switch (below(4)) {
    case 0:
        MUST(pipe(ends) == 0 && write(ends[1], data, PAGE) == PAGE && read(ends[0], page, PAGE) == PAGE);
        close(ends[0]);
        close(ends[1]);
        break;
    case 1: {
        struct iovec from = {data, PAGE}, to = {page, PAGE};
        MUST(process_vm_writev(getpid(), &from, 1, &to, 1, 0) == PAGE);
        break;
    }
    default:
        memcpy(page, data, PAGE);
    }
    *tag = new;
}

static void slot_map(int slot)
{
    void *at = page_of(slot, 0);
    MUST(mmap(at, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == at);
    memset(model.tags[slot], 0, sizeof model.tags[slot]);
    model.mapped[slot] = model.whole[slot] = 1;
}

static void slot_move(int from, int to)
{
    if (!model.mapped[from] || model.mapped[to] || !model.whole[from])
        return;
    MUST(mremap(page_of(from, 0), PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, page_of(to, 0)) == page_of(to, 0));
    memcpy(model.tags[to], model.tags[from], sizeof model.tags[to]);
    model.mapped[from] = 0;
    model.mapped[to] = model.whole[to] = 1;
}

static void child_spoils(int slot)
{
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0) {
        memset(page_of(slot, 0), 0x77, PAGES * PAGE);
        _exit(0);
    }
    int status;
    pid_t got;
    do
        got = waitpid(pid, &status, 0);
    while (got < 0);
    MUST(got == pid && status == 0);
}

static void slot_work(int slot)
{
    uint64_t page = below(PAGES), count = 1 + below(PAGES - page);
    switch (below(16)) {
    case 0:
        MUST(munmap(page_of(slot, 0), PAGES * PAGE) == 0);
        model.mapped[slot] = 0;
        break;
    case 1:
        MUST(madvise(page_of(slot, page), count * PAGE, MADV_DONTNEED) == 0);
        memset(&model.tags[slot][page], 0, count * sizeof(uint64_t));
        break;
    case 2:
        slot_move(slot, (int)below(SLOTS));
        break;
    case 3:
        MUST(mprotect(page_of(slot, page), count * PAGE, PROT_READ) == 0);
        MUST(mprotect(page_of(slot, page), count * PAGE, PROT_READ | PROT_WRITE) == 0);
        break;
    case 4:
        child_spoils(slot);
        break;
    case 5: /* at once another mapping at the same place */
        MUST(mmap(page_of(slot, page), count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page_of(slot, page));
        memset(&model.tags[slot][page], 0, count * sizeof(uint64_t));
        model.whole[slot] = 0;
        break;
    case 6:
        page_check(page_of(slot, page), model.tags[slot][page]); /* a zero page is read */
        break;
    default:
        page_write(page_of(slot, page), &model.tags[slot][page]);
    }
}

static void ballast_drop(void)
{
    uint64_t page = below(BALLAST), count = 1 + below(BALLAST - page);
    MUST(madvise(ballast_of(page), count * PAGE, MADV_DONTNEED) == 0);
    memset(&model.ballast[page], 0, count * sizeof(uint64_t));
}

static uint8_t *table_of(uint64_t table, uint64_t page)
{
    return (uint8_t *)(TABLES_AT + (table * TABLE + page) * PAGE);
}

/* Huge pages that come and go as a whole, and are never touched between. */
static void table_turn(uint64_t table)
{
    if (model.tables[table])
        MUST(madvise(table_of(table, 0), TABLE * PAGE, MADV_DONTNEED) == 0);
    model.tables[table] = model.tables[table] ? 0 : below(255) + 1;
    for (uint64_t k = 0; model.tables[table] && k < TABLE; k++)
        memset(table_of(table, k), (int)model.tables[table], PAGE);
}

static void tables_check(void)
{
    for (uint64_t table = 0; table < TABLES; table++)
        for (uint64_t k = 0; k < TABLE; k++)
            MUST(*table_of(table, k) == model.tables[table]);
}

static void step(void)
{
    int slot = (int)below(SLOTS);
    if (!model.mapped[slot])
        slot_map(slot);
    else
        slot_work(slot);
    uint64_t many = below(400) == 0 ? BALLAST : below(3);
    if (many > 3) /* memory beside memory that is watched */
        memset(sbrk(4 * PAGE), 0x5a, 4 * PAGE);
    for (uint64_t k = 0; k < many; k++) {
        uint64_t page = below(BALLAST + HUGE);
        page_write(ballast_of(page), &model.ballast[page]);
    }
    if (below(500) == 0)
        ballast_drop();
    if (below(500) == 0)
        table_turn(below(TABLES));
    uint64_t page = below(BALLAST + HUGE);
    page_check(ballast_of(page), model.ballast[page]);
}

int main(int argc, char **argv)
{
    struct timespec now;
    if (!(personality(0xffffffff) & ADDR_NO_RANDOMIZE)) { /* an execve finds everything at the same addresses */
        personality(ADDR_NO_RANDOMIZE);
        execv("/proc/self/exe", argv);
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    clock_gettime(CLOCK_MONOTONIC, &now);
    model.seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    model.seed = mixed(model.seed + (uint64_t)now.tv_nsec);
    MUST(mmap(ballast_of(0), (BALLAST + HUGE) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == ballast_of(0));
    madvise(ballast_of(BALLAST), HUGE * PAGE, MADV_HUGEPAGE);
    for (uint64_t k = 0; k < BALLAST + HUGE; k++)
        page_write(ballast_of(k), &model.ballast[k]);
    MUST(mmap(table_of(0, 0), TABLES * TABLE * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == table_of(0, 0));
    madvise(table_of(0, 0), TABLES * TABLE * PAGE, MADV_HUGEPAGE);
    for (uint64_t table = 0; table < TABLES; table++)
        table_turn(table);
    uint8_t *sparse = mmap(NULL, SPARSE * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(sparse != MAP_FAILED && madvise(sparse, SPARSE * PAGE, MADV_NOHUGEPAGE) == 0);
    for (int k = 0; k < SPARSE; k += 3) /* more pieces than a buffer of the kernel holds */
        sparse[(size_t)k * PAGE] = (uint8_t)(k % 251 + 1);
    signal(SIGUSR2, on_usr2);
    victim_ready();
    while (!asked && !anew) {
        step();
        usleep(200);
    }
    for (int slot = 0; slot < SLOTS; slot++)
        for (uint64_t k = 0; model.mapped[slot] && k < PAGES; k++)
            page_check(page_of(slot, k), model.tags[slot][k]);
    for (uint64_t k = 0; k < BALLAST + HUGE; k++)
        page_check(ballast_of(k), model.ballast[k]);
    tables_check();
    for (int k = 0; k < SPARSE; k++)
        MUST(sparse[(size_t)k * PAGE] == (k % 3 ? 0 : k % 251 + 1));
    if (anew)
        execv("/proc/self/exe", argv);
    return victim_ok();
}
