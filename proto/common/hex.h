/* SPDX-License-Identifier: Apache-2.0 */
/* hex.h: bytes as lower-case hexadecimal, two digits each: how nonces, fingerprints and digests are shown and kept. */
#ifndef HF_COMMON_HEX_H
#define HF_COMMON_HEX_H

#include <stdbool.h>
#include <stddef.h>

/* Into 2 * len + 1 bytes of text. */
void hex_format(const unsigned char *bytes, size_t len, char *ret_text);

/* False, and nothing written, if text is anything but 2 * len such digits. */
bool hex_parse(const char *text, unsigned char *ret_bytes, size_t len);

#endif
