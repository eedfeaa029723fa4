/* SPDX-License-Identifier: Apache-2.0 */
/* histogram.h: how long something takes, counted in fixed buckets. Whoever owns it adds; others get copies. */
#ifndef HF_COMMON_HISTOGRAM_H
#define HF_COMMON_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

enum { HISTOGRAM_BOUNDS = 8 };

/* Nanoseconds, rising: from a flush of a fast disk to one that hangs. */
extern const int64_t histogram_bounds_ns[HISTOGRAM_BOUNDS];

struct histogram {
	uint64_t counts[HISTOGRAM_BOUNDS + 1]; /* of those up to each bound, and above the one before; then the rest */
	uint64_t sum_ns;
};

void histogram_add(struct histogram *h, int64_t ns);
uint64_t histogram_count(const struct histogram *h);

/* The same, where several threads add and others look: never blocks. A copy taken meanwhile may have the count of what
 * is being added and not its time. */
struct shared_histogram {
	_Atomic uint64_t counts[HISTOGRAM_BOUNDS + 1];
	_Atomic uint64_t sum_ns;
};

void shared_histogram_add(struct shared_histogram *h, int64_t ns);
void shared_histogram_get(const struct shared_histogram *h, struct histogram *ret_copy);

#endif
