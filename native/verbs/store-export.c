/* native store-export: the chunks whose digests stand on standard input, each checked, as a stream on standard output. */
#include "../store/stream.h"
#include "store-common.h"
#include "verbs.h"

static int chunk_send(void *ctx, const struct digest *digest, struct err *e)
{
    return stream_send(ctx, 1, digest, e);
}

static int export_run(int argc, char **argv, struct err *e)
{
    const char *dir = NULL;
    const struct option_spec specs[] = {{"store", 'd', &dir, true, "the store"}};
    struct store *s = NULL;
    if (plain_parse(argc, argv, "native store-export --store DIR < DIGESTS > STREAM", specs, ARRAY_LENGTH(specs), e) ||
        store_open(dir, false, &s, e))
        return -1;
    int result = stream_begin(1, e) || digests_each(chunk_send, s, e) || stream_end(1, e) ? -1 : 0;
    store_close(s);
    return result;
}

int verb_store_export(int argc, char **argv)
{
    struct err e = {0};
    output_open(2);
    return verb_end(export_run(argc, argv, &e), &e);
}
