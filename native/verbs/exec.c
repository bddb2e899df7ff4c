/* native exec: run COMMAND inside a pod, with our own standard input and output; ends with its exit status. What runs like this holds
 * descriptors from outside the pod: a snapshot meanwhile is refused. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kernel/cgroup.h"
#include "../kernel/namespaces.h"
#include "../pod/command.h"
#include "../pod/pod.h"
#include "simple.h"
#include "verbs.h"

static const char usage[] = "native exec --pod POD [--workdir DIR] [--env FILE] [--root] -- COMMAND...";

struct exec_options {
    const char *dir, *env_file;
    struct command command;
};

static int options_take(int argc, char **argv, struct exec_options *o, struct err *e)
{
    int rest;
    const struct option_spec options[] = {
        {"pod", 'd', &o->dir, true, "directory of the pod"},
        {"workdir", 's', &o->command.workdir, false, "working directory inside the pod (/)"},
        {"env", 'd', &o->env_file, false, "KEY=VALUE, each ended by a NUL byte (the environment that the pod's COMMAND was started with)"},
        {"root", 'b', &o->command.as_root, false, "as uid 0, still without capabilities"},
    };
    if (options_parse(argc, argv, usage, options, ARRAY_LENGTH(options), &rest, e) < 0)
        return -1;
    if (rest >= argc)
        return err_set(e, E_USAGE, "which COMMAND? (%s)", usage);
    o->command.argv = argv + rest;
    return o->env_file ? environment_read(o->env_file, &o->command.envp, e) : 0;
}

static void environment_borrow(const struct pod *pod, struct command *command)
{
    struct err ignored;
    size_t count;
    AUTO_FREE pid_t *pids = NULL;
    if (command->envp || pod_pids(pod, &pids, &count, &ignored) < 0)
        return;
    for (size_t k = 0; k < count; k++) {
        AUTO_FREE char *path = xasprintf("/proc/%d/environ", pids[k]);
        if (inside_pid(pids[k]) == (pid_t)pod->facts.command_pid && environment_read(path, &command->envp, &ignored) < 0)
            command->envp = NULL; /* a plain one then */
    }
}

static int inside_run(const struct pod *pod, const struct command *command, struct err *e)
{
    int status;
    if (cgroups_attach(pod->cgroups, getpid(), e) < 0 || namespaces_join(pod->init_pid, e) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
        command_become(&pod->facts, command, e);
        fprintf(stderr, "native exec: %s\n", e->message);
        _exit((int)e->code);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (pid < 0)
        return err_errno(e, "fork");
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int run(int argc, char **argv, struct err *e)
{
    struct exec_options o = {0};
    struct pod pod;
    if (options_take(argc, argv, &o, e) < 0 || pod_open(o.dir, &pod, e) < 0)
        return -1;
    environment_borrow(&pod, &o.command);
    int result = pod_is_frozen(&pod) ? err_set(e, E_CONFLICT, "the pod is frozen") : inside_run(&pod, &o.command, e);
    pod_close(&pod);
    return result;
}

int verb_exec(int argc, char **argv)
{
    struct err e = {0};
    output_open(STDERR_FILENO); /* stdout is COMMAND's */
    int status = run(argc, argv, &e);
    if (status >= 0)
        return status;
    output_failed(&e);
    return (int)e.code;
}
