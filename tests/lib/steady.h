/* SPDX-License-Identifier: Apache-2.0 */
/* steady.h: for programs that go through millions of crash states and must repeat each: chance comes from a seed, and
 * memory for I/O is kept for the next one instead of being given back to the kernel. Linking steady.c replaces
 * random_bytes(), buffer_alloc() and buffer_free(). */
#ifndef HF_TESTS_STEADY_H
#define HF_TESTS_STEADY_H

#include <stdint.h>

/* The process has one thread: SQLite need not lock, nor count its memory, and gets more of it at once. Before all else.
 */
void steady_alone(void);

void steady_seed(uint64_t seed); /* what random_bytes() gives, and SQLite's dice, follow from it */

/* What lies between does not change what comes after. Not to be nested. */
void steady_leave(void);
void steady_return(void);

#endif
