/* native store-missing: which of the digests on standard input the store has not. Lines in, lines out. */
#include "store-common.h"
#include "verbs.h"

static int missing_print(void *ctx, const struct digest *digest, struct err *e)
{
    char hex[65];
    if (store_has(ctx, digest))
        return 0;
    digest_hex(digest, hex);
    return puts(hex) < 0 ? err_set(e, E_IO, "standard output cannot be written") : 0;
}

static int missing_run(int argc, char **argv, struct err *e)
{
    const char *dir = NULL;
    const struct option_spec specs[] = {{"store", 'd', &dir, true, "the store"}};
    struct store *s = NULL;
    if (plain_parse(argc, argv, "native store-missing --store DIR < DIGESTS", specs, ARRAY_LENGTH(specs), e) ||
        store_open(dir, true, &s, e))
        return -1;
    int result = digests_each(missing_print, s, e);
    store_close(s);
    return !result && fflush(stdout) ? err_set(e, E_IO, "standard output cannot be written") : result;
}

int verb_store_missing(int argc, char **argv)
{
    struct err e = {0};
    output_open(2);
    return verb_end(missing_run(argc, argv, &e), &e);
}
