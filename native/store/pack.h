/* One pack file: header, stored chunks back to back, index, footer. Written once, front to back, and never changed
 * after its rename to NAME.pack; NAME.part is a pack that is not committed.
 *   header  "COSPACK1" | version u64
 *   index   per chunk: digest 32 | offset u64 | stored u32 | raw u32 | flags u32 | crc32c u32
 *   footer  offset of the index u64 | entries u64 | SHA-256 of header, index and the two numbers | 0 u64 | "COSPEND1"
 * All numbers little-endian. Reading trusts nothing: E_BAD_IMAGE says what is wrong
 * (E_UNSUPPORTED: a pack of another version). */
#pragma once
#include "index.h"

#define PACK_VERSION 1ul
#define PACK_HEADER_BYTES 16ul
#define PACK_ENTRY_BYTES 56ul
#define PACK_FOOTER_BYTES 64ul
#define PACK_ENTRIES_MAX (1ul << 24) /* 4 TiB of full chunks */

void pack_header(uint8_t out[PACK_HEADER_BYTES]);
/* Index and footer of a pack whose chunks end at `end`. */
void pack_tail(struct buf *out, const struct place *places, size_t count, uint64_t end);
/* Read and check the index; *places is malloc'ed, states PLACE_READY, pack 0. */
MUST_CHECK int pack_read(int fd, struct place **places, size_t *count, uint64_t *bytes, struct err *e);
