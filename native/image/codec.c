/* NAME_encode, NAME_decode and NAME_free of every struct in schema.def, one pass of the list each.
 * A failed decode leaves its struct empty: nothing to free. A decoded text is never NULL. */
#include "codec.h"

#include <stdlib.h>
#include <string.h>

/* ---- encode */
#define STRUCT(name) \
    void name##_encode(struct buf *out, const struct name *in) \
    { \
        size_t begin = put_begin(out);
#define END(name) \
        put_end(out, begin); \
    }
#define U(field) put_u(out, in->field);
#define I(field) put_i(out, in->field);
#define S(field) put_bytes(out, in->field, in->field ? strlen(in->field) : 0);
#define B(field) put_bytes(out, in->field.data, in->field.len);
#define D(field) buf_add(out, in->field.bytes, DIGEST_BYTES);
#define L(type, field) \
        put_u(out, in->field##_count); \
        for (size_t i = 0; i < in->field##_count; i++) \
            type##_encode(out, &in->field[i]);
#define O(type, field) type##_encode(out, &in->field);
#include "schema.def"
#undef STRUCT
#undef END
#undef U
#undef I
#undef S
#undef B
#undef D
#undef L
#undef O

/* ---- free */
#define STRUCT(name) \
    void name##_free(struct name *x) \
    {
#define END(name) \
        memset(x, 0, sizeof *x); \
    }
#define U(field)
#define I(field)
#define S(field) free(x->field);
#define B(field) free(x->field.data);
#define D(field)
#define L(type, field) \
        for (size_t i = 0; i < x->field##_count; i++) \
            type##_free(&x->field[i]); \
        free(x->field);
#define O(type, field) type##_free(&x->field);
#include "schema.def"
#undef STRUCT
#undef END
#undef U
#undef I
#undef S
#undef B
#undef D
#undef L
#undef O

/* ---- decode: NAME_fields reads a body, NAME_decode one stored struct */
#define STRUCT(name) \
    static int name##_fields(struct cursor *in, struct name *out, struct err *e) \
    { \
        static const char type_name[] = #name;
#define END(name) \
        (void)type_name; \
        return 0; \
    } \
    int name##_decode(struct cursor *in, struct name *out, struct err *e) \
    { \
        struct cursor body; \
        if (!get_body(in, &body, #name, e) && !name##_fields(&body, out, e)) \
            return 0; \
        name##_free(out); \
        return -1; \
    }
#define FIELD(field) ((struct field_name){type_name, #field})
#define U(field) if (get_u(in, &out->field, FIELD(field), e)) return -1;
#define I(field) if (get_i(in, &out->field, FIELD(field), e)) return -1;
#define S(field) if (get_s(in, &out->field, FIELD(field), e)) return -1;
#define B(field) if (get_b(in, &out->field, FIELD(field), e)) return -1;
#define D(field) if (get_d(in, &out->field, FIELD(field), e)) return -1;
#define L(type, field) \
        uint64_t field##_left; \
        if (get_count(in, &field##_left, FIELD(field), e)) return -1; \
        for (size_t i = 0; field##_left > 0; field##_left--, i++) \
            if (type##_decode(in, LIST_ADD(out, field), e)) \
                return err_wrap(e, "%s.%s[%zu]", type_name, #field, i);
#define O(type, field) if (type##_decode(in, &out->field, e)) return err_wrap(e, "%s", type_name);
#include "schema.def"
