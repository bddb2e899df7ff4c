/* Every extent of an image, wherever the schema has one: the walk is made from schema.def, so a new field with
 * extents is found by garbage collection, verification and replication without a word here. */
#include "image.h"

struct walk {
    int (*fn)(void *ctx, const struct digest *digest, uint64_t len, struct err *e);
    void *ctx;
};

static int extent_visit(const struct extent *x, const struct walk *w, struct err *e)
{
    return digest_is_zero(&x->digest) ? 0 : w->fn(w->ctx, &x->digest, x->whole ? x->whole : x->len, e);
}

static int other_visit(const void *x, const struct walk *w, struct err *e)
{
    (void)x, (void)w, (void)e;
    return 0;
}

#define STRUCT(name) \
    static int name##_walk(const struct name *in, const struct walk *w, struct err *e) \
    { \
        if (_Generic(in, const struct extent *: extent_visit, default: other_visit)(in, w, e)) \
            return -1;
#define END(name) \
        return 0; \
    }
#define U(field)
#define I(field)
#define S(field)
#define B(field)
#define D(field)
#define L(type, field) \
        for (size_t i = 0; i < in->field##_count; i++) \
            if (type##_walk(&in->field[i], w, e)) \
                return -1;
#define O(type, field) if (type##_walk(&in->field, w, e)) return -1;
#include "schema.def"

int image_each_chunk(const struct image *in,
                     int (*fn)(void *ctx, const struct digest *digest, uint64_t len, struct err *e), void *ctx,
                     struct err *e)
{
    struct walk w = {fn, ctx};
    return image_walk(in, &w, e);
}
