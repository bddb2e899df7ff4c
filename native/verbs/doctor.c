/* native doctor: what this kernel and these privileges allow, in plain words or as JSON. */
#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "../kernel/doctor.h"
#include "simple.h"
#include "verbs.h"

struct tally {
    struct buf json;
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
        printf("%s %s on %s, %s\n", system.sysname, system.release, system.machine, geteuid() == 0 ? "as root" : "as an ordinary user");
    fflush(stdout);
    for (size_t k = 0; k < doctor_probe_count; k++)
        probe_tell(&t, &doctor_probes[k]);
    for (size_t k = 0; k < doctor_net_probe_count; k++)
        probe_tell(&t, &doctor_net_probes[k]);
    buf_add(&t.json, "", 1);
    if (t.as_json)
        output_event("done", "\"kernel\":\"%s\",\"machine\":\"%s\",\"uid\":%u,\"missing\":%zu,\"reduced\":%zu,\"probes\":[%s]", system.release, system.machine,
                     geteuid(), t.missing, t.reduced, (char *)t.json.data);
    else
        printf("%zu things that pods and snapshots need are missing here, %zu more would be good to have.\n", t.missing, t.reduced);
    buf_free(&t.json);
    return 0;
}

int verb_doctor(int argc, char **argv)
{
    return verb_outcome(argc, argv, run);
}
