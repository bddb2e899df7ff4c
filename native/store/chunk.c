/* One chunk between raw and stored form: lz4 where that saves at least a sixteenth, else as it is. */
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "internal.h"
#include "sha256.h"
#include "vendor/lz4/lz4.h"

bool all_zero(const void *data, size_t len)
{
    const uint8_t *p = data;
    return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

void chunk_pack(struct packed *out, const void *data, size_t len)
{
    int room = (int)(len - len / 16) - 1;
    int n = room > 0 ? LZ4_compress_default(data, (char *)out->bytes, (int)len, room) : 0;
    out->data = n > 0 ? out->bytes : data;
    out->stored = n > 0 ? (uint32_t)n : (uint32_t)len;
    out->flags = n > 0 ? PLACE_LZ4 : 0;
    out->crc = crc32c(out->data, out->stored);
}

static int content_unpack(const struct place *p, const void *stored, void *data, struct err *e)
{
    if (!(p->flags & PLACE_LZ4)) {
        memmove(data, stored, p->raw);
        return 0;
    }
    int n = LZ4_decompress_safe(stored, data, (int)p->stored, (int)p->raw);
    return n == (int)p->raw ? 0 : err_set(e, E_BAD_IMAGE, "it does not decompress");
}

int chunk_unpack(const struct place *p, const void *stored, void *data, struct err *e)
{
    if (crc32c(stored, p->stored) != p->crc)
        return err_set(e, E_BAD_IMAGE, "its stored bytes are damaged");
    if (content_unpack(p, stored, data, e))
        return -1;
    struct digest digest;
    sha256_of(data, p->raw, &digest);
    return memcmp(&digest, &p->digest, sizeof digest) ? err_set(e, E_BAD_IMAGE, "its content is not what its name says") : 0;
}

struct scratch *scratch_take(struct store *s)
{
    pthread_mutex_lock(&s->mutex);
    struct scratch *x = s->scratch;
    s->scratch = x ? x->next : NULL;
    pthread_mutex_unlock(&s->mutex);
    return x ? x : xcalloc(1, sizeof *x);
}

void scratch_give(struct store *s, struct scratch *x)
{
    pthread_mutex_lock(&s->mutex);
    x->next = s->scratch;
    s->scratch = x;
    pthread_mutex_unlock(&s->mutex);
}

void scratch_free(struct store *s)
{
    while (s->scratch) {
        struct scratch *next = s->scratch->next;
        free(s->scratch);
        s->scratch = next;
    }
}
