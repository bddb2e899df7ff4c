/* NAME_json of every struct in schema.def, for `native inspect`. Byte strings are shown as their length and the
 * first bytes in hexadecimal; texts that are not UTF-8 get U+FFFD. */
#include <inttypes.h>
#include <stdio.h>

#include "schema.h"

#define SHOWN_BYTES 48

static void json_name(FILE *out, const char **separator, const char *name)
{
    fprintf(out, "%s\"%s\":", *separator, name);
    *separator = ",";
}

static void json_text(FILE *out, const char *text)
{
    AUTO_FREE char *quoted = json_quote(text ? text : "");
    fputs(quoted, out);
}

static void json_bytes(FILE *out, const struct bytes *b)
{
    size_t shown = b->len < SHOWN_BYTES ? b->len : SHOWN_BYTES;
    fprintf(out, "{\"len\":%zu,\"hex\":\"", b->len);
    for (size_t i = 0; i < shown; i++)
        fprintf(out, "%02x", b->data[i]);
    fputs(shown < b->len ? "…\"}" : "\"}", out);
}

static void json_digest(FILE *out, const struct digest *d)
{
    char hex[65];
    digest_hex(d, hex);
    fprintf(out, "\"%s\"", digest_is_zero(d) ? "" : hex);
}

#define STRUCT(name) \
    void name##_json(FILE *out, const struct name *in) \
    { \
        const char *separator = ""; \
        fputc('{', out);
#define END(name) \
        fputc('}', out); \
    }
#define NAME(field) json_name(out, &separator, #field)
#define U(field) NAME(field); fprintf(out, "%" PRIu64, in->field);
#define I(field) NAME(field); fprintf(out, "%" PRId64, in->field);
#define S(field) NAME(field); json_text(out, in->field);
#define B(field) NAME(field); json_bytes(out, &in->field);
#define D(field) NAME(field); json_digest(out, &in->field);
#define L(type, field) \
        NAME(field); \
        fputc('[', out); \
        for (size_t i = 0; i < in->field##_count; i++) { \
            fputs(i ? "," : "", out); \
            type##_json(out, &in->field[i]); \
        } \
        fputc(']', out);
#define O(type, field) NAME(field); type##_json(out, &in->field);
#include "schema.def"
