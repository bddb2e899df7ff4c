/* clusteros-rsh --serve [-- COMMAND...]: the server of a pod.
 * clusteros-rsh [options of ssh] [USER@]HOST COMMAND...: run a command on another pod of the job; hosts that are not of the job
 * get the real ssh, with our arguments as they are. Also installed under the names ssh and rsh. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hosts.h"
#include "rsh.h"

static const char usage[] =
    "usage: clusteros-rsh --serve [-- COMMAND...]\n"
    "       clusteros-rsh [-l USER] [-n] [options of ssh, ignored] [USER@]HOST COMMAND...\n"
    "Runs COMMAND on another pod of this job, with this program's standard input, output and error.\n"
    "Hosts outside of the job are given to the real ssh.\n";
static const char options_with_value[] = "BbcDEeFIiJLlmOopPQRSWw";

/* The options that ssh knows; returns the index of HOST. */
static int options_skip(int argc, char **argv, bool *no_input)
{
    int at = 1;
    for (; at < argc && argv[at][0] == '-' && argv[at][1]; at++) {
        if (strcmp(argv[at], "--") == 0)
            return at + 1;
        for (const char *c = argv[at] + 1; *c; c++) {
            *no_input |= *c == 'n';
            if (!strchr(options_with_value, *c))
                continue;
            at += c[1] == 0; /* the value is the next word */
            break;
        }
    }
    return at;
}

static _Noreturn void real_ssh(char **argv)
{
    struct stat own, other;
    const char *path = getenv("PATH");
    AUTO_FREE char *copy = xstrdup(path && *path ? path : "/usr/local/bin:/usr/bin:/bin");
    char *save = NULL;
    for (char *dir = strtok_r(copy, ":", &save); dir && stat("/proc/self/exe", &own) == 0; dir = strtok_r(NULL, ":", &save)) {
        AUTO_FREE char *candidate = xasprintf("%s/ssh", dir);
        if (stat(candidate, &other) < 0 || access(candidate, X_OK) < 0 || (own.st_dev == other.st_dev && own.st_ino == other.st_ino))
            continue;
        argv[0] = candidate;
        execv(candidate, argv);
    }
    fprintf(stderr, "clusteros-rsh: the host is not of this job, and there is no ssh here\n");
    exit(255);
}

static char *words_join(char **words)
{
    struct buf line = {0};
    for (; *words; words++)
        buf_addf(&line, "%s%s", line.len ? " " : "", *words);
    buf_add(&line, "", 1);
    return (char *)line.data;
}

static int ask(int argc, char **argv)
{
    bool no_input = false;
    struct in_addr address;
    int at = options_skip(argc, argv, &no_input);
    if (at >= argc) {
        fputs(usage, stderr);
        return E_USAGE;
    }
    const char *sign = strrchr(argv[at], '@'), *host = sign ? sign + 1 : argv[at];
    if (!host_find(host, &address) || !address_is_ours(address))
        real_ssh(argv);
    int command = at + 1;
    command += command < argc && strcmp(argv[command], "-n") == 0 && (no_input = true); /* rsh takes -n behind the host, too */
    if (command >= argc) {
        fprintf(stderr, "clusteros-rsh: which COMMAND on %s? There are no terminals here\n", host);
        return E_USAGE;
    }
    AUTO_FREE char *line = words_join(argv + command);
    return client(host, line, no_input);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--help") == 0)
        return fputs(usage, stdout) < 0;
    if (argc < 2 || strcmp(argv[1], "--serve") != 0)
        return ask(argc, argv);
    char **command = argv + 2;
    if (*command && strcmp(*command, "--") == 0)
        command++;
    return serve(*command ? command : NULL);
}
