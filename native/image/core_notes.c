/* The notes of a core file: registers of every thread, what the process was called, its auxiliary vector and mapped files. */
#include <elf.h>
#include <string.h>
#include <sys/procfs.h>

#include "core_parts.h"

#define FPREGS_BYTES 512ul /* the legacy part of an XSAVE area, which is user_fpregs_struct */
#define NAME "CORE"
#define NAME_LINUX "LINUX"

static void padded_add(struct buf *out, const void *data, size_t len)
{
    static const uint8_t zeros[4] = {0};
    buf_add(out, data, len);
    buf_add(out, zeros, -len & 3);
}

static void note_add(struct buf *out, const char *name, uint32_t type, const void *data, size_t len)
{
    Elf64_Nhdr head = {.n_namesz = (uint32_t)strlen(name) + 1, .n_descsz = (uint32_t)len, .n_type = type};
    buf_add(out, &head, sizeof head);
    padded_add(out, name, head.n_namesz);
    padded_add(out, data, len);
}

static void status_add(struct buf *out, const struct task *t, const struct thread *th)
{
    struct elf_prstatus status = {.pr_pid = (pid_t)th->tid, .pr_ppid = (pid_t)t->ppid, .pr_pgrp = (pid_t)t->pgid, .pr_sid = (pid_t)t->sid};
    size_t len = th->regs.len < sizeof status.pr_reg ? th->regs.len : sizeof status.pr_reg;
    status.pr_sighold = th->sigmask;
    status.pr_fpvalid = th->xstate.len >= FPREGS_BYTES;
    memcpy(&status.pr_reg, th->regs.data, len);
    note_add(out, NAME, NT_PRSTATUS, &status, sizeof status);
}

static void state_add(struct buf *out, const struct thread *th)
{
    if (th->xstate.len < FPREGS_BYTES)
        return;
    note_add(out, NAME, NT_FPREGSET, th->xstate.data, FPREGS_BYTES);
    note_add(out, NAME_LINUX, NT_X86_XSTATE, th->xstate.data, th->xstate.len);
}

static void info_add(struct buf *out, const struct task *t)
{
    struct elf_prpsinfo info = {.pr_sname = 'T', .pr_state = 3, .pr_pid = (pid_t)t->pid, .pr_ppid = (pid_t)t->ppid, .pr_pgrp = (pid_t)t->pgid, .pr_sid = (pid_t)t->sid};
    info.pr_uid = (uint32_t)t->threads[0].creds.ruid;
    info.pr_gid = (uint32_t)t->threads[0].creds.rgid;
    strncpy(info.pr_fname, t->comm, sizeof info.pr_fname - 1);
    strncpy(info.pr_psargs, t->mm.exe, sizeof info.pr_psargs - 1);
    note_add(out, NAME, NT_PRPSINFO, &info, sizeof info);
}

/* NT_FILE: count, page size, {start, end, offset in pages}, then the paths. */
static void files_add(struct buf *out, const struct mm *mm)
{
    AUTO_BUF struct buf rows = {0}, paths = {0}, note = {0};
    uint64_t head[2] = {0, PAGE_BYTES};
    for (size_t i = 0; i < mm->vmas_count; i++) {
        const struct vma *v = &mm->vmas[i];
        const uint64_t row[3] = {v->start, v->end, v->offset / PAGE_BYTES};
        if (v->kind != VMA_FILE)
            continue;
        head[0]++;
        buf_add(&rows, row, sizeof row);
        buf_add(&paths, v->path, strlen(v->path) + 1);
    }
    buf_add(&note, head, sizeof head);
    buf_add(&note, rows.data, rows.len);
    buf_add(&note, paths.data, paths.len);
    note_add(out, NAME, NT_FILE, note.data, note.len);
}

void core_notes(struct buf *out, const struct task *t)
{
    status_add(out, t, &t->threads[0]);
    info_add(out, t);
    note_add(out, NAME, NT_AUXV, t->mm.auxv.data, t->mm.auxv.len);
    files_add(out, &t->mm);
    state_add(out, &t->threads[0]);
    for (size_t i = 1; i < t->threads_count; i++) {
        status_add(out, t, &t->threads[i]);
        state_add(out, &t->threads[i]);
    }
}
