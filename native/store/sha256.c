/* See sha256.h. Two compression functions, one chosen at first use. */
#include "sha256.h"

#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t x, unsigned n)
{
    return x >> n | x << (32 - n);
}

static uint32_t big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void schedule(uint32_t w[64], const uint8_t *block)
{
    for (size_t i = 0; i < 16; i++)
        w[i] = big_endian(block + 4 * i);
    for (size_t i = 16; i < 64; i++) {
        uint32_t a = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t b = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + a + w[i - 7] + b;
    }
}

/* Round i: the eight registers do not move, their names do. */
static inline void round_one(uint32_t v[8], size_t i, uint32_t w)
{
    uint32_t a = v[(8 - i) & 7], b = v[(9 - i) & 7], c = v[(10 - i) & 7], e = v[(12 - i) & 7], f = v[(13 - i) & 7],
             g = v[(14 - i) & 7], *d = &v[(11 - i) & 7], *h = &v[(15 - i) & 7];
    uint32_t t1 = *h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + w;
    *d += t1;
    *h = t1 + (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
}

static void compress_portable(uint32_t state[8], const uint8_t *data, size_t blocks)
{
    for (; blocks > 0; blocks--, data += 64) {
        uint32_t w[64], v[8];
        schedule(w, data);
        memcpy(v, state, sizeof v);
#pragma GCC unroll 64
        for (size_t i = 0; i < 64; i++)
            round_one(v, i, w[i]);
        for (size_t i = 0; i < 8; i++)
            state[i] += v[i];
    }
}

#if defined(__x86_64__)
/* Intel's SHA extensions work on two halves, ABEF and CDGH (Gulley et al., "Intel SHA Extensions", 2013). A round waits for the one before it:
 * two messages at a time take hardly longer than one. */
struct halves {
    __m128i abef, cdgh;
};
#define WITH_SHA __attribute__((target("sha,sse4.1,ssse3")))

WITH_SHA static inline struct halves halves_load(const uint32_t state[8])
{
    __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)state), 0xb1);
    __m128i high = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)(state + 4)), 0x1b);
    return (struct halves){_mm_alignr_epi8(low, high, 8), _mm_blend_epi16(high, low, 0xf0)};
}

WITH_SHA static inline void halves_store(struct halves h, uint32_t state[8])
{
    __m128i low = _mm_shuffle_epi32(h.abef, 0x1b), high = _mm_shuffle_epi32(h.cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)(void *)state, _mm_blend_epi16(low, high, 0xf0));
    _mm_storeu_si128((__m128i *)(void *)(state + 4), _mm_alignr_epi8(high, low, 8));
}

WITH_SHA static inline void message_load(__m128i m[4], const uint8_t *data)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bll, 0x0405060700010203ll);
    for (int i = 0; i < 4; i++)
        m[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(data + 16 * i)), swap);
}

/* Four rounds, and the words of the message for later ones. */
WITH_SHA static inline __attribute__((always_inline)) void rounds_four(struct halves *h, __m128i m[4], int i)
{
    __m128i now = m[i & 3];
    __m128i sum = _mm_add_epi32(now, _mm_loadu_si128((const __m128i *)(const void *)(K + 4 * i)));
    h->cdgh = _mm_sha256rnds2_epu32(h->cdgh, h->abef, sum);
    h->abef = _mm_sha256rnds2_epu32(h->abef, h->cdgh, _mm_shuffle_epi32(sum, 0x0e));
    __m128i next = _mm_sha256msg1_epu32(now, m[(i + 1) & 3]);
    next = _mm_add_epi32(next, _mm_alignr_epi8(m[(i + 3) & 3], m[(i + 2) & 3], 4));
    m[i & 3] = _mm_sha256msg2_epu32(next, m[(i + 3) & 3]);
}

WITH_SHA static inline struct halves halves_add(struct halves a, struct halves b)
{
    return (struct halves){_mm_add_epi32(a.abef, b.abef), _mm_add_epi32(a.cdgh, b.cdgh)};
}

WITH_SHA static void compress_hardware(uint32_t state[8], const uint8_t *data, size_t blocks)
{
    struct halves h = halves_load(state);
    for (; blocks > 0; blocks--, data += 64) {
        struct halves before = h;
        __m128i m[4];
        message_load(m, data);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            rounds_four(&h, m, i);
        h = halves_add(h, before);
    }
    halves_store(h, state);
}

