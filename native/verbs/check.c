/* native check: can this pod be captured, and if not, why not: by process, descriptor and address. With --pod one line of JSON for programs, with PID
 * or POD alone words for people, of a PID only what concerns it; the exit status tells too. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "../kernel/namespaces.h"
#include "../pod/find.h"
#include "../snapshot/check.h"
#include "verbs.h"

static const char usage[] = "native check --pod POD | PID | POD";

struct question {
    const char *dir; /* of the pod */
    pid_t pid;       /* as this machine numbers it; 0: all of the pod */
    bool in_words;
};

static void report_json(const struct refusals *r)
{
    AUTO_BUF struct buf text = {0};
    for (size_t k = 0; k < r->count; k++) {
        const struct refusal *x = &r->items[k];
        AUTO_FREE char *words = json_quote(x->words);
        buf_addf(&text, "%s{\"pid\":%lu,\"fd\":%ld,\"address\":%lu,\"words\":%s}", k ? "," : "", x->pid, x->fd, x->address, words);
    }
    output_event("done", "\"checkpointable\":%s,\"obstacles\":[%.*s]", r->count ? "false" : "true", (int)text.len,
                 text.data ? (char *)text.data : "");
}

/* ---- in words */

/* Names are the job's choice: nothing of them may reach a terminal as a command. */
static void name_print(pid_t pid)
{
    AUTO_BUF struct buf name = {0};
    struct err gone;
    if (!pid || io_slurpf(&name, 64, &gone, "/proc/%d/comm", pid) < 0)
        return;
    printf(" (");
    for (const char *at = (char *)name.data; *at && *at != '\n'; at++)
        putchar(isprint((unsigned char)*at) ? *at : '?');
    printf(", %d on this machine)", pid);
}

static pid_t outer_pid(const pid_t *pids, size_t count, uint64_t inner)
{
    for (size_t k = 0; k < count; k++)
        if ((uint64_t)inside_pid(pids[k]) == inner)
            return pids[k];
    return 0;
}

static void refusal_print(const struct refusal *x, pid_t outer)
{
    printf("  ");
    if (x->pid) {
        printf("process %lu", x->pid);
        name_print(outer);
        printf(": ");
    }
    if (x->fd >= 0)
        printf("descriptor %ld: ", x->fd);
    if (x->address)
        printf("memory at 0x%lx: ", x->address);
    for (const char *at = x->words; *at; at++)
        putchar(iscntrl((unsigned char)*at) ? '?' : *at);
    putchar('\n');
}

static void report_words(const struct question *q, const struct refusals *r, const pid_t *pids, size_t count)
{
    size_t elsewhere = 0;
    printf("%s: %zu processes, %s\n", q->dir, count, r->count ? "cannot be captured:" : "can be captured");
    for (size_t k = 0; k < r->count; k++) {
        pid_t outer = outer_pid(pids, count, r->items[k].pid);
        if (q->pid && r->items[k].pid && outer != q->pid)
            elsewhere++;
        else
            refusal_print(&r->items[k], outer);
    }
    if (elsewhere)
        printf("  and %zu more that concern%s other processes of the pod\n", elsewhere, elsewhere == 1 ? "s" : "");
}

/* ---- the verb */

/* A number is a process of this machine, anything else a pod. */
static int question_parse(int argc, char **argv, char found[PATH_BYTES], struct question *q, struct err *e)
{
    int rest;
    char *end;
    const struct option_spec specs[] = {{"pod", 'd', &q->dir, false, "directory of the pod; the answer is JSON"}};
    if (options_parse(argc, argv, usage, specs, ARRAY_LENGTH(specs), &rest, e) < 0)
        return -1;
    if (q->dir ? rest != argc : rest + 1 != argc)
        return err_set(e, E_USAGE, "which pod? (%s)", usage);
    if (q->dir)
        return 0;
    q->in_words = true;
    q->dir = argv[rest];
    long pid = strtol(argv[rest], &end, 10);
    if (*end || end == argv[rest])
        return 0;
    if (pid <= 0 || pid > INT32_MAX)
        return err_set(e, E_USAGE, "%s is no process", argv[rest]);
    q->pid = (pid_t)pid;
    q->dir = found;
    return pod_find(q->pid, found, e);
}

static int answer(const struct question *q, struct refusals *refusals, struct err *e)
{
    AUTO_FREE pid_t *pids = NULL;
    struct pod pod;
    size_t count = 0;
    if (pod_open(q->dir, &pod, e) < 0)
        return -1;
    int result = pod_pids(&pod, &pids, &count, e) < 0 ? -1 : snapshot_check(&pod, refusals, e);
    pod_close(&pod);
    if (result < 0)
        return -1;
    if (q->in_words)
        report_words(q, refusals, pids, count);
    else
        report_json(refusals);
    return 0;
}

int verb_check(int argc, char **argv)
{
    char found[PATH_BYTES];
    struct err e = {0};
    struct question q = {0};
    struct refusals refusals = {0};
    output_open(1);
    if (question_parse(argc, argv, found, &q, &e) < 0 || answer(&q, &refusals, &e) < 0) {
        output_failed(&e);
        return (int)e.code;
    }
    bool good = refusals.count == 0;
    refusals_free(&refusals);
    return good ? E_OK : E_UNSUPPORTED;
}
