/* One chunk between raw and stored form: lz4 where that saves at least a sixteenth, of shuffled bytes where that saves more; else as it is. */
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include "crc32c.h"
#include "internal.h"
#include "sha256.h"
#include "vendor/lz4/lz4.h"

#define SAMPLE_BYTES 4096ul

bool all_zero(const void *data, size_t len)
{
    const uint8_t *p = data;
    return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

/* ---- numbers of eight bytes: their upper bytes are alike and their lower ones are noise, so that bytes of one place go together */
#if defined(__x86_64__)
/* Sixteen words at a time, as a matrix of 16 rows and 8 columns that three rounds of interleaving turn over; the words that are done. */
static size_t shuffle_wide(const uint8_t *in, size_t words, uint8_t *out)
{
    size_t done = 0;
    for (; done + 16 <= words; done += 16) {
        __m128i a[8], b[8];
        for (size_t k = 0; k < 8; k++)
            a[k] = _mm_loadu_si128((const __m128i *)(const void *)(in + 8 * done + 16 * k));
        for (size_t k = 0; k < 8; k++) /* two words: bytes of one place side by side */
            b[k] = _mm_unpacklo_epi8(a[k], _mm_srli_si128(a[k], 8));
        for (size_t k = 0; k < 4; k++) { /* four words; places 0 to 3, then 4 to 7 */
            a[k] = _mm_unpacklo_epi16(b[2 * k], b[2 * k + 1]);
            a[k + 4] = _mm_unpackhi_epi16(b[2 * k], b[2 * k + 1]);
        }
        for (size_t k = 0; k < 4; k++) { /* eight words; two places in each */
            b[2 * k] = _mm_unpacklo_epi32(a[2 * k], a[2 * k + 1]);
            b[2 * k + 1] = _mm_unpackhi_epi32(a[2 * k], a[2 * k + 1]);
        }
        for (size_t k = 0; k < 4; k++) { /* b: places 0-1, 2-3 of words 0 to 7, of words 8 to 15, then 4-5, 6-7 likewise */
            size_t low = (k & 1) + (k & 2) * 2;
            __m128i *at = (__m128i *)(void *)(out + 2 * k * words + done), *beside = (__m128i *)(void *)(out + (2 * k + 1) * words + done);
            _mm_storeu_si128(at, _mm_unpacklo_epi64(b[low], b[low + 2]));
            _mm_storeu_si128(beside, _mm_unpackhi_epi64(b[low], b[low + 2]));
        }
    }
    return done;
}
#else
static size_t shuffle_wide(const uint8_t *in, size_t words, uint8_t *out)
{
    (void)in, (void)words, (void)out;
    return 0;
}
#endif

static void shuffle(const uint8_t *in, size_t len, uint8_t *out)
{
    size_t words = len / 8;
    for (size_t i = shuffle_wide(in, words, out); i < words; i++)
        for (size_t b = 0; b < 8; b++)
            out[b * words + i] = in[8 * i + b];
    memcpy(out + 8 * words, in + 8 * words, len % 8);
}

static void unshuffle(const uint8_t *in, size_t len, uint8_t *out)
{
    size_t words = len / 8;
    for (size_t i = 0; i < words; i++)
        for (size_t b = 0; b < 8; b++)
            out[8 * i + b] = in[b * words + i];
    memcpy(out + 8 * words, in + 8 * words, len % 8);
}

static int squeeze(const void *data, size_t len, uint8_t *out, size_t room)
{
    return room > 0 ? LZ4_compress_default(data, (char *)out, (int)len, (int)room) : 0;
}

/* Two samples tell: what a shuffle does not help is not shuffled. */
static bool shuffle_helps(const uint8_t *data, size_t len)
{
    uint8_t planes[SAMPLE_BYTES], out[SAMPLE_BYTES];
    for (size_t k = 1; k <= 2 && len >= 4 * SAMPLE_BYTES; k++) {
        shuffle(data + (k * len / 3 & ~7ul), SAMPLE_BYTES, planes);
        if (squeeze(planes, SAMPLE_BYTES, out, SAMPLE_BYTES - SAMPLE_BYTES / 8) <= 0)
            return false;
    }
    return len >= 4 * SAMPLE_BYTES;
}

static int squeeze_shuffled(const void *data, size_t len, uint8_t *out, size_t room)
{
    static _Thread_local uint8_t planes[CHUNK_MAX];
    shuffle(data, len, planes);
    return squeeze(planes, len, out, room);
}

void chunk_pack(struct packed *out, const void *data, size_t len)
{
    size_t room = len - len / 16 - (len > 0);
    int n = squeeze(data, len, out->bytes, room);
    out->flags = n > 0 ? PLACE_LZ4 : 0;
    if ((n <= 0 || (size_t)n > len - len / 4) && shuffle_helps(data, len)) {
        n = squeeze_shuffled(data, len, out->bytes, room);
        out->flags = n > 0 ? PLACE_LZ4 | PLACE_SHUFFLED : 0;
    }
    out->data = n > 0 ? out->bytes : data;
    out->stored = n > 0 ? (uint32_t)n : (uint32_t)len;
    out->crc = crc32c(out->data, out->stored);
}

int chunk_unpack_unnamed(const struct place *p, const void *stored, void *data, struct err *e)
{
    static _Thread_local uint8_t planes[CHUNK_MAX];
    if (!(p->flags & PLACE_LZ4)) {
        memmove(data, stored, p->raw);
        return 0;
    }
    bool shuffled = p->flags & PLACE_SHUFFLED;
    int n = LZ4_decompress_safe(stored, shuffled ? (char *)planes : data, (int)p->stored, (int)p->raw);
    if (n != (int)p->raw)
        return err_set(e, E_BAD_IMAGE, "it does not decompress");
    if (shuffled)
        unshuffle(planes, p->raw, data);
    return 0;
}

int chunk_name_check(const struct digest *name, const struct digest *content, struct err *e)
{
    return memcmp(content, name, sizeof *name) ? err_set(e, E_BAD_IMAGE, "its content is not what its name says") : 0;
}

int chunk_unpack(const struct place *p, const void *stored, void *data, struct err *e)
{
    struct digest digest;
    if (crc32c(stored, p->stored) != p->crc)
        return err_set(e, E_BAD_IMAGE, "its stored bytes are damaged");
    if (chunk_unpack_unnamed(p, stored, data, e))
        return -1;
    sha256_of(data, p->raw, &digest);
    return chunk_name_check(&p->digest, &digest, e);
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
