/* See stream.h. */
#include "stream.h"

#include <string.h>
#include <unistd.h>

#include "internal.h"

#define FRAME_BYTES 48ul
#define COMMIT_BYTES (256ul << 20) /* a broken transfer starts again from the last commit */

static const char magic[] = "COSCHNKS";

static void number_put(uint8_t *at, uint32_t value)
{
    for (size_t i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t number_at(const uint8_t *at)
{
    uint32_t value = 0;
    for (size_t i = 0; i < 4; i++)
        value |= (uint32_t)at[i] << (8 * i);
    return value;
}

int stream_begin(int fd, struct err *e)
{
    return io_write_all(fd, magic, 8, e);
}

int stream_end(int fd, struct err *e)
{
    static const uint8_t zeros[FRAME_BYTES];
    return io_write_all(fd, zeros, sizeof zeros, e);
}

static int frame_send(int fd, const struct place *p, const void *stored, struct err *e)
{
    uint8_t frame[FRAME_BYTES];
    memcpy(frame, p->digest.bytes, DIGEST_BYTES);
    number_put(frame + 32, p->raw);
    number_put(frame + 36, p->stored);
    number_put(frame + 40, p->flags);
    number_put(frame + 44, p->crc);
    return io_write_all(fd, frame, sizeof frame, e) || io_write_all(fd, stored, p->stored, e) ? -1 : 0;
}

int stream_send(struct store *s, int fd, const struct digest *digest, struct err *e)
{
    struct scratch *room = scratch_take(s);
    struct place p;
    uint32_t raw = store_raw_len(s, digest);
    int result = get_chunk(s, room, digest, room->raw, raw ? raw : 1, e);
    if (!result) {
        /* packed anew: the place may lie in a pack that gc has moved meanwhile */
        chunk_pack(&room->packed, room->raw, raw);
        p = (struct place){.digest = *digest, .raw = raw, .stored = room->packed.stored, .flags = room->packed.flags,
                           .crc = room->packed.crc};
        result = frame_send(fd, &p, room->packed.data, e);
    }
    scratch_give(s, room);
    return result;
}

/* ---- receive */
static bool frame_decode(const uint8_t frame[FRAME_BYTES], struct place *p)
{
    *p = (struct place){.raw = number_at(frame + 32), .stored = number_at(frame + 36), .flags = number_at(frame + 40),
                        .crc = number_at(frame + 44)};
    memcpy(p->digest.bytes, frame, DIGEST_BYTES);
    return p->raw > 0 && p->raw <= CHUNK_MAX && p->stored > 0 && p->stored <= p->raw && place_flags_sane(p->flags) &&
           (p->flags || p->stored == p->raw) && !digest_is_zero(&p->digest);
}

static int frame_keep(struct store *s, struct scratch *room, const struct place *p, struct stream_result *out, struct err *e)
{
    char hex[65];
    digest_hex(&p->digest, hex);
    struct digest digest;
    uint64_t stored_bytes;
    if (chunk_unpack(p, room->stored, room->raw, e))
        return err_wrap(e, "chunk %s of the stream", hex);
    if (all_zero(room->raw, p->raw))
        return err_set(e, E_BAD_IMAGE, "chunk %s of the stream: zeros are never sent", hex);
    if (put_chunk(s, room, room->raw, p->raw, &digest, &stored_bytes, e))
        return -1;
    out->chunks++;
    out->raw_bytes += p->raw;
    out->stored_bytes += stored_bytes;
    return 0;
}

static int frame_receive(struct store *s, struct scratch *room, int fd, bool *last, struct stream_result *out, struct err *e)
{
    uint8_t frame[FRAME_BYTES];
    struct place p;
    if (io_read_all(fd, frame, sizeof frame, e))
        return err_wrap(e, "the stream is cut off");
    *last = all_zero(frame, sizeof frame);
    if (*last)
        return 0;
    if (!frame_decode(frame, &p))
        return err_set(e, E_BAD_IMAGE, "the stream has an impossible frame");
    if (io_read_all(fd, room->stored, p.stored, e))
        return err_wrap(e, "the stream is cut off");
    return frame_keep(s, room, &p, out, e);
}

static int frames_receive(struct store *s, struct scratch *room, int fd, struct stream_result *out, struct err *e)
{
    uint64_t committed = 0;
    for (bool last = false; !last;) {
        if (frame_receive(s, room, fd, &last, out, e))
            return -1;
        if (out->stored_bytes - committed < COMMIT_BYTES)
            continue;
        if (store_commit(s, e))
            return -1;
        committed = out->stored_bytes;
    }
    return 0;
}

static int magic_check(int fd, struct err *e)
{
    uint8_t begin[8];
    if (io_read_all(fd, begin, sizeof begin, e))
        return err_wrap(e, "the stream is cut off");
    return memcmp(begin, magic, sizeof begin) ? err_set(e, E_BAD_IMAGE, "this is no stream of chunks") : 0;
}

int stream_receive(struct store *s, int fd, struct stream_result *out, struct err *e)
{
    *out = (struct stream_result){0};
    if (magic_check(fd, e))
        return -1;
    struct scratch *room = scratch_take(s);
    int result = frames_receive(s, room, fd, out, e);
    scratch_give(s, room);
    struct err commit = {0};
    if (store_commit(s, &commit) && !result) {
        *e = commit;
        return -1;
    }
    return result;
}
