/* System V semaphores: every set of the pod's ipc namespace (sysv_save.c has entered it). What a process would give back at its end
 * (SEM_UNDO) nobody can read: that is refused by name (check.c). Mirrored by restore/sysvsem_load.c. */
#include <errno.h>
#include <stdlib.h>
#include <sys/ipc.h>
#include <sys/sem.h>

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

int sysvsem_save(struct snapshot *s, struct err *e)
{
    struct seminfo info;
    int highest = semctl(0, 0, SEM_INFO, (union semun){.info = &info});
    if (highest < 0)
        return err_errno(e, "list System V semaphores");
    for (int index = 0; index <= highest && info.semusz; index++) {
        struct semid_ds ds;
        int semid = semctl(index, 0, SEM_STAT, (union semun){.buf = &ds});
        if (semid >= 0 && set_save(s, semid, &ds, e) < 0)
            return -1;
    }
    return 0;
}
