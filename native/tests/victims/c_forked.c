/* Memory that processes have in common since fork(2) stays one copy: a family of five over 24 MiB, of which each writes its own scattered pages, a
 * mapping that grew in one and shrank in another, pages that one gave back. Before and after, everybody's private part is what it has written.
 * Beside a few pages that all have in common each has large memory of its own: neighbours in memory that are strangers to each other. */
/* COVERAGE: copy-on-write pages shared since fork | captured | private anonymous mappings; changed pages of mapped files are each process's own after a restore */
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "victim.h"

#define PAGE 4096ul
#define PAGES 6144ul
#define STEP 96ul /* each writes every 96th page: 64 pages, in all chunks */
#define CHILDREN 4
#define SLACK_KIB 700 /* page tables are not counted, but a few pages of neighbours are */

#define OWN_PAGES 500ul /* no multiple of what an image cuts memory into */
#define COMMON_PAGES 4ul

static unsigned char *area, *seam;
static int told[2];

static unsigned char base_of(size_t page)
{
    return (unsigned char)(page * 7 + 1);
}
static int is_own(size_t page, int who)
{
    return who && page % STEP == (size_t)who;
}
static long private_kib(void)
{
    char line[256];
    unsigned long start, end, kib;
    long sum = 0;
    int inside = 0;
    FILE *f = fopen("/proc/self/smaps", "r");
    MUST(f);
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
            inside = start < (uintptr_t)area + PAGES * PAGE && end > (uintptr_t)area;
        else if (inside && (sscanf(line, "Private_Dirty: %lu", &kib) == 1 || sscanf(line, "Private_Clean: %lu", &kib) == 1))
            sum += (long)kib;
    }
    fclose(f);
    return sum;
}
static void content_check(int who)
{
    for (size_t page = 0; page < PAGES; page++) {
        unsigned char want = base_of(page);
        if (who == 3 && page >= PAGES - 512) /* given back */
            want = 0;
        else if (is_own(page, who))
            want = (unsigned char)(want + who);
        for (size_t k = 0; k < PAGE; k += 1024)
            MUST(area[page * PAGE + k] == want);
    }
}
static void seam_make(void)
{
    seam = mmap(NULL, (OWN_PAGES + COMMON_PAGES) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(seam != MAP_FAILED);
    for (size_t page = OWN_PAGES; page < OWN_PAGES + COMMON_PAGES; page++)
        memset(seam + page * PAGE, base_of(page), PAGE);
    MUST(munmap(seam, OWN_PAGES * PAGE) == 0);
}
static void seam_fill(int who)
{
    MUST(mmap(seam, OWN_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == seam);
    for (size_t page = 0; page < OWN_PAGES; page++)
        memset(seam + page * PAGE, base_of(page) + who, PAGE);
}
static void seam_check(int who)
{
    for (size_t page = who ? 0 : OWN_PAGES; page < OWN_PAGES + COMMON_PAGES; page++)
        for (size_t k = 0; k < PAGE; k += 1024)
            MUST(seam[page * PAGE + k] == (unsigned char)(base_of(page) + (page < OWN_PAGES ? who : 0)));
}
static void check(int who)
{
    seam_check(who);
    long kib = private_kib();
    if (kib > (long)(PAGES / STEP * 4) + SLACK_KIB) {
        printf("%d has %ld KiB of its own\n", who, kib);
        fail("memory in common became everybody's own");
    }
    content_check(who);
    MUST(private_kib() <= kib + 64); /* looking does not make copies */
}
static _Noreturn void child(int who)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    seam_fill(who);
    for (size_t page = (size_t)who; page < PAGES; page += STEP)
        memset(area + page * PAGE, base_of(page) + who, PAGE);
    if (who == 3)
        MUST(madvise(area + (PAGES - 512) * PAGE, 512 * PAGE, MADV_DONTNEED) == 0);
    check(who);
    MUST(write(told[1], "r", 1) == 1);
    while (!asked)
        usleep(20000);
    check(who);
    memset(area, 'x', 64 * PAGE); /* whatever it writes now is nobody else's */
    _exit(0);
}

int main(void)
{
    pid_t children[CHILDREN + 1];
    int status;
    area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(area != MAP_FAILED && madvise(area, PAGES * PAGE, MADV_NOHUGEPAGE) == 0);
    for (size_t page = 0; page < PAGES; page++)
        memset(area + page * PAGE, base_of(page), PAGE);
    seam_make();
    MUST(pipe(told) == 0);
    victim_listen();
    for (int who = 1; who <= CHILDREN; who++)
        if ((children[who] = fork()) == 0)
            child(who);
    for (int who = 1; who <= CHILDREN; who++)
        MUST(read(told[0], &status, 1) == 1);
    victim_wait();
    check(0);
    for (int who = 1; who <= CHILDREN; who++)
        MUST(kill(children[who], SIGUSR1) == 0 && waitpid(children[who], &status, 0) == children[who] && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    content_check(0);
    return victim_ok();
}
