/* How long a thread had still to wait in a call whose end only the kernel knows (nanosleep, poll, futex). The kernel writes what is left where
 * the program asked for it; where not, it is the limit less the time since the thread fell asleep, which must be looked at before the
 * stop wakes it. Unknown (0): the call is made again with its whole limit, which is longer, never shorter. */
#pragma once
#include "snapshot.h"

struct sleeper {
    pid_t tid;
    uint64_t since_ns;  /* CLOCK_MONOTONIC of this process */
    uint64_t until_ns;  /* known from an earlier snapshot or the restore; 0: not known */
    uint64_t switches;  /* of the thread when it was seen: one more when it is stopped, or it has slept again since */
    bool long_wait;     /* a second or more in all: shorter ones come and go all the time, and are not noted */
};
struct sleeper_list {
    struct sleeper *items;
    size_t count;
};
/* While the job runs. */
MUST_CHECK int sleepers_look(const struct pod *pod, struct sleeper_list *out, struct err *e);
/* So that an engine which dies does not take with it when they end: written before the stop. Those that did not sleep until the stop are to be
 * left out when they are stopped (false: write it once more). */
MUST_CHECK int sleepers_note(const struct pod *pod, const struct sleeper_list *l, struct err *e);
MUST_CHECK bool sleepers_confirm(struct sleeper_list *l, const struct victim *victims, size_t count);
/* When the job runs on after an act that did not come to its end. */
MUST_CHECK int sleepers_settle(const struct pod *pod, struct err *e);
/* Of stopped threads in which nothing is called any more: when the waits that go on end, kept in the pod's directory for the next snapshot, to
 * which the kernel only says that they were interrupted before. The text is made in the pause and written after it. */
void sleepers_describe(const struct victim *victims, const struct task *tasks, size_t count, struct buf *out);
MUST_CHECK int sleepers_keep(const struct pod *pod, const struct buf *text, struct err *e);
void sleepers_free(struct sleeper_list *l);
/* restart_nr and restart_remaining_ns of a stopped thread. */
void sleep_save(const struct snapshot *s, const struct victim *v, const struct victim_thread *t, struct thread *out);
/* ---- between sleep_save.c and sleep_keep.c */
bool sleeper_number(pid_t pid, pid_t tid, const char *file, const char *key, double *out);
void sleepers_kept(const struct pod *pod, struct buf *out); /* a text, empty if there is none */
uint64_t sleepers_known(const char *kept, pid_t tid, uint64_t switches);
