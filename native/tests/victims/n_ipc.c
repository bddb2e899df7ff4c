/* System V shared memory, semaphores and message queues in two ipc namespaces that the job made, and in the pod's: all with the same keys and numbers and with
 * other contents. In each, a child counts in the memory with its parent and waits for a semaphore, a second one for a message; one segment is marked for
 * removal, ids have gaps.
 * COVERAGE: System V shared memory, semaphores and message queues in an IPC namespace that the job made | captured | values, ids, keys, owners; a segment that a process took along from another namespace: refused by name */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>

#include "spaces.h"

#define BYTES 100000
struct message {
    long type;
    char text[64];
};
struct box {
    unsigned number;            /* 0: the pod's */
    int sems, queue, segment, removed;
    _Atomic uint64_t *shared;
    char *gone;
    pid_t by_semaphore, by_message;
};

static int numbered(const struct box *b, char text[64], const char *what)
{
    return snprintf(text, 64, "%s %u", what, b->number);
}

static void put_in(const struct box *b, long type, const char *what)
{
    struct message m = {.type = type};
    MUST(msgsnd(b->queue, &m, (size_t)numbered(b, m.text, what), 0) == 0);
}

static void children_start(struct box *b)
{
    b->by_semaphore = fork();
    if (b->by_semaphore == 0) {
        struct sembuf down = {0, -2, 0};
        while (semop(b->sems, &down, 1) < 0)
            MUST(errno == EINTR);
        _exit(b->shared[1] == 1000 + b->number ? 10 : 11);
    }
    b->by_message = fork();
    if (b->by_message == 0) {
        struct message m = {0};
        while (msgrcv(b->queue, &m, sizeof m.text, 4, 0) < 0)
            MUST(errno == EINTR);
        b->shared[2] = b->number + 1;
        _exit(m.text[0] == 'g' ? 20 : 21);
    }
}

static void set_up(struct box *b)
{
    unsigned short values[] = {0, (unsigned short)(7 + b->number), 32767};
    MUST(semctl(semget(IPC_PRIVATE, 1, 0600), 0, IPC_RMID) == 0 && shmctl(shmget(IPC_PRIVATE, 4096, 0600), IPC_RMID, NULL) == 0);
    b->sems = semget(0x5eed, 3, IPC_CREAT | IPC_EXCL | 0640), b->queue = msgget(0x9eed, IPC_CREAT | IPC_EXCL | 0620);
    b->segment = shmget(0x7eed, BYTES, IPC_CREAT | IPC_EXCL | 0600), b->removed = shmget(IPC_PRIVATE, 4096, 0600);
    MUST(b->sems >= 0 && b->queue >= 0 && b->segment >= 0 && b->removed >= 0 && semctl(b->sems, 0, SETALL, values) == 0);
    b->shared = shmat(b->segment, NULL, 0), b->gone = shmat(b->removed, NULL, 0);
    MUST(b->shared != (void *)-1 && b->gone != (void *)-1 && shmctl(b->removed, IPC_RMID, NULL) == 0);
    b->shared[1] = 1000 + b->number;
    numbered(b, b->gone, "marked");
    put_in(b, 5, "five"), put_in(b, 3, "three");
    children_start(b);
}

static void message_check(const struct box *b, long type, const char *what)
{
    struct message m = {0};
    char wanted[64];
    int len = numbered(b, wanted, what);
    MUST(msgrcv(b->queue, &m, sizeof m.text, type, IPC_NOWAIT) == len && memcmp(m.text, wanted, (size_t)len) == 0);
}

static void ended(pid_t pid, int with)
{
    int status;
    MUST(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == with);
}

static void check(struct box *b)
{
    unsigned short values[3];
    char text[64];
    struct semid_ds s;
    struct shmid_ds m;
    struct sembuf up = {0, 2, 0};
    while (semctl(b->sems, 0, GETNCNT) != 1)
        usleep(1000);
    MUST(semget(0x5eed, 3, 0) == b->sems && msgget(0x9eed, 0) == b->queue && shmget(0x7eed, BYTES, 0) == b->segment);
    MUST(semctl(b->sems, 0, GETALL, values) == 0 && values[0] == 0 && values[1] == 7 + b->number && values[2] == 32767);
    MUST(semctl(b->sems, 0, IPC_STAT, &s) == 0 && s.sem_perm.uid == getuid() && s.sem_perm.mode == 0640);
    MUST(shmctl(b->segment, IPC_STAT, &m) == 0 && m.shm_segsz == BYTES && m.shm_nattch == 3 && m.shm_perm.uid == getuid());
    numbered(b, text, "marked");
    MUST(shmctl(b->removed, IPC_STAT, &m) == 0 && m.shm_perm.mode & SHM_DEST && strcmp(b->gone, text) == 0);
    message_check(b, 3, "three"), message_check(b, 0, "five");
    put_in(b, 4, "go");
    MUST(semop(b->sems, &up, 1) == 0);
    ended(b->by_semaphore, 10), ended(b->by_message, 20);
    MUST(b->shared[2] == b->number + 1 && b->shared[1] == 1000 + b->number);
}

static pid_t boxed(unsigned number, int told, int go)
{
    struct box b = {.number = number};
    char byte;
    pid_t pid = fork();
    if (pid)
        return pid;
    become(CLONE_NEWUSER | CLONE_NEWIPC, 0, 0);
    set_up(&b);
    MUST(write(told, "r", 1) == 1);
    while (read(go, &byte, 1) < 0)
        MUST(errno == EINTR);
    check(&b);
    _exit(30);
}

int main(void)
{
    struct box pods = {0};
    int told[2], go[2];
    char bytes[2];
    MUST(pipe(told) == 0 && pipe(go) == 0);
    pid_t one = boxed(1, told[1], go[0]), two = boxed(2, told[1], go[0]);
    set_up(&pods);
    MUST(read(told[0], bytes, 1) == 1 && read(told[0], bytes, 1) == 1);
    victim_ready();
    while (!asked)
        usleep(1000);
    check(&pods);
    MUST(write(go[1], "xx", 2) == 2);
    ended(one, 30), ended(two, 30);
    return victim_ok();
}
