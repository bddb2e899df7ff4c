/* The codec made from schema.def: everything comes back, older and newer structs read, broken bytes are refused. */
#include "image/codec.h"
#include "image/image.h"
#include "store/sha256.h"
#include "tests/tap.h"

/* ---- a random image: every field of every struct is set */
static void random_text(char **out)
{
    size_t len = random_below(20);
    *out = xcalloc(len + 1, 1);
    for (size_t i = 0; i < len; i++)
        (*out)[i] = (char)(1 + random_below(255));
}

static uint64_t random_number(void)
{
    return random_next() >> random_below(64);
}

static void random_bytes(struct bytes *b)
{
    uint8_t data[64];
    random_fill(data, sizeof data);
    bytes_set(b, data, random_below(sizeof data));
}

#define STRUCT(name) \
    static void name##_random(struct name *x) \
    {
#define END(name) }
#define U(field) x->field = random_number();
#define I(field) x->field = (int64_t)random_number() * (random_below(2) ? 1 : -1);
#define S(field) random_text(&x->field);
#define B(field) random_bytes(&x->field);
#define D(field) random_fill(&x->field, sizeof x->field);
#define L(type, field) \
    for (uint64_t n = random_below(4); n > 0; n--) \
        type##_random(LIST_ADD(x, field));
#define O(type, field) type##_random(&x->field);
#include "image/schema.def"
#undef STRUCT
#undef END
#undef U
#undef I
#undef S
#undef B
#undef D
#undef L
#undef O

/* ---- equality, field by field */
#define STRUCT(name) \
    static bool name##_same(const struct name *a, const struct name *b) \
    {
#define END(name) \
        return true; \
    }
#define U(field) if (a->field != b->field) return false;
#define I(field) U(field)
#define S(field) if (!a->field || !b->field || strcmp(a->field, b->field)) return false;
#define B(field) if (a->field.len != b->field.len || (a->field.len && memcmp(a->field.data, b->field.data, a->field.len))) return false;
#define D(field) if (memcmp(&a->field, &b->field, DIGEST_BYTES)) return false;
#define L(type, field) \
    U(field##_count) \
    for (size_t i = 0; i < a->field##_count; i++) \
        if (!type##_same(&a->field[i], &b->field[i])) return false;
#define O(type, field) if (!type##_same(&a->field, &b->field)) return false;
#include "image/schema.def"
#undef STRUCT
#undef END
#undef U
#undef I
#undef S
#undef B
#undef D
#undef L
#undef O

static void images_come_back(void)
{
    bool same = true;
    for (int round = 0; round < 200 && same; round++) {
        struct image in = {0}, out = {0};
        struct err e = {0};
        AUTO_BUF struct buf b = {0};
        image_random(&in);
        image_encode(&b, &in);
        struct cursor c = {b.data, b.data + b.len};
        same = image_decode(&c, &out, &e) == 0 && c.at == c.end && image_same(&in, &out);
        image_free(&in);
        image_free(&out);
    }
    ok(same, "200 random images come back from their encoding, field by field");
}

static void numbers_come_back(void)
{
    static const uint64_t us[] = {0, 1, 127, 128, UINT32_MAX, INT64_MAX, UINT64_MAX};
    static const int64_t is[] = {0, 1, -1, 63, -64, INT64_MAX, INT64_MIN};
    bool same = true;
    for (size_t i = 0; i < ARRAY_LENGTH(us); i++) {
        struct err e = {0};
        struct rlimit_of in = {us[i], us[i], us[i]}, out = {0};
        struct sched s = {.nice = is[i]}, t = {0};
        AUTO_BUF struct buf b = {0};
        rlimit_of_encode(&b, &in);
        sched_encode(&b, &s);
        struct cursor c = {b.data, b.data + b.len};
        same = same && !rlimit_of_decode(&c, &out, &e) && !sched_decode(&c, &t, &e) && rlimit_of_same(&in, &out) && t.nice == s.nice;
    }
    ok(same, "the smallest and the largest numbers come back");
}

static void other_versions_read(void)
{
    struct err e = {0};
    AUTO_BUF struct buf b = {0};
    size_t begin = put_begin(&b);
    put_u(&b, 7);
    put_end(&b, begin);
    struct task t = {0};
    struct cursor c = {b.data, b.data + b.len};
    ok(!task_decode(&c, &t, &e) && t.pid == 7 && t.ppid == 0 && strcmp(t.comm, "") == 0 && strcmp(t.mm.exe, "") == 0,
       "a struct of an older program leaves the new fields empty, texts too");
    task_free(&t);
    b.len = 0;
    begin = put_begin(&b);
    for (uint64_t i = 1; i <= 9; i++)
        put_u(&b, i);
    put_end(&b, begin);
    struct itimer timer = {0};
    c = (struct cursor){b.data, b.data + b.len};
    ok(!itimer_decode(&c, &timer, &e) && timer.which == 1 && timer.value_us == 3 && c.at == c.end,
       "a struct of a newer program is read as far as it is known");
}

static bool refused(const uint8_t *data, size_t len, const char *words)
{
    struct err e = {0};
    struct unix_message m = {0};
    struct cursor c = {data, data + len};
    bool failed = unix_message_decode(&c, &m, &e) == -1 && e.code == E_BAD_IMAGE;
    if (failed && !strstr(e.message, words))
        printf("# said: %s\n", e.message);
    unix_message_free(&m);
    return failed && strstr(e.message, words);
}

static void broken_bytes_are_refused(void)
{
    static const uint8_t long_struct[] = {200, 0, 0, 0, 1}, cut_length[] = {1, 0}, long_bytes[] = {2, 0, 0, 0, 9, 1};
    static const uint8_t cut_number[] = {1, 0, 0, 0, 0x80};
    static const uint8_t wide[] = {11, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0};
    ok(refused(long_struct, sizeof long_struct, "unix_message: longer"), "a struct longer than what is there is refused by name");
    ok(refused(cut_length, sizeof cut_length, "unix_message: cut off"), "a cut-off length is refused");
    ok(refused(long_bytes, sizeof long_bytes, "unix_message.data: longer"), "bytes longer than their struct are refused by field");
    ok(refused(cut_number, sizeof cut_number, "cut off in a number"), "a cut-off number is refused");
    ok(refused(wide, sizeof wide, "more than 64 bits"), "a number of more than 64 bits is refused");
    static const uint8_t many[] = {6, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 0};
    struct err e = {0};
    struct tree t = {0};
    struct cursor c = {many, many + sizeof many};
    ok(tree_decode(&c, &t, &e) == -1 && strstr(e.message, "tree.entries"), "a count without its items is refused before memory is taken");
    static const uint8_t nul[] = {3, 0, 0, 0, 2, 'a', 0};
    c = (struct cursor){nul, nul + sizeof nul};
    ok(tree_decode(&c, &t, &e) == -1 && strstr(e.message, "NUL"), "a text with a NUL is refused");
}

static void cut_images_are_refused(void)
{
    struct image in = {0};
    AUTO_BUF struct buf b = {0};
    image_random(&in);
    image_encode(&b, &in);
    image_free(&in);
    size_t wrong = 0;
    for (size_t len = 1; len < b.len; len++) {
        struct err e = {0};
        struct image out = {0};
        AUTO_FREE uint8_t *copy = xcalloc(len, 1); /* its own block: the sanitizer sees a step too far */
        memcpy(copy, b.data, len);
        struct cursor c = {copy, copy + len};
        wrong += image_decode(&c, &out, &e) != -1 || e.code != E_BAD_IMAGE;
        image_free(&out);
    }
    ok(wrong == 0, "an image cut off at any of its %zu bytes is refused", b.len);
}

static void json_is_json(void)
{
    struct image in = {0};
    image_random(&in);
    AUTO_FREE char *path = xasprintf("%s/image.json", tap_dir_make());
    FILE *out = fopen(path, "w");
    image_json(out, &in);
    fclose(out);
    image_free(&in);
    AUTO_FREE char *command = xasprintf("python3 -c \"import json,sys; d=json.load(open(sys.argv[1],'rb')); assert len(d['pod']['hostname'])>=0\" %s", path);
    ok(system(command) == 0, "what inspect prints is JSON, whatever the texts are");
}

static void digests_are_written_and_read(void)
{
    struct digest d, back;
    struct err e = {0};
    char hex[65];
    random_fill(&d, sizeof d);
    digest_hex(&d, hex);
    ok(!digest_parse(hex, &back, &e) && memcmp(&d, &back, sizeof d) == 0, "a digest comes back from its hexadecimal digits");
    hex[63] = 0;
    ok(digest_parse(hex, &back, &e) == -1 && digest_parse("", &back, &e) == -1, "a short digest is refused");
    hex[63] = 'G';
    ok(digest_parse(hex, &back, &e) == -1, "a digest with another letter is refused");
}

/* FIPS 180-4 examples and the million a's; both ways of computing. */
static void sha256_is_sha256(void)
{
    static const struct {
        const char *text, *hex;
    } known[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    for (int hardware = 0; hardware < 2; hardware++) {
        sha256_use_hardware(hardware);
        bool right = true;
        char hex[65];
        struct digest d;
        for (size_t i = 0; i < ARRAY_LENGTH(known); i++) {
            sha256_of(known[i].text, strlen(known[i].text), &d);
            digest_hex(&d, hex);
            right = right && strcmp(hex, known[i].hex) == 0;
        }
        AUTO_FREE char *a = xcalloc(1000000, 1);
        memset(a, 'a', 1000000);
        sha256_of(a, 1000000, &d);
        digest_hex(&d, hex);
        ok(right && strcmp(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0") == 0,
           "SHA-256 gives the published digests, %s", hardware ? "by the processor if it can" : "in plain C");
    }
}

static void sha256_takes_pieces(void)
{
    uint8_t data[1000];
    random_fill(data, sizeof data);
    size_t wrong = 0;
    for (size_t len = 0; len < sizeof data; len++) {
        struct digest whole, pieces;
        struct sha256 s;
        sha256_use_hardware(len % 2);
        sha256_of(data, len, &whole);
        sha256_use_hardware(!(len % 2));
        sha256_begin(&s);
        for (size_t at = 0; at < len;) {
            size_t n = 1 + random_below(len - at);
            sha256_add(&s, data + at, n);
            at += n;
        }
        sha256_end(&s, &pieces);
        wrong += memcmp(&whole, &pieces, sizeof whole) != 0;
    }
    sha256_use_hardware(true);
    ok(wrong == 0, "content in pieces has the digest of the whole, both ways, at every length to 999");
}

static void sha256_takes_two(void)
{
    uint8_t data[2][1000];
    random_fill(data, sizeof data);
    size_t wrong = 0;
    for (size_t round = 0; round < 2000; round++) {
        struct digest alone[2], both[2];
        size_t lens[2] = {random_below(sizeof data[0]), round % 3 ? random_below(sizeof data[1]) : 0};
        sha256_use_hardware(round % 2);
        sha256_of_two(data[0], lens[0], data[1], lens[1], &both[0], &both[1]);
        sha256_use_hardware(!(round % 2));
        for (size_t k = 0; k < 2; k++) {
            sha256_of(data[k], lens[k], &alone[k]);
            wrong += memcmp(&alone[k], &both[k], sizeof alone[k]) != 0;
        }
    }
    sha256_use_hardware(true);
    ok(wrong == 0, "two at a time have the digests that each has alone, both ways, at any two lengths");
}

int main(void)
{
    seed_begin();
    images_come_back();
    numbers_come_back();
    other_versions_read();
    broken_bytes_are_refused();
    cut_images_are_refused();
    json_is_json();
    digests_are_written_and_read();
    sha256_is_sha256();
    sha256_takes_pieces();
    sha256_takes_two();
    return done_testing();
}
