/* The primitives that the code made from schema.def is built of (image/codec_prim.c): little-endian base-128
 * numbers, counted bytes, and structs stored behind their length (32 bits). A struct that ends before a field
 * leaves the field empty; one that goes on behind the last known field is cut there: so older and newer
 * structs read. Every failure names the struct and field. */
#pragma once
#include "schema.h"

struct field_name {
    const char *type, *field;
};

void put_u(struct buf *out, uint64_t value);
void put_i(struct buf *out, int64_t value);
void put_bytes(struct buf *out, const void *data, size_t len);
/* Leave room for a struct's length; put_end fills it in. */
size_t put_begin(struct buf *out);
void put_end(struct buf *out, size_t begin);

MUST_CHECK int get_u(struct cursor *in, uint64_t *value, struct field_name name, struct err *e);
MUST_CHECK int get_i(struct cursor *in, int64_t *value, struct field_name name, struct err *e);
MUST_CHECK int get_s(struct cursor *in, char **value, struct field_name name, struct err *e);
MUST_CHECK int get_b(struct cursor *in, struct bytes *value, struct field_name name, struct err *e);
MUST_CHECK int get_d(struct cursor *in, struct digest *value, struct field_name name, struct err *e);
/* A list's length, no larger than the bytes that are left can hold. */
MUST_CHECK int get_count(struct cursor *in, uint64_t *count, struct field_name name, struct err *e);
/* The bytes of the next struct; `in` moves behind it. At the end of `in` the body is empty. */
MUST_CHECK int get_body(struct cursor *in, struct cursor *body, const char *type, struct err *e);
