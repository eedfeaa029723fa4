/* SPDX-License-Identifier: Apache-2.0 */
/* id.h: names of things: "s-", "vol-", "pit-", "tok-" and 17 lower-case hexadecimal digits. */
#ifndef HF_COMMON_ID_H
#define HF_COMMON_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	ID_DIGITS = 17,
	ID_BYTES = 24, /* room for any id and its NUL, zero-padded: fixed on disk */
};

struct id {
	char text[ID_BYTES];
};

/* A new random id with the given prefix ("s", "vol", ...). Aborts if the kernel has no randomness. */
struct id id_random(const char *prefix);

/* The id that belongs to 128 bits of hash: the same input, the same id. Used for points in time. */
struct id id_from_bits(const char *prefix, uint64_t high, uint64_t low);

/* True if text is exactly prefix, '-', 17 hex digits. NULL is not valid. */
bool id_valid(const char *prefix, const char *text);

/* Copy a valid id out of text; false (and id untouched) if it is not valid. */
bool id_parse(const char *prefix, const char *text, struct id *ret_id);

/* Fill buf with len random bytes from the kernel. Aborts on failure: there is no safe way on. */
void random_bytes(void *buf, size_t len);

#endif
