/* What is open on a tmpfs that the job has mounted in a namespace of its own: Unix sockets by name (a listener with a connection, a datagram socket),
 * an unlinked file that is shared with a child, locks, a directory half read, a file opened only for its path, one on its way in a message, FIFOs
 * with and without a name, an inotify watch.
 * COVERAGE: files, unlinked files, FIFOs, locks, Unix sockets, inotify watches and half-read directories on a tmpfs that the job mounted | captured | rootless: watches only of what is open too */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "spaces.h"

#define FILES 40

static int named(int type, const char *path, struct sockaddr_un *address)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    strncpy(address->sun_path, path, sizeof address->sun_path - 1);
    int fd = socket(AF_UNIX, type, 0);
    MUST(fd >= 0 && bind(fd, (struct sockaddr *)address, sizeof *address) == 0);
    return fd;
}

static int connected(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    MUST(fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) == 0);
    return fd;
}

static void file_send(int to, int fd)
{
    char control[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec part = {"f", 1};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    MUST(sendmsg(to, &m, 0) == 1);
}

static int file_receive(int from)
{
    char control[CMSG_SPACE(sizeof(int))], byte;
    int fd = -1;
    struct iovec part = {&byte, 1};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    MUST(recvmsg(from, &m, 0) == 1 && m.msg_controllen >= CMSG_LEN(sizeof fd));
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    return fd;
}

int main(void)
{
    struct sockaddr_un stream, datagram;
    struct stat own, st;
    char data[16] = {0}, seen[FILES] = {0};
    int pair[2], status;
    become(CLONE_NEWUSER | CLONE_NEWNS, 0, 0);
    MUST(mkdir("/tmp/own", 0755) == 0 && mount("own", "/tmp/own", "tmpfs", 0, NULL) == 0 && stat("/tmp/own", &own) == 0 && mkdir("/tmp/own/many", 0755) == 0);
    for (int k = 0; k < FILES; k++) {
        char path[64];
        snprintf(path, sizeof path, "/tmp/own/many/%d", k);
        put(path, "x");
    }
    int listener = named(SOCK_STREAM, "/tmp/own/stream", &stream), mail = named(SOCK_DGRAM, "/tmp/own/mail", &datagram);
    MUST(listen(listener, 4) == 0 && chmod("/tmp/own/stream", 0711) == 0);
    int client = connected(&stream), server = accept(listener, NULL, NULL), sender = socket(AF_UNIX, SOCK_DGRAM, 0);
    MUST(server >= 0 && write(client, "queued", 6) == 6 && sendto(sender, "letter", 6, 0, (struct sockaddr *)&datagram, sizeof datagram) == 6);
    int gone = open("/tmp/own/gone", O_RDWR | O_CREAT, 0600), path_only = open("/tmp/own/many", O_PATH), locked = open("/tmp/own/lock", O_RDWR | O_CREAT, 0600);
    MUST(gone >= 0 && ftruncate(gone, 8192) == 0 && unlink("/tmp/own/gone") == 0 && path_only >= 0 && flock(locked, LOCK_EX) == 0);
    char *shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, gone, 0);
    MUST(shared != MAP_FAILED && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    strcpy(shared, "shared");
    put("/tmp/own/sent", "in flight");
    int sent = open("/tmp/own/sent", O_RDONLY);
    file_send(pair[0], sent);
    close(sent);
    MUST(mkfifo("/tmp/own/fifo", 0600) == 0 && mkfifo("/tmp/own/nameless", 0600) == 0);
    int fifo = open("/tmp/own/fifo", O_RDWR), nameless = open("/tmp/own/nameless", O_RDWR), notes = inotify_init1(IN_NONBLOCK);
    MUST(fifo >= 0 && write(fifo, "fifo", 4) == 4 && nameless >= 0 && write(nameless, "less", 4) == 4 && unlink("/tmp/own/nameless") == 0);
    MUST(inotify_add_watch(notes, "/tmp/own/many", IN_CREATE) == 1);
    DIR *half = opendir("/tmp/own/many");
    for (int k = 0; k < FILES / 2; k++)
        seen[atoi(readdir(half)->d_name)]++;
    pid_t child = fork();
    if (child == 0) {
        while (shared[4096] == 0)
            usleep(1000);
        shared[4097] = 'c';
        _exit(50);
    }
    victim_wait();
    MUST(read(server, data, 6) == 6 && memcmp(data, "queued", 6) == 0 && recv(mail, data, sizeof data, 0) == 6 && memcmp(data, "letter", 6) == 0);
    int again = connected(&stream), taken = accept(listener, NULL, NULL);
    MUST(write(again, "y", 1) == 1 && read(taken, data, 1) == 1 && sendto(sender, "z", 1, 0, (struct sockaddr *)&datagram, sizeof datagram) == 1 && recv(mail, data, 1, 0) == 1);
    MUST(stat("/tmp/own/stream", &st) == 0 && S_ISSOCK(st.st_mode) && (st.st_mode & 0777) == 0711 && stat("/tmp/own", &own) == 0);
    MUST(fstat(gone, &st) == 0 && st.st_nlink == 0 && st.st_dev == own.st_dev && strcmp(shared, "shared") == 0);
    shared[4096] = 'p';
    MUST(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 50 && shared[4097] == 'c');
    MUST(read(fifo, data, 4) == 4 && memcmp(data, "fifo", 4) == 0 && read(nameless, data, 4) == 4 && memcmp(data, "less", 4) == 0);
    MUST(fstat(nameless, &st) == 0 && st.st_nlink == 0 && st.st_dev == own.st_dev);
    char events[512];
    put("/tmp/own/many/99", "");
    MUST(read(notes, events, sizeof events) > 0 && ((struct inotify_event *)(void *)events)->wd == 1 && unlink("/tmp/own/many/99") == 0);
    int other = open("/tmp/own/lock", O_RDWR), file = file_receive(pair[1]);
    MUST(other >= 0 && flock(other, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK && openat(path_only, "3", O_RDONLY) >= 0);
    MUST(file >= 0 && fstat(file, &st) == 0 && st.st_dev == own.st_dev && read(file, data, sizeof data) == 9 && memcmp(data, "in flight", 9) == 0);
    for (const struct dirent *d; (d = readdir(half));)
        if (d->d_name[0] != '.')
            seen[atoi(d->d_name)]++;
    for (int k = 1; k < FILES; k++)
        MUST(seen[k] == 1);
    return victim_ok();
}
