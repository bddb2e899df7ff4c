/* native run: make a pod, start COMMAND in it under a keeper, return when it runs. */
#include <stdio.h>
#include <string.h>

#include "../pod/command.h"
#include "../pod/pod.h"
#include "../pod/root.h"
#include "simple.h"
#include "verbs.h"

static const char usage[] = "native run --pod POD [OPTIONS] -- COMMAND...";

static int in_pod(struct pod *pod, void *ctx, int channel, struct err *e)
{
    pid_t pid;
    (void)channel;
    if (root_seal(e) < 0 || command_start(pod, ctx, &pid, e) < 0)
        return -1;
    pod->facts.command_pid = (uint64_t)pid;
    return 0;
}

static int options_take(int argc, char **argv, struct pod_spec *spec, struct command *command, struct err *e)
{
    const char *io_uring = "enosys";
    int rest;
    const struct option_spec options[] = {
        {"pod", 'd', &spec->dir, true, "directory of the pod, made when it is not there"},
        {"net", 's', &spec->net, false, "hub=NETNS,bridge=br0,ip=10.77.0.1/16,gw=...,mac=...,ifname=eth0,mtu=1450; else loopback alone"},
        {"uid", 'u', &spec->uid, false, "user that COMMAND runs as (0)"},
        {"gid", 'u', &spec->gid, false, "its group (0)"},
        {"hostname", 's', &spec->hostname, false, "host name in the pod"},
        {"hosts", 'd', &spec->hosts_file, false, "becomes /etc/hosts in the pod"},
        {"mem", 'u', &spec->mem_bytes, false, "memory limit in bytes"},
        {"cpus", 's', &spec->cpus, false, "processors, such as 0-3,7"},
        {"workdir", 's', &command->workdir, false, "working directory inside the pod, made when it is not there (/)"},
        {"lower", 'd', &spec->lower, false, "the root below the pod's own changes (/)"},
        {"stdout", 'd', &spec->stdout_path, false, "appended to (POD/log/stdout)"},
        {"stderr", 'd', &spec->stderr_path, false, "appended to (POD/log/stderr)"},
        {"env", 'd', &spec->env_file, false, "KEY=VALUE, each ended by a NUL byte: the whole environment"},
        {"io-uring", 's', &io_uring, false, "io_uring and AIO: enosys (default) or allow"},
    };
    if (options_parse(argc, argv, usage, options, ARRAY_LENGTH(options), &rest, e) < 0)
        return -1;
    if (rest >= argc)
        return err_set(e, E_USAGE, "which COMMAND? (%s)", usage);
    if (strcmp(io_uring, "allow") != 0 && strcmp(io_uring, "enosys") != 0)
        return err_set(e, E_USAGE, "--io-uring is allow or enosys, not '%s'", io_uring);
    spec->io_uring_allowed = strcmp(io_uring, "allow") == 0;
    spec->workdir = command->workdir;
    command->argv = argv + rest;
    return spec->env_file ? environment_read(spec->env_file, &command->envp, e) : 0;
}

static int run(int argc, char **argv, struct err *e)
{
    struct pod_spec spec = {0};
    struct command command = {0};
    struct pod pod;
    const struct pod_program program = {.in_pod = in_pod};
    if (options_take(argc, argv, &spec, &command, e) < 0 || pod_create(&spec, &program, &command, &pod, e) < 0)
        return -1;
    AUTO_FREE char *dir = json_quote(pod.dir);
    output_event("done", "\"pod\":%s,\"keeper_pid\":%d,\"init_pid\":%d,\"command_pid\":%lu", dir, pod.keeper_pid, pod.init_pid, pod.facts.command_pid);
    pod_close(&pod);
    return 0;
}

int verb_run(int argc, char **argv)
{
    return verb_outcome(argc, argv, run);
}
