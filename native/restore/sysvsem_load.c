/* System V semaphores with their old ids, made in podinit before the processes. Mirrors snapshot/sysvsem_save.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <unistd.h>

#include "sysv_load.h"

#define SEMAPHORES_MAX 32000u
#define VALUE_MAX 32767u

union semun {
    int val;
    struct semid_ds *buf;
    unsigned short *array;
};

static int values_copy(const struct sysv_semaphores *s, unsigned short *values, size_t count, struct err *e)
{
    memcpy(values, s->values.data, count * sizeof *values);
    for (size_t k = 0; k < count; k++)
        if (values[k] > VALUE_MAX)
            return err_set(e, E_BAD_IMAGE, "a semaphore of %u", values[k]);
    return 0;
}

static int set_load(struct restore *r, const struct sysv_semaphores *s, struct err *e)
{
    size_t count = s->values.len / sizeof(unsigned short);
    if (!count || count > SEMAPHORES_MAX || s->values.len % sizeof(unsigned short) || s->semid > INT32_MAX)
        return err_set(e, E_BAD_IMAGE, "%zu bytes of semaphores", s->values.len);
    AUTO_FREE unsigned short *values = xcalloc(count, sizeof *values);
    if (values_copy(s, values, count, e) < 0 || ipc_next_id(r, "sem", s->semid, e) < 0)
        return -1;
    int semid = semget((key_t)s->key, (int)count, IPC_CREAT | IPC_EXCL | 0600);
    if (semid < 0)
        return err_errno(e, "make them");
    if ((uint64_t)semid != s->semid)
        return err_set(e, E_OS, "they got the number %d", semid);
    if (semctl(semid, 0, SETALL, (union semun){.array = values}) < 0)
        return err_errno(e, "set their values");
    bool own = s->uid == r->image->pod.uid;
    struct semid_ds ds = {.sem_perm = {.uid = own ? (uid_t)s->uid : getuid(), .gid = own ? (gid_t)r->image->pod.gid : getgid(), .mode = s->mode & 0777}};
    return semctl(semid, 0, IPC_SET, (union semun){.buf = &ds}) < 0 ? err_errno(e, "set their owner") : 0;
}

int sysvsem_load(struct restore *r, uint64_t space, struct err *e)
{
    for (size_t k = 0; k < r->image->sysv_semaphores_count; k++)
        if (r->image->sysv_semaphores[k].ipc_space == space && set_load(r, &r->image->sysv_semaphores[k], e) < 0)
            return err_wrap(e, "System V semaphores %lu", r->image->sysv_semaphores[k].semid);
    return 0;
}
