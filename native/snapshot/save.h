/* The parts of a snapshot that CORE saves, in the order in which snapshot/take.c calls them, all in the pause unless said otherwise. */
#pragma once
#include "snapshot.h"

/* facts_save.c: host, engine, times, pod. */
MUST_CHECK int facts_save(struct snapshot *s, struct err *e);
/* task_save.c: one struct task per victim, parents before children; s->victims is sorted the same way. */
MUST_CHECK int tasks_save(struct snapshot *s, struct err *e);
/* thread_save.c */
MUST_CHECK int thread_save(struct snapshot *s, struct victim *v, size_t index, struct thread *out, struct err *e);
/* vma_save.c: the map of one process, without contents of private pages. */
MUST_CHECK int vmas_save(struct snapshot *s, struct victim *v, struct task *out, struct err *e);
/* memory_save.c: contents of the private pages of one process, through `pid`'s memory (the process itself or its copy-on-write child). */
MUST_CHECK int memory_ranges(const struct victim *v, const struct mm *mm, struct store_range **ranges, size_t *count, struct err *e);
MUST_CHECK int memory_save(struct snapshot *s, const struct victim *v, struct mm *mm, struct err *e);
/* trees_save.c: directory trees in the pause; files of the host's part of the root after it (content kept, they must not change: checked by ctime). */
MUST_CHECK int trees_save(struct snapshot *s, struct err *e);
MUST_CHECK int hostfiles_save(struct snapshot *s, struct err *e);
