/* Paths inside a root that others filled (an image, a job). A step over a magic link of /proc (/proc/self/fd/N) would lead to what this
 * process holds open, and from there out of the root: such a path is refused with ELOOP. Ordinary links are followed; they stay inside. */
#pragma once
#include <sys/types.h>
#include <time.h>

#include "../base/base.h"

/* open(2) without magic links; always O_CLOEXEC. -1 and errno. */
int inside_open(const char *path, int flags, mode_t mode);
/* The directory (O_PATH) that holds the last name of the path; *name points into path. -1 and errno; EINVAL for "", "a/", "." and "..". */
int inside_parent(const char *path, const char **name);
/* Around what is made and removed in a directory that shall not look younger for it. */
struct inside_times {
    struct timespec access, change; /* of its content */
};
struct inside_times inside_times_keep(int dir);
void inside_times_set(int dir, const struct inside_times *times); /* as far as rights go */
/* Is a step of the path a link of any kind? For places that no root has as links. */
bool inside_is_linked(const char *path);
/* The directory (O_PATH) of that absolute path; missing ones are made. */
MUST_CHECK int inside_mkdirs(const char *path, mode_t mode, struct err *e);
