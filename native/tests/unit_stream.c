/* Chunks travel between stores only when they are what they are called. */
#include "tests/image_maker.h"

#include "store/stream.h"

static int digest_send_all(void *ctx, const struct digest *digest, uint64_t len, struct err *e)
{
    (void)len;
    void **c = ctx;
    return stream_send(c[0], *(int *)c[1], digest, e);
}

static char *exported(const char *dir, const char *store)
{
    char *path = below("stream");
    struct err e = {0};
    struct image image;
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct store *s = opened(store, false);
    void *ctx[2] = {s, &fd};
    if (fd < 0 || image_read(dir, &image, NULL, &e) || stream_begin(fd, &e) || image_each_chunk(&image, digest_send_all, ctx, &e) || stream_end(fd, &e)) {
        printf("# %s\n", e.message);
        abort();
    }
    close(fd);
    image_free(&image);
    store_close(s);
    return path;
}

static int imported(const char *stream, const char *store, struct err *e)
{
    struct stream_result r;
    AUTO_CLOSE int fd = open(stream, O_RDONLY | O_CLOEXEC);
    struct store *s = opened(store, true);
    int result = stream_receive(s, fd, &r, e);
    store_close(s);
    return result;
}

static void chunks_travel(void)
{
    AUTO_FREE char *dir = below("src/image"), *from = below("src/store"), *to = below("dst/store"), *stream = NULL;
    struct digest d;
    struct err e = {0};
    image_make(dir, from, 50, &d);
    stream = exported(dir, from);
    ok(good(imported(stream, to, &e), &e) && good(verified(dir, to, &e), &e), "chunks travel to another store");
    struct stat st;
    stat(stream, &st);
    int taken = 0, unclear = 0;
    for (int k = 0; k < 150; k++) {
        AUTO_FREE char *other = xasprintf("%s/dst-%d", base, k);
        uint64_t at = k < 60 ? (uint64_t)k : k < 70 ? (uint64_t)st.st_size - 1 - (uint64_t)(k - 60) : random_below((uint64_t)st.st_size);
        struct err why = {0};
        byte_flip(stream, at, (uint8_t)(1u << random_below(8)));
        int result = imported(stream, other, &why);
        unclear += result && why.code != E_BAD_IMAGE && why.code != E_IO;
        taken += !result && verified(dir, other, &e) == 0;
        free(stream);
        stream = exported(dir, from);
    }
    ok(!taken && !unclear, "a stream with any changed bit is refused");
    AUTO_FREE char *cut = below("dst-cut");
    if (truncate(stream, st.st_size - 48))
        abort();
    ok(imported(stream, cut, &e) == -1 && strstr(e.message, "cut off"), "a stream without its end is refused: %s", e.message);
    ok(good(verified(dir, cut, &e), &e), "but the whole chunks before are kept: the next try needs less");
}

static void a_wrong_chunk_is_named(void)
{
    AUTO_FREE char *path = below("wrong"), *to = below("wrong-store");
    struct err e = {0};
    uint8_t frame[48] = {0}, content[100];
    random_fill(frame, 32);
    random_fill(content, sizeof content);
    frame[32] = frame[36] = sizeof content;
    uint32_t crc = 0xffffffff; /* CRC-32C by its definition */
    for (size_t i = 0; i < sizeof content; i++) {
        crc ^= content[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    crc = ~crc;
    memcpy(frame + 44, &crc, 4);
    FILE *f = fopen(path, "w");
    fwrite("COSCHNKS", 8, 1, f);
    fwrite(frame, sizeof frame, 1, f);
    fwrite(content, sizeof content, 1, f);
    memset(frame, 0, sizeof frame);
    fwrite(frame, sizeof frame, 1, f);
    fclose(f);
    ok(imported(path, to, &e) == -1 && e.code == E_BAD_IMAGE && strstr(e.message, "not what its name says"), "a chunk under a wrong name is refused: %s", e.message);
}

int main(void)
{
    seed_begin();
    base = tap_dir_make();
    chunks_travel();
    a_wrong_chunk_is_named();
    return done_testing();
}
