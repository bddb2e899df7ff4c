/* The file `manifest` of an image. See image.h.
 *   "COSIMAGE" | format u64 | length u64 | encoded struct image | SHA-256 of all before it */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image.h"
#include "store/sha256.h"
#include "store/store_io.h"

#define HEADER_BYTES 24ul

static const char magic[] = "COSIMAGE";

static void number_put(uint8_t *at, uint64_t value)
{
    for (size_t i = 0; i < 8; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t number_at(const uint8_t *at)
{
    uint64_t value = 0;
    for (size_t i = 0; i < 8; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

void image_encode_file(const struct image *in, struct buf *out)
{
    uint8_t header[HEADER_BYTES];
    memcpy(header, magic, 8);
    number_put(header + 8, in->format);
    buf_add(out, header, sizeof header);
    image_encode(out, in);
    number_put(out->data + 16, out->len - HEADER_BYTES);
    struct digest digest;
    sha256_of(out->data, out->len, &digest);
    buf_add(out, digest.bytes, DIGEST_BYTES);
}

static int frame_check(const uint8_t *data, size_t len, struct err *e)
{
    if (len < HEADER_BYTES + DIGEST_BYTES || memcmp(data, magic, 8))
        return err_set(e, E_BAD_IMAGE, "not a manifest");
    struct digest digest;
    sha256_of(data, len - DIGEST_BYTES, &digest);
    if (memcmp(digest.bytes, data + len - DIGEST_BYTES, DIGEST_BYTES))
        return err_set(e, E_BAD_IMAGE, "damaged: it is not what its checksum says");
    uint64_t format = number_at(data + 8);
    if (format == 0 || format > IMAGE_FORMAT)
        return err_set(e, E_BAD_IMAGE, "of format %lu; this engine reads up to %lu", format, IMAGE_FORMAT);
    if (number_at(data + 16) != len - HEADER_BYTES - DIGEST_BYTES)
        return err_set(e, E_BAD_IMAGE, "of another length than it says");
    return 0;
}

int image_decode_file(const uint8_t *data, size_t len, struct image *out, struct err *e)
{
    if (frame_check(data, len, e))
        return -1;
    struct cursor in = {data + HEADER_BYTES, data + len - DIGEST_BYTES};
    if (image_decode(&in, out, e))
        return -1;
    if (in.at == in.end && !image_check(out, e))
        return 0;
    if (in.at != in.end)
        err_set(e, E_BAD_IMAGE, "has bytes behind its end");
    image_free(out);
    return -1;
}

static int manifest_write(const char *dir, const struct buf *file, struct err *e)
{
    if (store_io_mkdirs(dir, e))
        return -1;
    AUTO_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "open");
    return store_io_replace(fd, "manifest", file->data, file->len, e);
}

int image_write(const char *dir, const struct image *in, struct digest *manifest_digest, struct err *e)
{
    CHECK(in->format == IMAGE_FORMAT);
    AUTO_BUF struct buf file = {0};
    struct err why = {0};
    if (image_check(in, &why)) /* better no image than one that no restore will take */
        return err_set(e, E_UNSUPPORTED, "image %s: what was captured could not be brought back: %.900s", dir, why.message);
    image_encode_file(in, &file);
    if (file.len > IMAGE_MANIFEST_MAX)
        return err_set(e, E_UNSUPPORTED, "image %s: a manifest of %zu bytes is too long", dir, file.len);
    sha256_of(file.data, file.len, manifest_digest);
    return manifest_write(dir, &file, e) ? err_wrap(e, "image %s", dir) : 0;
}

static int manifest_slurp(const char *path, struct buf *out, struct err *e)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    if (fd < 0 && errno == ENOENT)
        return err_set(e, E_NO_INPUT, "there is no manifest");
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(e, "open the manifest");
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > IMAGE_MANIFEST_MAX)
        return err_set(e, E_BAD_IMAGE, "its manifest is no file of a possible size");
    size_t len = (size_t)st.st_size;
    out->data = xcalloc(len + 1, 1);
    out->cap = len + 1;
    out->len = len;
    return io_pread_all(fd, out->data, len, 0, e);
}

int image_read(const char *dir, struct image *out, struct digest *manifest_digest, struct err *e)
{
    AUTO_BUF struct buf file = {0};
    AUTO_FREE char *path = xasprintf("%s/manifest", dir);
    memset(out, 0, sizeof *out);
    if (manifest_slurp(path, &file, e))
        return err_wrap(e, "image %s", dir);
    struct digest digest;
    sha256_of(file.data, file.len, &digest);
    if (manifest_digest)
        *manifest_digest = digest;
    return image_decode_file(file.data, file.len, out, e) ? err_wrap(e, "image %s: its manifest is", dir) : 0;
}
