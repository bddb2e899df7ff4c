/* System V semaphores: every set of the pod's ipc namespace (sysv_save.c has entered it). What a process would give back at its end
 * (SEM_UNDO) nobody can read: that is refused by name. Mirrored by restore/sysvsem_load.c. */
#include <errno.h>
#include <linux/kcmp.h>
#include <stdlib.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "files_facts.h"
#include "sysv_save.h"

union semun {
    int val;
    struct semid_ds *buf;
    unsigned short *array;
    struct seminfo *info;
};

static int set_save(struct snapshot *s, int semid, const struct semid_ds *ds, struct err *e)
{
    AUTO_FREE unsigned short *values = xcalloc(ds->sem_nsems, sizeof *values);
    if (semctl(semid, 0, GETALL, (union semun){.array = values}) < 0)
        return err_errno(e, "System V semaphores %d", semid);
    struct sysv_semaphores *out = LIST_ADD(&s->image, sysv_semaphores);
    *out = (struct sysv_semaphores){.semid = (uint64_t)semid, .key = ds->sem_perm.__key, .mode = ds->sem_perm.mode & 0777,
                                    .uid = ds->sem_perm.uid, .gid = ds->sem_perm.gid};
    bytes_set(&out->values, values, ds->sem_nsems * sizeof *values);
    return 0;
}

static int sets_count(void)
{
    struct seminfo info = {0};
    return semctl(0, 0, SEM_INFO, (union semun){.info = &info}) < 0 ? 0 : info.semusz;
}

/* A process that has used SEM_UNDO has a list for it, and so has one that ever had threads: where there are no semaphores it is empty. */
void sysvsem_check(const pid_t *pids, size_t count, struct refusals *out)
{
    for (size_t k = 0; k < count && sets_count(); k++)
        if (syscall(SYS_kcmp, getpid(), pids[k], KCMP_SYSVSEM, 0, 0) > 0) /* we have none */
            refuse(out, pid_inside(pids[k]), -1, 0, "it may have used System V semaphores with SEM_UNDO");
}

/* Since the look before the stop. */
static int undo_check(const struct snapshot *s, uint64_t space, struct err *e)
{
    for (size_t k = 0; k < s->victim_count; k++) {
        const struct victim *v = &s->victims[k];
        if (v->thread_count && ipc_space_of(s->spaces, v->pid) == space && syscall(SYS_kcmp, getpid(), v->pid, KCMP_SYSVSEM, 0, 0) > 0)
            return err_set(e, E_UNSUPPORTED, "process %d may have used System V semaphores with SEM_UNDO", v->inner_pid);
    }
    return 0;
}

int sysvsem_save(struct snapshot *s, uint64_t space, struct err *e)
{
    struct seminfo info;
    int highest = semctl(0, 0, SEM_INFO, (union semun){.info = &info});
    if (highest < 0)
        return err_errno(e, "list System V semaphores");
    if (info.semusz && undo_check(s, space, e) < 0)
        return -1;
    for (int index = 0; index <= highest && info.semusz; index++) {
        struct semid_ds ds;
        int semid = semctl(index, 0, SEM_STAT, (union semun){.buf = &ds});
        if (semid >= 0 && set_save(s, semid, &ds, e) < 0)
            return -1;
    }
    return 0;
}
