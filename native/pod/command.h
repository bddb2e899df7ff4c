/* COMMAND: an ordinary process of the job, started inside the pod. */
#pragma once
#include "pod.h"

struct command {
    char **argv, **envp;       /* envp NULL: a plain environment made from the pod's facts */
    const char *workdir;
    bool as_root;              /* exec --root: uid 0, still without capabilities */
};
/* KEY=VALUE, each ended by NUL. The list and its texts stay for the life of the process. */
MUST_CHECK int environment_read(const char *path, char ***envp, struct err *e);
char **environment_plain(const struct pod_facts *facts);
/* Become COMMAND: session, signals, filter, credentials, descriptors above 2 closed, exec. Returns only on failure (E_NO_COMMAND or why). */
int command_become(const struct pod_facts *facts, const struct command *command, struct err *e);
/* Start COMMAND as a child with these as its standard output and error, /dev/null as input; 0 once it has been executed. */
MUST_CHECK int command_start(const struct pod *pod, const struct command *command, pid_t *pid, struct err *e);
