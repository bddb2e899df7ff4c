/* native check: can this pod be captured, and if not, why not. One line of JSON; the exit status tells too. */
#include <stdlib.h>

#include "../snapshot/check.h"
#include "verbs.h"

static void report(const struct refusals *r)
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

int verb_check(int argc, char **argv)
{
    struct err e = {0};
    struct pod pod;
    struct refusals refusals = {0};
    const char *dir = NULL;
    int rest;
    const struct option_spec specs[] = {{"pod", 'd', &dir, true, "directory of the pod"}};
    output_open(1);
    int result = options_parse(argc, argv, "native check --pod POD", specs, ARRAY_LENGTH(specs), &rest, &e);
    if (result == 0 && (result = pod_open(dir, &pod, &e)) == 0) {
        result = snapshot_check(&pod, &refusals, &e);
        pod_close(&pod);
    }
    if (result < 0) {
        output_failed(&e);
        return (int)e.code;
    }
    report(&refusals);
    bool good = refusals.count == 0;
    refusals_free(&refusals);
    return good ? E_OK : E_UNSUPPORTED;
}
