/* See codec.h. Decoding trusts nothing: no length is used before it was compared with what is there. */
#include "codec.h"

#include <stdlib.h>
#include <string.h>

#define STRUCT_LENGTH_BYTES 4

void put_u(struct buf *out, uint64_t value)
{
    uint8_t text[10];
    size_t n = 0;
    for (; value >= 0x80; value >>= 7)
        text[n++] = (uint8_t)(value | 0x80);
    text[n++] = (uint8_t)value;
    buf_add(out, text, n);
}

void put_i(struct buf *out, int64_t value)
{
    uint64_t sign = value < 0 ? UINT64_MAX : 0;
    put_u(out, ((uint64_t)value << 1) ^ sign);
}

void put_bytes(struct buf *out, const void *data, size_t len)
{
    put_u(out, len);
    if (len)
        buf_add(out, data, len);
}

size_t put_begin(struct buf *out)
{
    static const uint8_t room[STRUCT_LENGTH_BYTES];
    buf_add(out, room, sizeof room);
    return out->len;
}

void put_end(struct buf *out, size_t begin)
{
    size_t len = out->len - begin;
    CHECK(len <= UINT32_MAX);
    for (size_t i = 0; i < STRUCT_LENGTH_BYTES; i++)
        out->data[begin - STRUCT_LENGTH_BYTES + i] = (uint8_t)(len >> (8 * i));
}

static size_t left(const struct cursor *in)
{
    return (size_t)(in->end - in->at);
}

static int bad(struct field_name name, const char *what, struct err *e)
{
    return err_set(e, E_BAD_IMAGE, "%s.%s: %s", name.type, name.field, what);
}

int get_u(struct cursor *in, uint64_t *value, struct field_name name, struct err *e)
{
    if (!left(in))
        return 0;
    uint64_t sum = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (!left(in))
            return bad(name, "cut off in a number", e);
        uint64_t digit = *in->at & 0x7f;
        if (shift == 63 && digit > 1)
            break;
        sum |= digit << shift;
        if (!(*in->at++ & 0x80)) {
            *value = sum;
            return 0;
        }
    }
    return bad(name, "number of more than 64 bits", e);
}

int get_i(struct cursor *in, int64_t *value, struct field_name name, struct err *e)
{
    uint64_t folded = 0;
    if (get_u(in, &folded, name, e))
        return -1;
    *value = (int64_t)((folded >> 1) ^ (folded & 1 ? UINT64_MAX : 0));
    return 0;
}

static int get_len(struct cursor *in, size_t *len, struct field_name name, struct err *e)
{
    uint64_t n = 0;
    if (get_u(in, &n, name, e))
        return -1;
    if (n > left(in))
        return bad(name, "longer than what holds it", e);
    *len = n;
    return 0;
}

int get_s(struct cursor *in, char **value, struct field_name name, struct err *e)
{
    size_t len = 0;
    if (get_len(in, &len, name, e))
        return -1;
    if (len && memchr(in->at, 0, len))
        return bad(name, "text with a NUL", e);
    char *text = xcalloc(len + 1, 1);
    if (len)
        memcpy(text, in->at, len);
    in->at += len;
    free(*value);
    *value = text;
    return 0;
}

int get_b(struct cursor *in, struct bytes *value, struct field_name name, struct err *e)
{
    size_t len = 0;
    if (get_len(in, &len, name, e))
        return -1;
    bytes_set(value, in->at, len);
    in->at += len;
    return 0;
}

int get_d(struct cursor *in, struct digest *value, struct field_name name, struct err *e)
{
    if (!left(in))
        return 0;
    if (left(in) < DIGEST_BYTES)
        return bad(name, "cut off in a digest", e);
    memcpy(value->bytes, in->at, DIGEST_BYTES);
    in->at += DIGEST_BYTES;
    return 0;
}

int get_count(struct cursor *in, uint64_t *count, struct field_name name, struct err *e)
{
    *count = 0;
    if (get_u(in, count, name, e))
        return -1;
    if (*count > IMAGE_ITEMS_MAX || *count > left(in) / STRUCT_LENGTH_BYTES)
        return bad(name, "more items than there is room for", e);
    return 0;
}

int get_body(struct cursor *in, struct cursor *body, const char *type, struct err *e)
{
    *body = (struct cursor){in->at, in->at};
    if (!left(in))
        return 0;
    if (left(in) < STRUCT_LENGTH_BYTES)
        return err_set(e, E_BAD_IMAGE, "%s: cut off in its length", type);
    size_t len = 0;
    for (size_t i = 0; i < STRUCT_LENGTH_BYTES; i++)
        len |= (size_t)in->at[i] << (8 * i);
    in->at += STRUCT_LENGTH_BYTES;
    if (len > left(in))
        return err_set(e, E_BAD_IMAGE, "%s: longer than what holds it", type);
    *body = (struct cursor){in->at, in->at + len};
    in->at += len;
    return 0;
}
