/* See pack.h. */
#include "pack.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sha256.h"
#include "store.h"

static const char begin_magic[] = "COSPACK1", end_magic[] = "COSPEND1";

static uint8_t *put_number(uint8_t *at, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        *at++ = (uint8_t)(value >> (8 * i));
    return at;
}

static uint64_t number_at(const uint8_t *at, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

void pack_header(uint8_t out[PACK_HEADER_BYTES])
{
    memcpy(out, begin_magic, 8);
    put_number(out + 8, PACK_VERSION, 8);
}

static void entry_put(uint8_t out[PACK_ENTRY_BYTES], const struct place *p)
{
    memcpy(out, p->digest.bytes, DIGEST_BYTES);
    uint8_t *at = put_number(out + DIGEST_BYTES, p->offset, 8);
    at = put_number(at, p->stored, 4);
    at = put_number(at, p->raw, 4);
    at = put_number(at, p->flags, 4);
    put_number(at, p->crc, 4);
}

static struct place entry_at(const uint8_t *at)
{
    struct place p = {.offset = number_at(at + 32, 8), .stored = (uint32_t)number_at(at + 40, 4),
                      .raw = (uint32_t)number_at(at + 44, 4), .flags = (uint32_t)number_at(at + 48, 4),
                      .crc = (uint32_t)number_at(at + 52, 4), .state = PLACE_READY};
    memcpy(p.digest.bytes, at, DIGEST_BYTES);
    return p;
}

/* `numbers` are the first 16 bytes of the footer. */
static void tail_digest(const uint8_t *index, size_t index_bytes, const uint8_t *numbers, struct digest *out)
{
    uint8_t header[PACK_HEADER_BYTES];
    pack_header(header);
    struct sha256 s;
    sha256_begin(&s);
    sha256_add(&s, header, sizeof header);
    sha256_add(&s, index, index_bytes);
    sha256_add(&s, numbers, 16);
    sha256_end(&s, out);
}

void pack_tail(struct buf *out, const struct place *places, size_t count, uint64_t end)
{
    for (size_t i = 0; i < count; i++) {
        uint8_t entry[PACK_ENTRY_BYTES];
        entry_put(entry, &places[i]);
        buf_add(out, entry, sizeof entry);
    }
    uint8_t footer[PACK_FOOTER_BYTES] = {0};
    put_number(put_number(footer, end, 8), count, 8);
    struct digest digest;
    tail_digest(out->data, out->len, footer, &digest);
    memcpy(footer + 16, digest.bytes, DIGEST_BYTES);
    memcpy(footer + 56, end_magic, 8);
    buf_add(out, footer, sizeof footer);
}

static bool place_sane(const struct place *p, uint64_t end)
{
    return p->raw > 0 && p->raw <= CHUNK_MAX && p->stored > 0 && p->stored <= p->raw && place_flags_sane(p->flags) &&
           (p->flags || p->stored == p->raw) && p->offset >= PACK_HEADER_BYTES && p->offset <= end &&
           p->stored <= end - p->offset;
}

static int footer_check(int fd, uint64_t bytes, uint8_t footer[PACK_FOOTER_BYTES], struct err *e)
{
    uint8_t header[PACK_HEADER_BYTES], expected[PACK_HEADER_BYTES];
    if (bytes < PACK_HEADER_BYTES + PACK_FOOTER_BYTES)
        return err_set(e, E_BAD_IMAGE, "too short");
    if (io_pread_all(fd, header, sizeof header, 0, e) ||
        io_pread_all(fd, footer, PACK_FOOTER_BYTES, bytes - PACK_FOOTER_BYTES, e))
        return -1;
    pack_header(expected);
    if (memcmp(header, expected, 8))
        return err_set(e, E_BAD_IMAGE, "not a pack");
    if (memcmp(header, expected, sizeof header))
        return err_set(e, E_UNSUPPORTED, "a pack of another version (%lu)", number_at(header + 8, 8));
    if (memcmp(footer + 56, end_magic, 8) || number_at(footer + 48, 8))
        return err_set(e, E_BAD_IMAGE, "its footer is damaged");
    uint64_t at = number_at(footer, 8), count = number_at(footer + 8, 8);
    if (at < PACK_HEADER_BYTES || at > bytes - PACK_FOOTER_BYTES || count > PACK_ENTRIES_MAX || count > bytes / PACK_ENTRY_BYTES ||
        count * PACK_ENTRY_BYTES != bytes - PACK_FOOTER_BYTES - at)
        return err_set(e, E_BAD_IMAGE, "its footer is damaged");
    return 0;
}

static int entries_decode(const uint8_t *index, size_t count, uint64_t end, struct place *places, struct err *e)
{
    for (size_t i = 0; i < count; i++) {
        places[i] = entry_at(index + i * PACK_ENTRY_BYTES);
        if (!place_sane(&places[i], end))
            return err_set(e, E_BAD_IMAGE, "entry %zu of its index is impossible", i);
    }
    return 0;
}

int pack_read(int fd, struct place **places, size_t *count, uint64_t *bytes, struct err *e)
{
    struct stat st;
    uint8_t footer[PACK_FOOTER_BYTES];
    if (fstat(fd, &st) < 0)
        return err_errno(e, "stat");
    if (!S_ISREG(st.st_mode))
        return err_set(e, E_BAD_IMAGE, "no file");
    *bytes = (uint64_t)st.st_size;
    if (footer_check(fd, *bytes, footer, e))
        return -1;
    uint64_t at = number_at(footer, 8);
    *count = number_at(footer + 8, 8);
    AUTO_FREE uint8_t *index = xcalloc(*count, PACK_ENTRY_BYTES);
    if (io_pread_all(fd, index, *count * PACK_ENTRY_BYTES, at, e))
        return -1;
    struct digest digest;
    tail_digest(index, *count * PACK_ENTRY_BYTES, footer, &digest);
    if (memcmp(digest.bytes, footer + 16, DIGEST_BYTES))
        return err_set(e, E_BAD_IMAGE, "its index is damaged");
    *places = xcalloc(*count, sizeof **places);
    if (!entries_decode(index, *count, at, *places, e))
        return 0;
    free(*places);
    *places = NULL;
    return -1;
}
