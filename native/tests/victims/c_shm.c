/* System V shared memory: one segment in two processes at two addresses, one attached read-only, one that nobody has attached, one that is
 * marked to go with its last user. Parent and child count in turns through the first.
 * COVERAGE: System V shared memory | captured | ids, keys, owners, attachments, segments marked for removal; times of the last operations differ */
#include <stdatomic.h>
#include <sched.h>
#include <sys/shm.h>
#include <sys/wait.h>

#include "victim.h"

#define BYTES 300000

static void count(_Atomic unsigned long *turn, unsigned long odd)
{
    for (;;) {
        while (atomic_load(turn) % 2 != odd) {
            if (asked && odd == 0)
                return;
            sched_yield();
        }
        if (asked && odd == 0)
            return;
        atomic_fetch_add(turn, 1);
    }
}

static void check(int id, int key, unsigned mode, unsigned long users)
{
    struct shmid_ds facts;
    MUST(shmctl(id, IPC_STAT, &facts) == 0 && facts.shm_segsz == BYTES && facts.shm_nattch == users);
    MUST((facts.shm_perm.mode & 0777) == mode && facts.shm_perm.__key == key && facts.shm_perm.uid == getuid());
}

int main(void)
{
    int counted = shmget(0x5105, BYTES, IPC_CREAT | 0600), idle = shmget(0x5106, BYTES, IPC_CREAT | 0640), going = shmget(IPC_PRIVATE, BYTES, 0600);
    MUST(counted >= 0 && idle >= 0 && going >= 0);
    char *one = shmat(counted, NULL, 0), *two = shmat(counted, NULL, SHM_RDONLY), *other = shmat(idle, NULL, 0), *last = shmat(going, NULL, 0);
    MUST(one != (void *)-1 && two != (void *)-1 && other != (void *)-1 && last != (void *)-1 && one != two);
    memset(one + 4096, 'a', BYTES - 4096);
    memset(other, 'b', BYTES);
    memset(last, 'c', BYTES);
    MUST(shmdt(other) == 0 && shmctl(going, IPC_RMID, NULL) == 0);
    pid_t child = fork();
    if (child == 0)
        count((void *)one, 1);
    victim_ready();
    count((void *)one, 0);
    unsigned long before = *(unsigned long *)two;
    MUST(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child && before > 0 && two[BYTES - 1] == 'a');
    check(counted, 0x5105, 0600, 2);
    check(idle, 0x5106, 0640, 0);
    check(going, 0, 0600, 1);
    other = shmat(idle, NULL, 0);
    MUST(other != (void *)-1 && other[BYTES - 1] == 'b' && last[BYTES - 1] == 'c' && shmget(0x5105, BYTES, 0600) == counted);
    struct shmid_ds gone;
    MUST(shmdt(last) == 0 && shmctl(going, IPC_STAT, &gone) < 0);
    return victim_ok();
}
