/* Descriptor numbers up to the limit: the last ones, low ones, holes, close-on-exec on some; several hundred of them.
 * COVERAGE: descriptor numbers up to the limit | captured | */
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "victim.h"

#define MANY 300

static int number(int k, int last)
{
    return k < 3 ? last - k : k < MANY / 2 ? 4000 + 7 * k : 5000 + k; /* among others where a restore puts its own */
}

int main(void)
{
    struct rlimit limit;
    struct stat a, b;
    MUST(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    MUST(setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max > 6000);
    int last = (int)limit.rlim_max - 1, file = open("/tmp/file", O_RDWR | O_CREAT, 0600), null = open("/dev/null", O_RDWR);
    for (int k = 0; k < MANY; k++)
        MUST(dup3(k % 2 ? file : null, number(k, last), k % 3 ? O_CLOEXEC : 0) == number(k, last));
    MUST(dup(file) < last && dup2(file, last + 1) < 0 && errno == EBADF);
    victim_wait();
    for (int k = 0; k < MANY; k++) {
        MUST(fstat(number(k, last), &a) == 0 && fstat(k % 2 ? file : null, &b) == 0 && a.st_ino == b.st_ino);
        MUST(fcntl(number(k, last), F_GETFD) == (k % 3 ? FD_CLOEXEC : 0));
    }
    MUST(fcntl(last - 3, F_GETFD) < 0 && write(number(1, last), "x", 1) == 1 && lseek(file, 0, SEEK_CUR) == 1 && fcntl(5000, F_GETFD) < 0);
    return victim_ok();
}
