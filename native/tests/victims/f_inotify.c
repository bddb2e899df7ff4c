/* inotify on what nobody has open and nobody works in: directories and files of the host's part of the root and of the pod's, in private file
 * systems, one-shot watches; the numbers of watches stay.
 * MATRIX: elsewhere refused an inotify watch
 * COVERAGE: inotify watches by path of the root and of private file systems | captured | events not read yet are waited for */
#include <errno.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "victim.h"

static int instance, watches[5];

static void expect(int wd, uint32_t mask)
{
    _Alignas(struct inotify_event) char room[4096];
    ssize_t n = read(instance, room, sizeof room);
    const struct inotify_event *event = (void *)room;
    MUST(n >= (ssize_t)sizeof *event && event->wd == wd && event->mask & mask);
    while (read(instance, room, sizeof room) > 0)
        ;
    MUST(errno == EAGAIN);
}
static void make(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    MUST(fd >= 0 && close(fd) == 0);
}

int main(void)
{
    char c, new[100];
    int overlay = 1;
    const char *place = "/var/tmp/watched/deep";
    if (mkdir("/var/tmp/watched", 0700) < 0) /* an ordinary user's pod may not write there */
        place = "/dev/shm/watched/deep", overlay = 0, MUST(mkdir("/dev/shm/watched", 0700) == 0);
    MUST(mkdir(place, 0700) == 0 && mkdir("/tmp/watched", 0700) == 0 && chdir("/") == 0);
    make("/tmp/watched/file"), make("/tmp/watched/one");
    instance = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    watches[0] = inotify_add_watch(instance, place, IN_CREATE);
    MUST(inotify_rm_watch(instance, inotify_add_watch(instance, "/usr", IN_CREATE)) == 0); /* a hole in the numbers */
    MUST(read(instance, (char[4096]){0}, 4096) > 0);
    watches[1] = inotify_add_watch(instance, overlay ? "/etc/passwd" : "/tmp/watched/file", IN_ACCESS);
    watches[2] = inotify_add_watch(instance, "/tmp/watched/one", IN_ATTRIB | IN_ONESHOT);
    watches[3] = inotify_add_watch(instance, "/tmp/watched", IN_CREATE | IN_ONLYDIR);
    MUST(watches[0] == 1 && watches[1] == 3 && watches[2] == 4 && watches[3] == 5);
    victim_wait();
    snprintf(new, sizeof new, "%s/new", place);
    make(new);
    expect(watches[0], IN_CREATE);
    int passwd = open("/etc/passwd", O_RDONLY);
    MUST(passwd >= 0 && read(passwd, &c, 1) == 1);
    if (overlay) /* else the kernel tells nobody's paths there */
        expect(watches[1], IN_ACCESS);
    make("/tmp/watched/new");
    expect(watches[3], IN_CREATE);
    MUST(chmod("/tmp/watched/one", 0640) == 0);
    expect(watches[2], IN_ATTRIB);
    MUST(chmod("/tmp/watched/one", 0600) == 0 && read(instance, (char[4096]){0}, 4096) < 0 && errno == EAGAIN); /* it tells once */
    return victim_ok();
}
