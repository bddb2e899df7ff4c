/* Contents that memory may have. pages, huge, random, same: noise, nothing to gain; floats: a smooth field of doubles with noise in the last digits;
 * sparse: noise in one page of twenty; text: letters in every other page. */
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t fill_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ul;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ul;
    z = (z ^ z >> 27) * 0x94d049bb133111ebul;
    return z ^ z >> 31;
}

static inline void fill_from(uint64_t *state, uint64_t *at, uint64_t words, const char *kind)
{
    for (uint64_t k = 0; k < words; k++) {
        double field = sin((double)k * 1e-5) * 300 + (double)(fill_next(state) >> 40) * 1e-9;
        if (strcmp(kind, "floats") == 0)
            memcpy(&at[k], &field, 8);
        else if (strcmp(kind, "text") == 0)
            at[k] = k / 512 % 2 ? 0 : fill_next(state) & 0x0f0f000000000f0ful;
        else if (strcmp(kind, "sparse") != 0 || k / 512 % 20 == 0)
            at[k] = fill_next(state);
    }
}

static inline void fill_words(uint64_t *at, uint64_t words, const char *kind)
{
    uint64_t state = 1;
    fill_from(&state, at, words, kind);
}
