/* The map of one stopped process. What a mapping shows must be found again at a restore: private memory by content, shared memory
 * as a memobj, files by path. Mirrored by restore/vma_load.c. */
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "inquiry.h"
#include "map_flags.h"
#include "mapped.h"
#include "save.h"
#include "spaces.h"
#include "stale.h"
#include "sysv_save.h"

static uint64_t advice_of(const struct proc_map *m)
{
    static const struct {
        char flag[3];
        uint64_t advice;
    } table[] = {
        {"hg", ADV_HUGEPAGE}, {"nh", ADV_NOHUGEPAGE}, {"dc", ADV_DONTFORK},    {"wf", ADV_WIPEONFORK}, {"dd", ADV_DONTDUMP},
        {"mg", ADV_MERGEABLE}, {"lo", ADV_LOCKED},     {"lf", ADV_LOCKONFAULT}, {"rr", ADV_RANDOM},     {"sr", ADV_SEQUENTIAL},
        {"sl", ADV_SEALED},
    };
    uint64_t advice = 0;
    for (size_t k = 0; k < ARRAY_LENGTH(table); k++)
        if (proc_map_has(m, table[k].flag))
            advice |= table[k].advice;
    return advice;
}

static bool is_anon_huge(const struct proc_map *m)
{
    return proc_map_has(m, "ht") && strcmp(m->path, "/anon_hugepage") == 0;
}

static bool is_nameless_huge(const struct proc_map *m)
{
    return m->deleted && (is_anon_huge(m) || strncmp(m->path, "/memfd:", 7) == 0 || strncmp(m->path, "/SYSV", 5) == 0);
}

static int refuse_map(const struct proc_map *m, struct err *e)
{
    static const struct {
        char flag[3];
        const char *words;
    } table[] = {
        {"um", "memory watched by userfaultfd"}, {"ui", "memory watched by userfaultfd"}, /* "uw" may be our own (track.h); a job's has a descriptor */
        {"pf", "memory of a device"},            {"io", "memory of a device"},            {"ss", "a shadow stack"},
    };
    for (size_t k = 0; k < ARRAY_LENGTH(table); k++)
        if (proc_map_has(m, table[k].flag))
            return err_set(e, E_UNSUPPORTED, "mapping at 0x%lx: %s", m->start, table[k].words);
    if (proc_map_has(m, "ht") && !is_nameless_huge(m))
        return err_set(e, E_UNSUPPORTED, "mapping at 0x%lx of %s: a file of huge pages", m->start, m->path);
    if (m->protection_key)
        return err_set(e, E_UNSUPPORTED, "mapping at 0x%lx: memory with a protection key", m->start);
    if (strncmp(m->path, "anon_inode:", 11) == 0 || strcmp(m->path, "/[aio]") == 0)
        return err_set(e, E_UNSUPPORTED, "mapping at 0x%lx of %s", m->start, m->path);
    return 0;
}

