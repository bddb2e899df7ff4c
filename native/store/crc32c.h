/* CRC-32C (Castagnoli): tells a changed stored byte even where it would decompress to the same content. */
#pragma once
#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(const void *data, size_t len);
