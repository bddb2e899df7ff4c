/* SHA-256 (FIPS 180-4), with the processor's SHA instructions where it has them. */
#pragma once
#include "../image/schema.h"

struct sha256 {
    uint32_t state[8];
    uint64_t len;
    uint8_t block[64];
};
void sha256_begin(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *data, size_t len);
void sha256_end(struct sha256 *s, struct digest *out);
void sha256_of(const void *data, size_t len, struct digest *out);
/* Two at a time: nearly twice as fast with the processor's instructions. */
void sha256_of_two(const void *a, size_t a_len, const void *b, size_t b_len, struct digest *a_out, struct digest *b_out);
/* Tests compare both ways: false forbids the processor's instructions. */
void sha256_use_hardware(bool allowed);
