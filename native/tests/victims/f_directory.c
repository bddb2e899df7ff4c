/* Directories that are half read: each name is told once, also where names come and go meanwhile, where two descriptors are at different places, and
 * where a name is a Unix socket's; nor does the directory look younger for a file without a name and the sockets. Only private file systems.
 * COVERAGE: directory half read, on a private file system (/tmp, /dev/shm, /run) | captured | waited for, then refused, elsewhere */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "victim.h"

#define NAMES 300
static int places[2];
static unsigned char told[2][NAMES]; /* how often */

struct entry {
    uint64_t ino;
    int64_t next;
    uint16_t len;
    uint8_t type;
    char name[];
};

static struct stat before, node;

static bool same_time(const struct stat *a, const struct stat *b)
{
    return a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}
static const char *name_of(int k)
{
    static char path[100];
    snprintf(path, sizeof path, "/tmp/half/%x-%d", (unsigned)k * 2654435761u, k); /* in no order of bytes */
    return path;
}
static void make(int k)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "%s", name_of(k));
    if (k % 50 == 7)
        MUST(bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&at, sizeof at) == 0);
    else if (k % 50 == 8)
        MUST(mkdir(name_of(k), 0500) == 0);
    else
        MUST(close(open(name_of(k), O_CREAT | O_EXCL | O_WRONLY, 0600)) == 0);
}
/* Reads that much room; 0 at the end. */
static int read_on(int which, size_t room)
{
    _Alignas(8) char data[4096];
    long n = syscall(SYS_getdents64, places[which], data, room);
    MUST(n >= 0);
    for (long at = 0; at < n;) {
        const struct entry *d = (const void *)(data + at);
        const char *number = strrchr(d->name, '-');
        if (number)
            told[which][atoi(number + 1)]++;
        at += d->len;
    }
    return n > 0;
}

int main(void)
{
    MUST(mkdir("/tmp/half", 0700) == 0);
    for (int k = 0; k < NAMES - 10; k++)
        make(k);
    for (int which = 0; which < 2; which++)
        places[which] = open("/tmp/half", O_RDONLY | O_DIRECTORY);
    MUST(read_on(0, 200) && read_on(1, 4096) && read_on(1, 300));
    for (int k = NAMES - 10; k < NAMES; k++) /* these may be told or not */
        make(k);
    MUST(unlink(name_of(3)) == 0 && unlink(name_of(250)) == 0 && unlink(name_of(1)) == 0);
    int gone = open("/tmp/half/gone", O_CREAT | O_RDWR, 0600);
    MUST(gone >= 0 && unlink("/tmp/half/gone") == 0 && stat("/tmp/half", &before) == 0 && stat(name_of(7), &node) == 0);
    victim_wait();
    struct stat now;
    MUST(stat("/tmp/half", &now) == 0 && same_time(&now, &before) && stat(name_of(7), &now) == 0 && same_time(&now, &node));
    for (int which = 0; which < 2; which++) {
        while (read_on(which, 4096))
            ;
        for (int k = 0; k < NAMES; k++) { /* those that went may have been told before */
            bool stayed = k < NAMES - 10 && k != 1 && k != 3 && k != 250;
            MUST(told[which][k] == 1 || (told[which][k] == 0 && !stayed));
        }
    }
    return victim_ok();
}
