/* Chunks on their way to another store: "COSCHNKS", then per chunk
 *   digest 32 | raw u32 | stored u32 | flags u32 | crc32c u32 | stored bytes
 * and a frame of zeros as the end, so that a cut-off stream is noticed. Numbers little-endian.
 * Both sides check every chunk: the sender before it sends, the receiver before it keeps. */
#pragma once
#include "store.h"

MUST_CHECK int stream_begin(int fd, struct err *e);
/* E_BAD_IMAGE names a chunk that is missing or damaged; nothing of it was sent then. */
MUST_CHECK int stream_send(struct store *s, int fd, const struct digest *digest, struct err *e);
MUST_CHECK int stream_end(int fd, struct err *e);

struct stream_result { uint64_t chunks, raw_bytes, stored_bytes; };
/* Take a whole stream and commit it. At a bad frame what came before it is committed all the same, and the error
 * names the chunk. */
MUST_CHECK int stream_receive(struct store *s, int fd, struct stream_result *out, struct err *e);
