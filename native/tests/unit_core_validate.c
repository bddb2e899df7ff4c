/* Images that say what cannot be, or what their pod's owner may not do, are refused before anything is made. */
#include <sys/mman.h>
#include <sys/user.h>

#include "../restore/load.h"
#include "tap.h"

static void thread_fill(struct thread *t, uint64_t tid)
{
    uint8_t zeros[2048] = {0};
    t->tid = tid;
    t->comm = xstrdup("x"), t->cwd = xstrdup(""), t->root = xstrdup("");
    bytes_set(&t->regs, zeros, sizeof(struct user_regs_struct));
    bytes_set(&t->xstate, zeros, 832);
    t->creds = (struct creds){.ruid = 1000, .euid = 1000, .suid = 1000, .fsuid = 1000, .rgid = 1000, .egid = 1000, .sgid = 1000, .fsgid = 1000};
}

static void vma_add(struct mm *mm, uint64_t start, uint64_t end, uint64_t kind)
{
    struct vma *v = LIST_ADD(mm, vmas);
    *v = (struct vma){.start = start, .end = end, .prot = PROT_READ | PROT_WRITE, .kind = kind, .path = xstrdup(kind == VMA_FILE ? "/bin/x" : "")};
}

static void task_add(struct image *image, uint64_t pid, uint64_t ppid)
{
    struct task *t = LIST_ADD(image, tasks);
    t->pid = pid, t->ppid = ppid, t->pgid = t->sid = 2, t->state = TASK_RUNNING, t->exit_signal = 17;
    t->cwd = xstrdup("/"), t->root = xstrdup("/"), t->comm = xstrdup("x"), t->mm.exe = xstrdup("/bin/x");
    thread_fill(LIST_ADD(t, threads), pid);
    vma_add(&t->mm, 0x400000, 0x402000, VMA_FILE);
    vma_add(&t->mm, 0x500000, 0x510000, VMA_ANON);
    struct extent *x = LIST_ADD(&t->mm, extents);
    *x = (struct extent){.at = 0x500000, .len = 0x2000};
}

static void image_fill(struct image *image)
{
    *image = (struct image){.format = IMAGE_FORMAT};
    image->pod.uid = image->pod.gid = 1000;
    image->pod.command_pid = 2;
    task_add(image, 2, 1);
    task_add(image, 3, 2);
}

static struct task *t3(struct image *i)
{
    return &i->tasks[1];
}
static void same_pid(struct image *i) { t3(i)->pid = 2; }
static void pid_one(struct image *i) { t3(i)->pid = t3(i)->threads[0].tid = 1; }
static void huge_pid(struct image *i) { t3(i)->pid = t3(i)->threads[0].tid = 1ul << 40; }
static void no_parent(struct image *i) { t3(i)->ppid = 77; }
static void own_parent(struct image *i) { t3(i)->ppid = 3; }
static void no_threads(struct image *i) { t3(i)->threads[0].tid = 9; }
static void odd_state(struct image *i) { t3(i)->state = 9; }
static void root_user(struct image *i) { t3(i)->threads[0].creds.euid = 0; }
static void saved_root(struct image *i) { t3(i)->threads[0].creds.suid = 0; }
static void root_group(struct image *i) { t3(i)->threads[0].creds.fsgid = 0; }
static void groups(struct image *i) { uint32_t g = 0; bytes_set(&t3(i)->threads[0].creds.groups, &g, sizeof g); }
static void capability(struct image *i) { t3(i)->threads[0].creds.cap_permitted = 1; }
static void bounding(struct image *i) { t3(i)->threads[0].creds.cap_bounding = ~0ul; }
static void overlap(struct image *i) { t3(i)->mm.vmas[1].start = 0x401000; }
static void kernel_side(struct image *i) { t3(i)->mm.vmas[1].end = 0xffff800000000000; }
static void backwards(struct image *i) { t3(i)->mm.vmas[1].end = 0x4ff000; }
static void unaligned(struct image *i) { t3(i)->mm.vmas[1].start = 0x500800; }
static void page_zero(struct image *i) { t3(i)->mm.vmas[0].start = 0; }
static void outside(struct image *i) { t3(i)->mm.extents[0].at = 0x600000; }
static void beyond(struct image *i) { t3(i)->mm.extents[0].len = 0x20000; }
static void wrapping(struct image *i) { t3(i)->mm.extents[0].at = ~0xffful; }
static void into_shared(struct image *i) { t3(i)->mm.vmas[1].flags = VMAF_SHARED; }
static void no_memobj(struct image *i) { t3(i)->mm.vmas[1].kind = VMA_MEMOBJ, t3(i)->mm.vmas[1].memobj = 5; }
static struct vma *huge_one(struct image *i)
{
    struct vma *v = &t3(i)->mm.vmas[1];
    v->flags = VMAF_HUGETLB, v->page_bytes = 2ul << 20;
    v->start = 0x600000, v->end = 0xa00000, t3(i)->mm.extents[0].at = 0x600000;
    return v;
}
static struct memobj *huge_object(struct image *i)
{
    struct memobj *m = LIST_ADD(i, memobjs);
    *m = (struct memobj){.id = 5, .kind = MEMOBJ_MEMFD, .size = 4ul << 20, .page_bytes = 2ul << 20};
    m->name = xstrdup("x");
    struct vma *v = huge_one(i);
    v->kind = VMA_MEMOBJ, v->memobj = 5;
    return m;
}
static void huge_no_size(struct image *i) { huge_one(i)->page_bytes = 0; }
static void huge_odd_size(struct image *i) { huge_one(i)->page_bytes = 3ul << 20; }
static void huge_enormous(struct image *i) { huge_one(i)->page_bytes = 1ul << 63; }
static void huge_unaligned(struct image *i) { huge_one(i)->end = 0x9ff000; }
static void huge_no_flag(struct image *i) { huge_one(i)->flags = 0; }
static void huge_file(struct image *i) { struct vma *v = huge_one(i); free(v->path), v->path = xstrdup("/bin/x"), v->kind = VMA_FILE; }
static void huge_of_small(struct image *i) { huge_object(i)->page_bytes = 0; }
static void huge_half(struct image *i) { huge_object(i)->size = 3ul << 20; }
static void huge_wrapping(struct image *i) { huge_object(i)->size = 0ul - (2ul << 20); }
static void huge_unlinked(struct image *i) { huge_object(i)->kind = MEMOBJ_UNLINKED; }
static void short_regs(struct image *i) { t3(i)->threads[0].regs.len = 8; }
static void short_xstate(struct image *i) { t3(i)->threads[0].xstate.len = 16; }
static void odd_pending(struct image *i) { bytes_set(&t3(i)->pending, "abc", 3); }
static void odd_signal(struct image *i) { ((struct sigaction_of *)LIST_ADD(t3(i), sigactions))->signal = 65; }
static void odd_limit(struct image *i) { ((struct rlimit_of *)LIST_ADD(t3(i), rlimits))->resource = 99; }
static void odd_timer(struct image *i) { ((struct posix_timer *)LIST_ADD(t3(i), posix_timers))->id = 1ul << 40; }
static void relative(struct image *i) { free(t3(i)->cwd), t3(i)->cwd = xstrdup("../.."); }
static void relative_thread(struct image *i) { free(t3(i)->threads[0].cwd), t3(i)->threads[0].cwd = xstrdup("tmp"); }
static void rootless_thread(struct image *i) { free(t3(i)->threads[0].cwd), t3(i)->threads[0].cwd = xstrdup("/tmp"); }
static void no_command(struct image *i) { i->pod.command_pid = 3; }

