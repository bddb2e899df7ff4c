/* Lists, byte strings and digests as the structs of schema.h hold them. */
#include <stdlib.h>
#include <string.h>

#include "schema.h"

/* Room grows by powers of two, so the count alone tells when it is full; lists are made by list_add only. */
void *list_add(void **list, size_t *count, size_t item_bytes)
{
    size_t n = *count;
    if ((n & (n - 1)) == 0)
        *list = xrealloc(*list, n ? 2 * n : 1, item_bytes);
    char *item = (char *)*list + n * item_bytes;
    memset(item, 0, item_bytes);
    *count = n + 1;
    return item;
}

void bytes_set(struct bytes *b, const void *data, size_t len)
{
    uint8_t *copy = NULL;
    if (len) {
        copy = xcalloc(len, 1);
        memcpy(copy, data, len);
    }
    free(b->data);
    *b = (struct bytes){copy, len};
}

bool digest_is_zero(const struct digest *d)
{
    static const struct digest zero;
    return memcmp(d, &zero, sizeof zero) == 0;
}

void digest_hex(const struct digest *d, char out[65])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < DIGEST_BYTES; i++) {
        out[2 * i] = digits[d->bytes[i] >> 4];
        out[2 * i + 1] = digits[d->bytes[i] & 15];
    }
    out[2 * DIGEST_BYTES] = 0;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int digest_parse(const char *hex, struct digest *out, struct err *e)
{
    for (size_t i = 0; i < 2 * DIGEST_BYTES; i++) {
        int digit = digit_of(hex[i]);
        if (digit < 0)
            return err_set(e, E_USAGE, "not a digest of 64 lower-case hexadecimal digits");
        out->bytes[i / 2] = (uint8_t)((i % 2 ? out->bytes[i / 2] << 4 : 0) | digit);
    }
    if (hex[2 * DIGEST_BYTES])
        return err_set(e, E_USAGE, "not a digest of 64 lower-case hexadecimal digits");
    return 0;
}
