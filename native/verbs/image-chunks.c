/* native image-chunks: "DIGEST LENGTH" of every chunk that an image needs, each once. */
#include "../store/index.h"
#include "store-common.h"
#include "verbs.h"

static int chunk_print(void *ctx, const struct digest *digest, uint64_t len, struct err *e)
{
    char hex[65];
    struct place once = {.digest = *digest, .state = PLACE_READY};
    if (!index_add(ctx, &once))
        return 0;
    digest_hex(digest, hex);
    return printf("%s %lu\n", hex, len) < 0 ? err_set(e, E_IO, "standard output cannot be written") : 0;
}

static int chunks_run(int argc, char **argv, struct err *e)
{
    const char *dir = NULL;
    const struct option_spec specs[] = {{"image", 'd', &dir, true, "the image"}};
    struct image image;
    struct index seen = {0};
    if (plain_parse(argc, argv, "native image-chunks --image DIR", specs, ARRAY_LENGTH(specs), e) ||
        image_read(dir, &image, NULL, e))
        return -1;
    int result = image_each_chunk(&image, chunk_print, &seen, e);
    index_free(&seen);
    image_free(&image);
    return !result && fflush(stdout) ? err_set(e, E_IO, "standard output cannot be written") : result;
}

int verb_image_chunks(int argc, char **argv)
{
    struct err e = {0};
    output_open(2);
    return verb_end(chunks_run(argc, argv, &e), &e);
}