static const struct {
    const char *sentence;
    void (*spoil)(struct image *);
} hostile[] = {
    {"two processes with one number", same_pid}, {"podinit's number", pid_one}, {"a number that no pid has", huge_pid},
    {"a parent that is not there", no_parent}, {"its own parent", own_parent}, {"no first thread", no_threads}, {"an unknown state", odd_state},
    {"root as effective user", root_user}, {"root as saved user", saved_root}, {"root's group", root_group}, {"a further group", groups},
    {"a capability", capability}, {"a full bounding set", bounding}, {"overlapping mappings", overlap}, {"a mapping in the kernel's half", kernel_side},
    {"a mapping that ends before it begins", backwards}, {"a mapping off the page", unaligned}, {"page zero", page_zero},
    {"contents outside of any mapping", outside}, {"contents beyond a mapping", beyond}, {"contents that wrap around", wrapping},
    {"contents for shared memory", into_shared}, {"a shared object that is not there", no_memobj}, {"huge pages without a size", huge_no_size}, {"huge pages of an odd size", huge_odd_size},
    {"huge pages of an absurd size", huge_enormous}, {"half a huge page", huge_unaligned}, {"a size of huge pages alone", huge_no_flag},
    {"huge pages of a file", huge_file}, {"huge pages of an object of small ones", huge_of_small}, {"an object of half a huge page", huge_half},
    {"an object of huge pages that wraps around", huge_wrapping}, {"huge pages of an unlinked file", huge_unlinked}, {"too few registers", short_regs},
    {"too little extended state", short_xstate}, {"half a pending signal", odd_pending}, {"signal 65", odd_signal}, {"an unknown limit", odd_limit},
    {"an absurd timer", odd_timer}, {"a relative directory", relative}, {"a thread's relative directory", relative_thread}, {"a thread's directory without its root", rootless_thread}, {"a command that is not podinit's child", no_command},
};

int main(void)
{
    struct image image;
    struct err e = {0};
    image_fill(&image);
    ok(image_validate(&image, &e) == 0, "a plain image is accepted %s", e.message);
    image_free(&image);
    image_fill(&image);
    huge_object(&image);
    ok(image_validate(&image, &e) == 0, "one with huge pages too %s", e.message);
    image_free(&image);
    for (size_t k = 0; k < ARRAY_LENGTH(hostile); k++) {
        image_fill(&image);
        hostile[k].spoil(&image);
        e = (struct err){0};
        ok(image_validate(&image, &e) < 0 && e.code == E_BAD_IMAGE, "refused: %s", hostile[k].sentence);
        image_free(&image);
    }
    return done_testing();
}
