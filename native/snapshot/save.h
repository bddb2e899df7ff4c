/* The parts of a snapshot that CORE saves, in the order in which snapshot/take.c calls them, all in the pause unless said otherwise. */
#pragma once
#include "snapshot.h"

#define NODES_MAX 1024ul /* of memory policies; MAX_NUMNODES of the largest kernels */

/* task_look.c: which POSIX timers there are, as /proc tells it. */
MUST_CHECK int timers_look(const struct victim *v, struct task *out, struct err *e);
/* facts_save.c: host, engine, times, pod. */
MUST_CHECK int facts_save(struct snapshot *s, struct err *e);
/* task_save.c: one struct task per victim, parents before children; s->victims is sorted the same way. */
MUST_CHECK int tasks_save(struct snapshot *s, struct err *e);
/* task_look.c: the part of a task that needs no call in the process. */
MUST_CHECK int task_look(struct snapshot *s, struct victim *v, struct task *out, struct err *e);
/* thread_save.c: what is seen of a thread from outside; what only it can tell, among other questions (inquiry.h); both at once. */
struct inquiry;
MUST_CHECK int thread_look(struct victim *v, size_t index, struct thread *out, struct err *e);
size_t thread_ask(struct inquiry *q);
MUST_CHECK int thread_take(const struct inquiry *q, size_t first, struct thread *out, struct err *e);
MUST_CHECK int thread_save(struct victim *v, size_t index, struct inquiry *q, struct thread *out, struct err *e);
/* thread_dirs_save.c */
MUST_CHECK int threads_directories_save(struct snapshot *s, struct err *e);
/* leader_save.c: first threads that have ended. Nothing that goes by the order of the victims' threads may come afterwards. */
MUST_CHECK int leaders_save(struct snapshot *s, struct err *e);
/* vma_save.c: the map of one process, without contents of private pages; then what it says of its memory policies (mbind). */
MUST_CHECK int vmas_save(struct snapshot *s, struct victim *v, struct task *out, struct err *e);
size_t policies_ask(struct inquiry *q, const struct task *t, size_t from); /* of some mappings from that one on: how many */
void policies_take(const struct inquiry *q, size_t first, struct task *out, size_t from, size_t count);
/* memory_save.c: contents of private pages, appended to mm->extents. Through the process itself in the pause, or afterwards through
 * its copy-on-write copy (cow.h); what a fork does not copy (MADV_DONTFORK, MADV_WIPEONFORK) is read in the pause in any case. */
enum memory_part { MEMORY_ALL, MEMORY_NOT_COPIED, MEMORY_COPIED };
struct memory_plan;
MUST_CHECK int memory_save(struct snapshot *s, const struct victim *v, struct mm *mm, const struct memory_plan *plan, enum memory_part part,
                           struct err *e);
/* After the pause, all that is read being there: what the parent has of it, and extents in order. */
void memory_keep(struct snapshot *s, const struct memory_plan *plan, struct mm *mm);
/* trees_save.c: directory trees in the pause; files of the host's part of the root after it (content kept, they must not change: checked by ctime). */
MUST_CHECK int trees_save(struct snapshot *s, struct err *e);
MUST_CHECK int hostfiles_save(struct snapshot *s, struct err *e);
