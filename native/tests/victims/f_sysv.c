/* System V semaphores, message queues and shared memory: ids, keys, owners, modes, values, messages by type; a child that waits for a
 * semaphore, another that waits for a message.
 * COVERAGE: System V semaphores | captured | values, ids, keys, owners; the times and pids of the last operations differ
 * COVERAGE: System V message queues | captured | with messages; the times and pids of the last operations differ */
#include <errno.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>

#include "victim.h"

struct message {
    long type;
    char text[4000];
};
static int sems, named, queue, second, segment;
static pid_t by_semaphore, by_message;

static void put(int id, long type, const char *text, size_t len)
{
    static struct message m;
    m.type = type;
    memcpy(m.text, text, len);
    MUST(msgsnd(id, &m, len, IPC_NOWAIT) == 0);
}
static void take(int id, long type, const char *text, size_t len)
{
    static struct message m;
    MUST(msgrcv(id, &m, sizeof m.text, type, IPC_NOWAIT) == (ssize_t)len && !memcmp(m.text, text, len));
}
static void again(int result) /* a call that a signal ended */
{
    MUST(result == 0 || errno == EINTR);
}

static void set_up(void)
{
    static const char big[3000] = "large";
    unsigned short values[] = {0, 7, 32767};
    struct msqid_ds ds;
    MUST(semget(IPC_PRIVATE, 1, 0600) >= 0 && semctl(semget(IPC_PRIVATE, 1, 0600), 0, IPC_RMID) == 0); /* ids with gaps */
    sems = semget(IPC_PRIVATE, 3, 0640), named = semget(0x5eed, 1, IPC_CREAT | IPC_EXCL | 0600);
    queue = msgget(IPC_PRIVATE, 0600), second = msgget(0x9eed, IPC_CREAT | IPC_EXCL | 0622);
    segment = shmget(0x7eed, 10000, IPC_CREAT | IPC_EXCL | 0600);
    MUST(sems >= 0 && named >= 0 && queue >= 0 && second >= 0 && segment >= 0 && semctl(sems, 0, SETALL, values) == 0);
    put(queue, 5, "five", 4), put(queue, 3, "three", 5), put(queue, 5, "", 0), put(queue, 9, big, sizeof big);
    MUST(msgctl(second, IPC_STAT, &ds) == 0 && (ds.msg_qbytes = 4096) && msgctl(second, IPC_SET, &ds) == 0);
    by_semaphore = fork();
    if (by_semaphore == 0) {
        struct sembuf down = {0, -2, 0};
        while (semop(sems, &down, 1) < 0)
            again(-1);
        _exit(0);
    }
    by_message = fork();
    if (by_message == 0) {
        static struct message m;
        while (msgrcv(second, &m, sizeof m.text, 4, 0) < 0)
            again(-1);
        _exit(m.text[0] == '4' ? 0 : 1);
    }
}

static void ended(pid_t pid)
{
    int status;
    MUST(waitpid(pid, &status, 0) == pid && status == 0);
}

static void check(void)
{
    static const char big[3000] = "large";
    unsigned short values[3];
    struct semid_ds s;
    struct msqid_ds ds;
    struct sembuf up = {0, 2, 0};
    MUST(semctl(sems, 0, GETALL, values) == 0 && values[0] == 0 && values[1] == 7 && values[2] == 32767 && semctl(sems, 0, GETNCNT) == 1);
    MUST(semctl(sems, 0, IPC_STAT, &s) == 0 && s.sem_perm.mode == 0640 && s.sem_perm.uid == getuid() && semget(0x5eed, 1, 0) == named);
    MUST(msgget(0x9eed, 0) == second && msgctl(second, IPC_STAT, &ds) == 0 && ds.msg_qbytes == 4096 && (ds.msg_perm.mode & 0777) == 0622);
    take(queue, 3, "three", 5), take(queue, 0, "five", 4), take(queue, 5, "", 0), take(queue, 0, big, sizeof big);
    MUST(msgctl(queue, IPC_STAT, &ds) == 0 && ds.msg_qnum == 0 && shmget(0x7eed, 10000, 0) == segment);
    put(second, 4, "4", 1);
    MUST(semop(sems, &up, 1) == 0);
    ended(by_message), ended(by_semaphore);
    MUST(semctl(named, 0, IPC_RMID) == 0 && msgctl(second, IPC_RMID, NULL) == 0);
}

int main(void)
{
    set_up();
    victim_ready();
    while (!asked || semctl(sems, 0, GETNCNT) != 1)
        usleep(1000);
    check();
    return victim_ok();
}
