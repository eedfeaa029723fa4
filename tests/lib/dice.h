/* SPDX-License-Identifier: Apache-2.0 */
/* dice.h: random numbers for tests: the seed is printed, and SEED=n repeats a run. */
#ifndef HF_TESTS_LIB_DICE_H
#define HF_TESTS_LIB_DICE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/common/id.h"

struct dice {
	uint64_t state;
};

/* A seed from SEED or from the kernel; printed. */
static inline struct dice
dice_from_environment(void)
{
	const char *text = getenv("SEED");
	struct dice d;

	random_bytes(&d.state, sizeof d.state);
	if (text != NULL)
		d.state = strtoull(text, NULL, 0);
	printf("SEED=%llu\n", (unsigned long long)d.state);
	return d;
}

static inline uint64_t
dice_next(struct dice *d)
{
	uint64_t z = d->state += 0x9e3779b97f4a7c15u; /* splitmix64 */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* 0..n-1; n > 0 */
static inline uint64_t
dice_below(struct dice *d, uint64_t n)
{
	return dice_next(d) % n;
}

/* True once in n. */
static inline bool
dice_once_in(struct dice *d, uint64_t n)
{
	return dice_below(d, n) == 0;
}

#endif
