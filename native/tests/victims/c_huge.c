/* Huge pages: private (touched and not, read-only, not set aside), shared with a child, a sealed memfd that is mapped shared and with private changes, a
 * System V segment, and private ones that parent and child have in common since fork(2), one of them changed by the child. Both write all the time.
 * HUGE PAGES: 64
 * COVERAGE: huge pages of hugetlbfs: private, shared, of a memfd, sealed too | captured | private ones are read in the pause; too few free ones on the new machine: refused, with both numbers
 * COVERAGE: System V shared memory of huge pages | captured |
 * COVERAGE: private huge pages in common since fork | captured | between a process and its descendants */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "victim.h"

#define HUGE (2ul << 20)
#define FSEAL (F_SEAL_SHRINK | F_SEAL_GROW)
static uint64_t *private, *constant, *unreserved, *of_memfd, *segment;
static _Atomic uint64_t *shared, *object;
static int memfd, shmid;

static void *map(size_t pages, int flags, int fd, off_t at)
{
    void *found = mmap(NULL, pages * HUGE, PROT_READ | PROT_WRITE, flags, fd, at);
    MUST(found != MAP_FAILED);
    return found;
}

static uint64_t *page(uint64_t *of, size_t number)
{
    return (uint64_t *)((char *)of + number * HUGE);
}

static void before(void)
{
    private = map(4, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    constant = map(1, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    unreserved = map(1, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0);
    shared = map(2, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    memfd = memfd_create("huge", MFD_HUGETLB | MFD_ALLOW_SEALING | (21u << 26));
    MUST(memfd >= 0 && ftruncate(memfd, 3 * HUGE) == 0 && fcntl(memfd, F_ADD_SEALS, FSEAL) == 0 && lseek(memfd, 4096, SEEK_SET) == 4096);
    object = map(2, MAP_SHARED, memfd, HUGE);
    object[2] = 22;
    of_memfd = map(1, MAP_PRIVATE, memfd, HUGE);
    of_memfd[1] = 11;
    shmid = shmget(IPC_PRIVATE, HUGE + 100, IPC_CREAT | SHM_HUGETLB | 0600);
    segment = shmid < 0 ? (void *)-1 : shmat(shmid, NULL, 0);
    MUST(segment != (void *)-1);
    *page(segment, 1) = 5;
    *page(private, 0) = *page(private, 2) = constant[7] = unreserved[0] = 1;
    constant[HUGE / 8 - 1] = 9;
    MUST(mprotect(constant, HUGE, PROT_READ) == 0);
}

/* In turns; beside that each counts in a page of its own, and the child has changed one that it had from its parent. */
static void count(uint64_t parity)
{
    for (uint64_t n = 0; !asked; usleep(20)) {
        page(private, 2)[8 + n % 1000] = ++page(private, 2)[4 + parity] + parity;
        n++;
        for (int k = 0; k < 2; k++) {
            _Atomic uint64_t *turn = k ? object : shared + HUGE / 8;
            if ((*turn & 1) == parity)
                ++*turn;
        }
    }
}

static void numbers_check(uint64_t parity)
{
    uint64_t *mine = page(private, 2), last = mine[4 + parity];
    MUST(last > 0 && mine[4 + !parity] == 0);
    for (uint64_t n = last; n && n + 1000 > last; n--)
        MUST(mine[8 + (n - 1) % 1000] == n + parity);
}

static void own_check(uint64_t parity)
{
    numbers_check(parity);
    MUST(*page(private, 0) == (parity ? 77 : 1) && *page(private, 1) == 0 && *page(private, 3) == 0 && unreserved[0] == 1);
    MUST(constant[7] == 1 && constant[HUGE / 8 - 1] == 9 && of_memfd[1] == 11 && object[1] == 0);
}

static void child_work(void)
{
    *page(private, 0) = 77;
    count(1);
    own_check(1);
    _exit(0);
}

/* Every one of them is of huge pages still. */
static void pages_check(void)
{
    char line[512];
    int count = 0;
    FILE *smaps = fopen("/proc/self/smaps", "r");
    MUST(smaps);
    while (fgets(line, sizeof line, smaps))
        count += strncmp(line, "KernelPageSize:", 15) == 0 && strtoul(line + 15, NULL, 10) * 1024 == HUGE;
    fclose(smaps);
    MUST(count == 7);
}

static void after(void)
{
    struct stat st;
    struct statfs fs;
    uint64_t two[2] = {0};
    own_check(0);
    pages_check();
    MUST(shared[HUGE / 8] > 10 && object[0] > 10 && *page(segment, 1) == 5);
    MUST(fstat(memfd, &st) == 0 && st.st_size == 3 * HUGE && fstatfs(memfd, &fs) == 0 && fs.f_bsize == HUGE && fcntl(memfd, F_GET_SEALS) == FSEAL);
    MUST(lseek(memfd, 0, SEEK_CUR) == 4096 && pread(memfd, two, 16, HUGE + 8) == 16 && two[0] == 0 && two[1] == 22);
    MUST(mprotect(constant, HUGE, PROT_READ | PROT_WRITE) == 0 && munmap((char *)private + HUGE, HUGE) == 0);
    for (size_t k = 0; k < 4; k++)
        if (k != 1)
            *page(private, k) = k; /* what was set aside is there */
    MUST(shmctl(shmid, IPC_RMID, NULL) == 0 && shmdt(segment) == 0);
}

int main(void)
{
    before();
    victim_listen();
    pid_t child = fork();
    if (child == 0)
        child_work();
    victim_ready();
    count(0);
    kill(child, SIGUSR1);
    int status;
    MUST(waitpid(child, &status, 0) == child && status == 0);
    after();
    return victim_ok();
}
