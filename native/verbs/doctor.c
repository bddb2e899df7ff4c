/* native doctor: what this kernel and these privileges allow, in plain words or as JSON. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "../kernel/doctor.h"
#include "../kernel/hugepool.h"
#include "simple.h"
#include "verbs.h"

struct tally {
    struct buf json, pools;
    size_t missing, reduced;
    bool as_json;
};

static void probe_tell(struct tally *t, const struct doctor_probe *p)
{
    struct err why = {0};
    bool fine = doctor_try(p, &why) == 0;
    AUTO_FREE char *words = json_quote(p->words), *without = json_quote(p->without), *reason = json_quote(why.message);
    t->missing += !fine && p->weight == DOCTOR_NEEDED;
    t->reduced += !fine && p->weight == DOCTOR_WANTED;
    buf_addf(&t->json, "%s{\"name\":\"%s\",\"ok\":%s,\"needed\":%s,\"words\":%s,\"without\":%s,\"reason\":%s}", t->json.len ? "," : "", p->name,
             fine ? "true" : "false", p->weight == DOCTOR_NEEDED ? "true" : "false", words, without, reason);
    if (!t->as_json && fine)
        printf("  yes  %s\n", p->words);
    else if (!t->as_json)
        printf("  NO   %s: %s\n       so: %s\n", p->words, why.message, p->without);
}

/* Root of a user namespace is called root as well. */
static const char *who(void)
{
    AUTO_BUF struct buf map = {0};
    struct err ignored;
    unsigned long inside = 1, outside = 1, count = 0;
    if (geteuid() != 0)
        return "as an ordinary user";
    if (io_slurp(AT_FDCWD, "/proc/self/uid_map", &map, 4096, &ignored) < 0 || sscanf((char *)map.data, "%lu %lu %lu", &inside, &outside, &count) != 3)
        return "as root";
    return inside == 0 && outside == 0 && count == UINT32_MAX ? "as root of the machine" : "as an ordinary user, root of a user namespace";
}

static void probes_tell(struct tally *t, const struct doctor_probe *probes, size_t count)
{
    for (size_t k = 0; k < count; k++)
        probe_tell(t, &probes[k]);
}

/* No feature: a job that uses them comes back where as many are free. */
static void pools_tell(struct tally *t)
{
    struct hugepool pool;
    for (uint64_t size = HUGEPOOL_SMALLEST; size <= HUGEPOOL_LARGEST; size *= 2) {
        if (!hugepool_read(size, &pool))
            continue;
        buf_addf(&t->pools, "%s{\"page_bytes\":%lu,\"total\":%lu,\"free\":%lu}", t->pools.len ? "," : "", size, pool.total, pool.free);
        if (!t->as_json)
            printf("Huge pages of %lu KiB: %lu, free %lu%s\n", size / 1024, pool.total, pool.free, pool.further ? ", more on demand" : "");
    }
    buf_add(&t->pools, "", 1);
}

static int run(int argc, char **argv, struct err *e)
{
    struct tally t = {0};
    struct utsname system;
    int rest;
    const struct option_spec options[] = {{"json", 'b', &t.as_json, false, "one line of JSON instead of words"}};
    if (options_parse(argc, argv, "native doctor [--json]", options, ARRAY_LENGTH(options), &rest, e) < 0)
        return -1;
    if (uname(&system) < 0)
        return err_errno(e, "uname");
    if (!t.as_json)
        printf("%s %s on %s, %s\n", system.sysname, system.release, system.machine, who());
    if (!t.as_json && geteuid() != 0)
        printf("(an ordinary user works inside a user namespace: unshare --user --map-root-user --mount native ...)\n");
    fflush(stdout);
    probes_tell(&t, doctor_probes, doctor_probe_count);
    probes_tell(&t, doctor_net_probes, doctor_net_probe_count);
    if (!t.as_json)
        printf("The kernel, and rights that only root of a machine has:\n");
    fflush(stdout);
    probes_tell(&t, doctor_rights_probes, doctor_rights_probe_count);
    buf_add(&t.json, "", 1);
    pools_tell(&t);
    if (t.as_json)
        output_event("done", "\"kernel\":\"%s\",\"machine\":\"%s\",\"uid\":%u,\"as\":\"%s\",\"missing\":%zu,\"reduced\":%zu,\"huge_pages\":[%s],\"probes\":[%s]", system.release, system.machine,
                     geteuid(), who(), t.missing, t.reduced, (char *)t.pools.data, (char *)t.json.data);
    else
        printf("%zu things that pods and snapshots need are missing here, %zu more would be good to have.\n", t.missing, t.reduced);
    buf_free(&t.json);
    buf_free(&t.pools);
    return 0;
}

int verb_doctor(int argc, char **argv)
{
    return verb_outcome(argc, argv, run);
}
