/* Memory that processes share: anonymous, memfd with its seals, POSIX shared memory with and without a name, a mapped file and a mapped
 * unlinked file, private changes over a file. Parent and child count in turns through each of them.
 * COVERAGE: shared anonymous memory | captured | one object in all processes that share it
 * COVERAGE: memfd, sealed too | captured |
 * COVERAGE: POSIX shared memory, with and without a name | captured |
 * COVERAGE: shared mapping of a file, also unlinked | captured |
 * COVERAGE: private mapping of a file with changes | captured | */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "victim.h"

#define BYTES (1 << 20)
#define KINDS 5
static _Atomic uint64_t *areas[KINDS];

static void *map(int fd, int flags)
{
    MUST(fd < 0 || ftruncate(fd, BYTES) == 0);
    void *at = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, flags, fd, 0);
    MUST(at != MAP_FAILED);
    return at;
}
static void count(int parity)
{
    while (!asked)
        for (int k = 0; k < KINDS; k++) {
            uint64_t now = areas[k][0];
            if ((now & 1) == (uint64_t)parity) {
                areas[k][1 + now % 1000] = now;
                areas[k][0] = now + 1;
            } else {
                usleep(50);
            }
        }
}

int main(void)
{
    int memfd = memfd_create("shared", MFD_ALLOW_SEALING), named = shm_open("/named", O_RDWR | O_CREAT, 0600),
        gone = shm_open("/gone", O_RDWR | O_CREAT, 0600), file = open("/tmp/file", O_RDWR | O_CREAT, 0600);
    MUST(memfd >= 0 && named >= 0 && gone >= 0 && file >= 0);
    areas[0] = map(-1, MAP_SHARED | MAP_ANONYMOUS);
    areas[1] = map(memfd, MAP_SHARED);
    areas[2] = map(named, MAP_SHARED);
    areas[3] = map(gone, MAP_SHARED);
    areas[4] = map(file, MAP_SHARED);
    MUST(shm_unlink("/gone") == 0 && fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
    int text = open("/tmp/text", O_RDWR | O_CREAT, 0600);
    char page[8192];
    memset(page, 'a', sizeof page);
    MUST(write(text, page, sizeof page) == sizeof page);
    char *private = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, text, 0);
    private[4096] = 'b';
    memset(private, 0, 4096);
    mprotect(private, 8192, PROT_NONE);
    struct sigaction a = {.sa_handler = victim_ask};
    sigaction(SIGUSR1, &a, NULL);
    MUST(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    pid_t child = fork();
    if (child == 0) {
        count(1);
        _exit(0);
    }
    victim_ready();
    count(0);
    kill(child, SIGUSR1);
    int status;
    MUST(waitpid(child, &status, 0) == child && status == 0);
    for (int k = 0; k < KINDS; k++) {
        uint64_t top = areas[k][0];
        MUST(top > 10);
        for (uint64_t n = top - 1; n > 0 && n + 1000 > top; n--)
            MUST(areas[k][1 + n % 1000] == n);
    }
    int subreaper = 0;
    MUST(prctl(PR_GET_CHILD_SUBREAPER, &subreaper) == 0 && subreaper == 1);
    struct stat s, m;
    uint64_t first;
    MUST(pread(memfd, &first, 8, 0) == 8 && first == areas[1][0] && fcntl(memfd, F_GET_SEALS) == F_SEAL_SHRINK);
    MUST(pread(file, &first, 8, 0) == 8 && first == areas[4][0]);
    MUST(fstat(gone, &s) == 0 && s.st_nlink == 0 && stat("/dev/shm/named", &m) == 0 && m.st_size == BYTES);
    mprotect(private, 8192, PROT_READ);
    MUST(private[0] == 0 && private[4095] == 0 && private[4096] == 'b' && private[4097] == 'a' && pread(text, page, 1, 0) == 1 && page[0] == 'a');
    return victim_ok();
}
