/* What the verbs of images and stores share: how they end, an IMAGE among the arguments, digests as lines. */
#pragma once
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../image/image.h"

/* `failed` when result is not 0; the exit status. */
static inline int verb_end(int result, const struct err *e)
{
    if (!result)
        return E_OK;
    output_failed(e);
    return (int)e->code;
}

/* Options may stand before and behind the one word that is no option. */
static inline int word_parse(int argc, char **argv, const char *usage, const struct option_spec *specs, size_t count,
                             const char *what, const char **word, struct err *e)
{
    int rest = 0, more = 0;
    if (options_parse(argc, argv, usage, specs, count, &rest, e))
        return -1;
    if (rest >= argc)
        return err_set(e, E_USAGE, "%s is needed (see --help)", what);
    *word = argv[rest];
    if (options_parse(argc - rest, argv + rest, usage, specs, count, &more, e))
        return -1;
    return rest + more < argc ? err_set(e, E_USAGE, "'%s' is one word too many", argv[rest + more]) : 0;
}

/* Verbs without words: anything behind the options is refused. */
static inline int plain_parse(int argc, char **argv, const char *usage, const struct option_spec *specs, size_t count,
                              struct err *e)
{
    int rest = 0;
    if (options_parse(argc, argv, usage, specs, count, &rest, e))
        return -1;
    return rest < argc ? err_set(e, E_USAGE, "'%s' is one word too many", argv[rest]) : 0;
}

/* The store of an image: the one that was named, else its own. */
static inline char *store_of(const char *image, const char *store)
{
    return store ? xstrdup(store) : xasprintf("%s/store", image);
}

/* Lines "DIGEST" or "DIGEST LENGTH" from standard input, to the end. */
static inline int digests_each(int (*fn)(void *ctx, const struct digest *digest, struct err *e), void *ctx, struct err *e)
{
    char line[128];
    for (uint64_t number = 1; fgets(line, sizeof line, stdin); number++) {
        struct digest digest;
        line[strcspn(line, " \n")] = 0;
        if (digest_parse(line, &digest, e))
            return err_wrap(e, "line %lu", number);
        if (fn(ctx, &digest, e))
            return -1;
    }
    return ferror(stdin) ? err_set(e, E_IO, "standard input cannot be read") : 0;
}
