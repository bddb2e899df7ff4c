/* native snapshot: asks the pod's keeper, which runs this verb again with --direct. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "../base/urgent.h"
#include "../snapshot/snapshot.h"
#include "verbs.h"

static int then_parse(const char *word, enum then *out, struct err *e)
{
    static const char *const words[] = {"run", "stop", "kill"};
    for (size_t k = 0; k < ARRAY_LENGTH(words); k++)
        if (strcmp(word, words[k]) == 0) {
            *out = (enum then)k;
            return 0;
        }
    return err_set(e, E_USAGE, "--then wants run, stop or kill, not '%s'", word);
}

static char *absolute(const char *path)
{
    if (!path || path[0] == '/')
        return path ? xstrdup(path) : NULL;
    AUTO_FREE char *here = realpath(".", NULL);
    return xasprintf("%s/%s", here ? here : "", path);
}

/* The keeper has another working directory: every path is given whole. */
static int ask_keeper(const struct snapshot_options *o, const char *then, const char *live, struct err *e)
{
    AUTO_FREE char *pod = absolute(o->pod), *image = absolute(o->image), *store = absolute(o->store), *parent = absolute(o->parent);
    const char *args[16];
    int n = 0;
    args[n++] = "--pod", args[n++] = pod, args[n++] = "--image", args[n++] = image;
    args[n++] = "--then", args[n++] = then, args[n++] = "--live", args[n++] = live;
    if (store)
        args[n++] = "--store", args[n++] = store;
    if (parent)
        args[n++] = "--parent", args[n++] = parent;
    if (o->barrier) {
        args[n++] = "--barrier";
        urgent_relay();
    }
    args[n] = NULL;
    return keeper_act(pod, "snapshot", n, (char **)(uintptr_t)args, e);
}

int verb_snapshot(int argc, char **argv)
{
    struct err e = {0};
    struct snapshot_options o = {0};
    const char *then = "run", *live = "auto";
    bool direct = false;
    int rest;
    const struct option_spec specs[] = {
        {"pod", 'd', &o.pod, true, "directory of the pod"},
        {"image", 'd', &o.image, true, "directory that the image is written to"},
        {"store", 'd', &o.store, false, "directory of the chunks (IMAGE/store by default)"},
        {"parent", 'd', &o.parent, false, "image that this one follows: what did not change is not read again"},
        {"then", 's', &then, false, "run, stop (stays frozen) or kill (after the image is written)"},
        {"live", 's', &live, false, "auto: memory is written after the pause; off: within it"},
        {"barrier", 'b', &o.barrier, false, "print prepared, wait for stop; print captured, wait for go (or abort)"},
        {"direct", 'b', &direct, false, "work on the pod without asking its keeper (the keeper does this)"},
    };
    output_open(1);
    signal(SIGPIPE, SIG_IGN);
    int result = options_parse(argc, argv, "native snapshot --pod POD --image DIR [OPTIONS]", specs, ARRAY_LENGTH(specs), &rest, &e);
    if (result == 0 && rest != argc)
        result = err_set(&e, E_USAGE, "'%s' is not an option (see --help)", argv[rest]);
    if (result == 0)
        result = then_parse(then, &o.then, &e);
    if (result == 0 && strcmp(live, "auto") != 0 && strcmp(live, "off") != 0)
        result = err_set(&e, E_USAGE, "--live wants auto or off, not '%s'", live);
    o.live = strcmp(live, "auto") == 0;
    if (result == 0 && !direct) {
        int status = ask_keeper(&o, then, live, &e);
        if (status >= 0)
            return status;
        result = -1;
    }
    if (result == 0) {
        output_event("hello", "\"verb\":\"snapshot\"");
        result = snapshot_take(&o, &e);
    }
    if (result == 0)
        return E_OK;
    output_failed(&e);
    return (int)e.code;
}
