/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/histogram.h"

#include "proto/common/units.h"

#define MS (NS_PER_SECOND / 1000)

const int64_t histogram_bounds_ns[HISTOGRAM_BOUNDS] = {
    MS / 4, MS, 5 * MS, 20 * MS, 100 * MS, 500 * MS, 2000 * MS, 10000 * MS};

static int
bucket_of(int64_t ns)
{
	int i = 0;

	while (i < HISTOGRAM_BOUNDS && ns > histogram_bounds_ns[i])
		i++;
	return i;
}

void
histogram_add(struct histogram *h, int64_t ns)
{
	h->counts[bucket_of(ns)]++;
	h->sum_ns += ns > 0 ? (uint64_t)ns : 0;
}

uint64_t
histogram_count(const struct histogram *h)
{
	uint64_t count = 0;

	for (int i = 0; i <= HISTOGRAM_BOUNDS; i++)
		count += h->counts[i];
	return count;
}

void
shared_histogram_add(struct shared_histogram *h, int64_t ns)
{
	atomic_fetch_add_explicit(&h->counts[bucket_of(ns)], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->sum_ns, ns > 0 ? (uint64_t)ns : 0, memory_order_relaxed);
}

void
shared_histogram_get(const struct shared_histogram *h, struct histogram *ret_copy)
{
	for (int i = 0; i <= HISTOGRAM_BOUNDS; i++)
		ret_copy->counts[i] = atomic_load_explicit(&h->counts[i], memory_order_relaxed);
	ret_copy->sum_ns = atomic_load_explicit(&h->sum_ns, memory_order_relaxed);
}