WITH_SHA static void compress_two_hardware(uint32_t x_state[8], uint32_t y_state[8], const uint8_t *x_data, const uint8_t *y_data, size_t blocks)
{
    struct halves x = halves_load(x_state), y = halves_load(y_state);
    for (; blocks > 0; blocks--, x_data += 64, y_data += 64) {
        struct halves x_before = x, y_before = y;
        __m128i x_message[4], y_message[4];
        message_load(x_message, x_data);
        message_load(y_message, y_data);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            rounds_four(&x, x_message, i);
            rounds_four(&y, y_message, i);
        }
        x = halves_add(x, x_before);
        y = halves_add(y, y_before);
    }
    halves_store(x, x_state);
    halves_store(y, y_state);
}

static bool hardware_there(void)
{
    unsigned a, b, c, d; /* leaf 7, ebx bit 29 is SHA; not every compiler knows it by name */
    return __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("ssse3") && __get_cpuid_count(7, 0, &a, &b, &c, &d) && b >> 29 & 1;
}
#else
#define compress_hardware compress_portable
static void compress_two_hardware(uint32_t x_state[8], uint32_t y_state[8], const uint8_t *x_data, const uint8_t *y_data, size_t blocks)
{
    compress_portable(x_state, x_data, blocks);
    compress_portable(y_state, y_data, blocks);
}
static bool hardware_there(void)
{
    return false;
}
#endif

static bool hardware_allowed = true;

void sha256_use_hardware(bool allowed)
{
    hardware_allowed = allowed;
}

static bool is_hardware_used(void)
{
    static int hardware = -1; /* every thread finds the same answer: a race does no harm */
    if (__atomic_load_n(&hardware, __ATOMIC_RELAXED) < 0)
        __atomic_store_n(&hardware, hardware_there(), __ATOMIC_RELAXED);
    return hardware_allowed && __atomic_load_n(&hardware, __ATOMIC_RELAXED);
}

static void compress(uint32_t state[8], const uint8_t *data, size_t blocks)
{
    if (is_hardware_used())
        compress_hardware(state, data, blocks);
    else
        compress_portable(state, data, blocks);
}

static void compress_two(struct sha256 *x, struct sha256 *y, const uint8_t *x_data, const uint8_t *y_data, size_t blocks)
{
    if (is_hardware_used()) {
        compress_two_hardware(x->state, y->state, x_data, y_data, blocks);
        return;
    }
    compress_portable(x->state, x_data, blocks);
    compress_portable(y->state, y_data, blocks);
}

void sha256_begin(struct sha256 *s)
{
    *s = (struct sha256){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c,
                                   0x1f83d9ab, 0x5be0cd19}};
}

void sha256_add(struct sha256 *s, const void *data, size_t len)
{
    const uint8_t *at = data;
    if (!len)
        return;
    size_t held = s->len % 64;
    s->len += len;
    if (held) {
        size_t take = len < 64 - held ? len : 64 - held;
        memcpy(s->block + held, at, take);
        at += take;
        len -= take;
        if (held + take < 64)
            return;
        compress(s->state, s->block, 1);
    }
    compress(s->state, at, len / 64);
    if (len % 64)
        memcpy(s->block, at + len / 64 * 64, len % 64);
}

void sha256_end(struct sha256 *s, struct digest *out)
{
    static const uint8_t padding[64] = {0x80};
    uint64_t bits = s->len * 8;
    size_t held = s->len % 64;
    sha256_add(s, padding, held < 56 ? 56 - held : 120 - held);
    uint8_t length[8];
    for (size_t i = 0; i < 8; i++)
        length[i] = (uint8_t)(bits >> (56 - 8 * i));
    sha256_add(s, length, sizeof length);
    for (size_t i = 0; i < DIGEST_BYTES; i++)
        out->bytes[i] = (uint8_t)(s->state[i / 4] >> (24 - 8 * (i % 4)));
}

void sha256_of(const void *data, size_t len, struct digest *out)
{
    struct sha256 s;
    sha256_begin(&s);
    sha256_add(&s, data, len);
    sha256_end(&s, out);
}

void sha256_of_two(const void *a, size_t a_len, const void *b, size_t b_len, struct digest *a_out, struct digest *b_out)
{
    struct sha256 x, y;
    size_t both = (a_len < b_len ? a_len : b_len) / 64 * 64;
    sha256_begin(&x);
    sha256_begin(&y);
    compress_two(&x, &y, a, b, both / 64);
    x.len = y.len = both;
    sha256_add(&x, (const uint8_t *)a + both, a_len - both);
    sha256_add(&y, (const uint8_t *)b + both, b_len - both);
    sha256_end(&x, a_out);
    sha256_end(&y, b_out);
}
