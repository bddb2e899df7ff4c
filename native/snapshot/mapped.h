/* What a mapping shows, where /proc/PID/map_files is closed to us (it wants CAP_CHECKPOINT_RESTORE in the machine's first user namespace). */
#pragma once
#include "../kernel/procfs.h"
#include "snapshot.h"

/* The file that is mapped there: stat by its entry in map_files, else by its path in the pod. */
MUST_CHECK int mapped_stat(const struct pod *pod, pid_t pid, const struct proc_map *m, struct stat *out, struct err *e);
/* A mapped object that has no path and that map_files does not give: saved through a descriptor that some process of the pod has of it, else by
 * what the pod's mappings show of it (all processes are stopped). Of what no mapping shows, nobody in the pod can see anything. */
MUST_CHECK int mapped_save(struct snapshot *s, const struct proc_map *m, uint64_t kind, const char *name, uint64_t *id, struct err *e);
