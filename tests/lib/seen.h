/* SPDX-License-Identifier: Apache-2.0 */
/* seen.h: a set of fingerprints that only grows. Memory: at most 32 bytes each. */
#ifndef HF_TESTS_SEEN_H
#define HF_TESTS_SEEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All zero is an empty set. */
struct seen {
	uint64_t *slots; /* 0 = free */
	size_t count, capacity;
};

/* Note it. True: it was there before. */
bool seen_before(struct seen *s, uint64_t fingerprint);
void seen_fini(struct seen *s);

#endif
