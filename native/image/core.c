/* See core.h. The file: ELF header, program headers, notes, then each mapping's content, trimmed behind its last byte, on
 * page boundaries. What no one wrote to stays a hole of the file. */
#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core_parts.h"

static uint64_t page_up(uint64_t n)
{
    return (n + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
}

static const struct task *task_of(const struct image *in, uint64_t pid)
{
    for (size_t i = 0; i < in->tasks_count; i++)
        if (in->tasks[i].pid == pid)
            return &in->tasks[i];
    return NULL;
}

static void header_fill(Elf64_Ehdr *h, size_t segments)
{
    *h = (Elf64_Ehdr){.e_type = ET_CORE, .e_machine = EM_X86_64, .e_version = EV_CURRENT, .e_phoff = sizeof *h, .e_ehsize = sizeof *h};
    memcpy(h->e_ident, ELFMAG, SELFMAG);
    h->e_ident[EI_CLASS] = ELFCLASS64;
    h->e_ident[EI_DATA] = ELFDATA2LSB;
    h->e_ident[EI_VERSION] = EV_CURRENT;
    h->e_phentsize = sizeof(Elf64_Phdr);
    h->e_phnum = (uint16_t)segments;
}

static uint32_t flags_of(const struct vma *v) /* PROT_READ 1, WRITE 2, EXEC 4 */
{
    return (v->prot & 1 ? PF_R : 0u) | (v->prot & 2 ? PF_W : 0u) | (v->prot & 4 ? PF_X : 0u);
}

/* Headers of all segments, the notes' first; gives where the content ends. */
static uint64_t segments_plan(const struct memory *m, uint64_t notes_len, Elf64_Phdr *segments)
{
    uint64_t at = sizeof(Elf64_Ehdr) + (m->mm->vmas_count + 1) * sizeof *segments;
    segments[0] = (Elf64_Phdr){.p_type = PT_NOTE, .p_offset = at, .p_filesz = notes_len, .p_align = 4};
    at = page_up(at + notes_len);
    for (size_t i = 0; i < m->mm->vmas_count; i++) {
        const struct vma *v = &m->mm->vmas[i];
        uint64_t len = core_content(m, v);
        segments[i + 1] = (Elf64_Phdr){
            .p_type = PT_LOAD, .p_flags = flags_of(v), .p_offset = at, .p_vaddr = v->start, .p_filesz = len, .p_memsz = v->end - v->start, .p_align = PAGE_BYTES};
        at += page_up(len);
    }
    return at;
}

static int segments_write(const struct memory *m, const Elf64_Phdr *segments, struct core_result *out, struct err *e)
{
    for (size_t i = 0; i < m->mm->vmas_count; i++) {
        if (core_content_write(m, &m->mm->vmas[i], segments[i + 1].p_offset, e))
            return -1;
        out->bytes += segments[i + 1].p_filesz;
    }
    return 0;
}

static int parts_write(const struct memory *m, const struct task *t, struct core_result *out, struct err *e)
{
    size_t count = t->mm.vmas_count + 1;
    AUTO_FREE Elf64_Phdr *segments = xcalloc(count, sizeof *segments);
    AUTO_BUF struct buf notes = {0};
    Elf64_Ehdr header;
    core_notes(&notes, t);
    header_fill(&header, count);
    uint64_t end = segments_plan(m, notes.len, segments);
    if (io_pwrite_all(m->fd, &header, sizeof header, 0, e) || io_pwrite_all(m->fd, segments, count * sizeof *segments, sizeof header, e) ||
        io_pwrite_all(m->fd, notes.data, notes.len, segments[0].p_offset, e) || segments_write(m, segments, out, e))
        return -1;
    out->segments = count - 1;
    return ftruncate(m->fd, (off_t)end) < 0 ? err_errno(e, "truncate the core") : 0;
}

int core_write(const struct image *in, struct store *s, uint64_t pid, int fd, struct core_result *out, struct err *e)
{
    const struct task *t = task_of(in, pid);
    *out = (struct core_result){0};
    if (!t)
        return err_set(e, E_NOT_FOUND, "the image has no process %lu", pid);
    if (t->state == TASK_ZOMBIE || t->threads_count == 0 || t->mm.vmas_count == 0)
        return err_set(e, E_UNSUPPORTED, "process %lu has ended already: it has no memory", pid);
    if (t->mm.vmas_count >= PN_XNUM - 1)
        return err_set(e, E_UNSUPPORTED, "process %lu has %zu mappings, a core holds fewer than %d", pid, t->mm.vmas_count, PN_XNUM);
    AUTO_FREE uint8_t *room = xcalloc(CHUNK_MAX, 1);
    const struct memory m = {in, &t->mm, s, fd, room};
    out->threads = t->threads_count;
    return parts_write(&m, t, out, e) ? err_wrap(e, "core of process %lu", pid) : 0;
}
