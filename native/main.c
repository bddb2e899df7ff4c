/* `native VERB …`: finds the verb and runs it. The table is verbs/verbs.def: one line, one file a verb. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "verbs/verbs.h"

static const struct verb {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} verbs[] = {
#define VERB(symbol, name, help) {name, verb_##symbol, help},
#include "verbs/verbs.def"
#undef VERB
};

static int usage(FILE *out)
{
    fprintf(out, "usage: native VERB [OPTIONS]   (native VERB --help tells more)\n\n");
    for (size_t k = 0; k < ARRAY_LENGTH(verbs); k++)
        fprintf(out, "  %-16s %s\n", verbs[k].name, verbs[k].help);
    return out == stdout ? E_OK : E_USAGE;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return usage(stderr);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)
        return usage(stdout);
    for (size_t k = 0; k < ARRAY_LENGTH(verbs); k++)
        if (strcmp(argv[1], verbs[k].name) == 0)
            return verbs[k].run(argc - 1, argv + 1);
    fprintf(stderr, "native: there is no verb '%s'; native --help lists them\n", argv[1]);
    return E_USAGE;
}
