/* SPDX-License-Identifier: Apache-2.0 */
/* sim_random.h: the dice of the simulated disk (splitmix64). The same seed gives the same disk on
 * every machine. */
#ifndef HF_STORAGE_SIM_RANDOM_H
#define HF_STORAGE_SIM_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct sim_random {
	uint64_t state;
};

static inline uint64_t
sim_random_next(struct sim_random *r)
{
	uint64_t z = (r->state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* 0..n-1; n > 0 */
static inline uint64_t
sim_random_below(struct sim_random *r, uint64_t n)
{
	return sim_random_next(r) % n;
}

/* True in `eighths` of eight cases. */
static inline bool
sim_random_chance(struct sim_random *r, unsigned eighths)
{
	return (sim_random_next(r) >> 40) % 8 < eighths;
}

#endif