static int memobj_of(struct snapshot *s, const struct victim *v, const struct proc_map *m, struct vma *out, struct err *e)
{
    AUTO_FREE char *path = xasprintf("/proc/%d/map_files/%lx-%lx", v->pid, m->start, m->end);
    AUTO_CLOSE int fd = open(path, (m->shared && proc_map_has(m, "mw") ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (fd < 0)
        fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno != EPERM)
        return err_errno(e, "open mapping at 0x%lx (%s)", m->start, m->path);
    uint64_t kind = strcmp(m->path, "/dev/zero") == 0 || m->path[0] == '[' || is_anon_huge(m) ? MEMOBJ_SHARED_ANON
                    : strncmp(m->path, "/memfd:", 7) == 0 ? MEMOBJ_MEMFD
                                                                : MEMOBJ_UNLINKED;
    out->kind = VMA_MEMOBJ;
    const char *name = kind == MEMOBJ_MEMFD ? m->path + 7 : m->path;
    if (kind == MEMOBJ_UNLINKED && fd >= 0 && spaces_overlay_hides(s->spaces, v->pid, fd))
        return err_set(e, E_UNSUPPORTED, "mapping at 0x%lx of a file of an overlay that has no name any more (%s)", m->start, m->path);
    return fd < 0 ? mapped_save(s, m, kind, name, &out->memobj, e) : memobj_save(s, fd, kind, name, &out->memobj, e);
}

static int segment_of(struct snapshot *s, const struct victim *v, const struct proc_map *m, struct vma *out, struct err *e)
{
    out->kind = VMA_MEMOBJ;
    out->memobj = sysv_memobj(&s->image, ipc_space_of(s->spaces, v->pid), m->ino);
    return out->memobj ? 0 : err_set(e, E_UNSUPPORTED, "mapping at 0x%lx of %s, which is not in its ipc namespace", m->start, m->path);
}

/* In a mount namespace of the job: what stands in the pod's root is looked at there. */
static int space_file_of(struct snapshot *s, const struct victim *v, const struct seen_mounts *space, const struct proc_map *m, struct vma *out, struct err *e)
{
    struct stat at;
    AUTO_FREE char *entry = xasprintf("/proc/%d/map_files/%lx-%lx", v->pid, m->start, m->end), *pods = NULL;
    errno = 0;
    if (stat(entry, &at) < 0 && errno != EPERM)
        return err_errno(e, "mapping at 0x%lx of %s", m->start, m->path);
    if (errno == EPERM) /* an ordinary user's engine: by its number */
        at = (struct stat){.st_dev = makedev(m->dev_major, m->dev_minor), .st_ino = m->ino, .st_mode = S_IFREG};
    if (!S_ISREG(at.st_mode))
        return err_set(e, E_UNSUPPORTED, "mapping at 0x%lx of the device %s", m->start, m->path);
    if (spaces_mapped(s->spaces, space, m->path, &at, &pods, e) < 0)
        return -1;
    struct proc_map in_pod = *m;
    in_pod.path = pods;
    int stale = pods ? stale_save(s, v, &in_pod, &out->memobj, e) : 0;
    out->kind = stale ? VMA_MEMOBJ : VMA_FILE;
    out->path = xstrdup(stale ? "" : m->path);
    out->mode = m->shared && proc_map_has(m, "mw") ? O_RDWR : O_RDONLY;
    return stale < 0 ? -1 : 0;
}

static int file_of(struct snapshot *s, const struct victim *v, const struct proc_map *m, struct vma *out, struct err *e)
{
    struct stat at;
    const struct seen_member *member = spaces_member(s->spaces, v->pid);
    if (member && member->mounts)
        return space_file_of(s, v, spaces_mounts(s->spaces, member->mounts), m, out, e);
    bool known = plain_files_have(&s->plain_files, m);
    bool regular = known || plain_files_have(&s->regular, m);
    if (!regular && mapped_stat(s->pod, v->pid, m, &at, e) < 0)
        return -1;
    if (!regular && !S_ISREG(at.st_mode))
        return err_set(e, E_UNSUPPORTED, "mapping at 0x%lx of the device %s", m->start, m->path);
    int stale = known ? 0 : stale_save(s, v, m, &out->memobj, e);
    if (stale) {
        out->kind = VMA_MEMOBJ;
        return stale < 0 ? -1 : 0;
    }
    out->kind = VMA_FILE;
    out->path = xstrdup(m->path);
    out->mode = m->shared && proc_map_has(m, "mw") ? O_RDWR : O_RDONLY;
    return 0;
}

static bool special_of(const struct proc_map *m, struct vma *out)
{
    static const struct {
        const char *path;
        uint64_t kind;
    } table[] = {{"[vdso]", VMA_VDSO}, {"[vvar]", VMA_VVAR}, {"[vvar_vclock]", VMA_VVAR_CLOCK}};
    for (size_t k = 0; k < ARRAY_LENGTH(table); k++)
        if (strcmp(m->path, table[k].path) == 0) {
            out->kind = table[k].kind;
            return true;
        }
    return false;
}

static int vma_save(struct snapshot *s, const struct victim *v, const struct proc_map *m, struct mm *mm, struct err *e)
{
    struct vma *out = LIST_ADD(mm, vmas);
    *out = (struct vma){.start = m->start, .end = m->end, .prot = m->prot, .offset = m->offset, .kind = VMA_ANON};
    if (special_of(m, out))
        return 0;
    if (refuse_map(m, e) < 0)
        return -1;
    out->flags = (m->shared ? VMAF_SHARED : 0u) | (proc_map_has(m, "gd") ? VMAF_GROWSDOWN : 0u) |
                 (proc_map_has(m, "nr") ? VMAF_NORESERVE : 0u) | (proc_map_has(m, "ht") ? VMAF_HUGETLB : 0u);
    out->page_bytes = proc_map_has(m, "ht") ? m->page_bytes : 0;
    out->advice = advice_of(m);
    if (is_anon_huge(m) && !m->shared)
        return 0;
    if (strcmp(m->path, "[heap]") == 0)
        out->kind = VMA_HEAP;
    else if (strcmp(m->path, "[stack]") == 0)
        out->kind = VMA_STACK;
    else if (strncmp(m->path, "[anon:", 6) == 0)
        out->path = xstrdup(m->path);
    else if (strncmp(m->path, "/SYSV", 5) == 0)
        return segment_of(s, v, m, out, e);
    else if (m->path[0] == '/' || strncmp(m->path, "[anon_shmem:", 12) == 0)
        return m->deleted || m->path[0] == '[' ? memobj_of(s, v, m, out, e) : file_of(s, v, m, out, e);
    else if (m->path[0])
        return err_set(e, E_UNSUPPORTED, "mapping at 0x%lx of %s", m->start, m->path);
    return 0;
}

static int vdso_save(const struct victim *v, struct mm *mm, const struct vma *vma, struct err *e)
{
    size_t len = vma->end - vma->start;
    AUTO_FREE uint8_t *bytes = xcalloc(1, len);
    if (victim_read(v, vma->start, bytes, len, e) < 0)
        return -1;
    if (v->tail && v->tail - vma->start < len) /* our own code stands there now */
        memset(bytes + (v->tail - vma->start), 0, v->tail_len);
    bytes_set(&mm->vdso, bytes, len);
    return 0;
}

/* mbind(2). A mapping of a file or of shared memory gives the object's policy, which its first mapping sets again. */
#define POLICIES_AT_ONCE 128ul
struct policy_answer {
    uint64_t policy;
    uint8_t nodes[NODES_MAX / 8];
};

size_t policies_ask(struct inquiry *q, const struct task *t, size_t from)
{
    size_t left = t->mm.vmas_count - from, count = left < POLICIES_AT_ONCE ? left : POLICIES_AT_ONCE;
    uint64_t at = inquiry_room(q, count * sizeof(struct policy_answer));
    for (size_t k = 0; k < count; k++, at += sizeof(struct policy_answer))
        inquiry_add(q, (struct remote_call){.nr = SYS_get_mempolicy,
                                            .args = {at, at + offsetof(struct policy_answer, nodes), NODES_MAX, t->mm.vmas[from + k].start,
                                                     MPOL_F_ADDR}});
    return count;
}

void policies_take(const struct inquiry *q, size_t first, struct task *out, size_t from, size_t count)
{
    for (size_t k = 0; k < count; k++) {
        const struct remote_call *call = &q->calls[first + k];
        const struct policy_answer *a = inquiry_answer(q, call->args[0]);
        struct vma *vma = &out->mm.vmas[from + k];
        vma->policy = call->ret < 0 ? 0 : a->policy & 0xffffffff;
        if (vma->policy)
            bytes_set(&vma->nodes, a->nodes, sizeof a->nodes);
    }
}

static int mappings_save(struct snapshot *s, const struct victim *v, const struct proc_maps *maps, struct mm *mm, struct err *e)
{
    for (size_t k = 0; k < maps->count; k++) {
        const struct proc_map *m = &maps->items[k];
        if (m->start == v->scratch || strcmp(m->path, "[vsyscall]") == 0)
            continue;
        if (vma_save(s, v, m, mm, e) < 0)
            return -1;
        const struct vma *vma = &mm->vmas[mm->vmas_count - 1];
        if (vma->kind == VMA_VDSO && vdso_save(v, mm, vma, e) < 0)
            return -1;
    }
    return 0;
}

/* Objects that several processes map are saved once: one process at a time. */
int vmas_save(struct snapshot *s, struct victim *v, struct task *out, struct err *e)
{
    static pthread_mutex_t one_by_one = PTHREAD_MUTEX_INITIALIZER;
    PROC_MAPS struct proc_maps read = {0};
    const struct proc_maps *maps = s->map_flags && map_flags_give(s->map_flags, v) ? &v->maps : &read;
    if (maps == &read && proc_maps_read(v->pid, true, &read, e) < 0)
        return -1;
    pthread_mutex_lock(&one_by_one);
    int result = mappings_save(s, v, maps, &out->mm, e);
    pthread_mutex_unlock(&one_by_one);
    return result;
}
