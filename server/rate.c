/* SPDX-License-Identifier: Apache-2.0 */
#include "server/rate.h"

#include <string.h>

#include "proto/common/units.h"

void
rate_init(struct rate *r, int64_t now_ns)
{
	memset(r, 0, sizeof *r);
	r->second = r->first_second = now_ns / NS_PER_SECOND;
}

/* Empty the buckets that time has passed over. */
static void
advance(struct rate *r, int64_t second)
{
	if (second - r->second >= RATE_TENS * 10) {
		memset(r->seconds, 0, sizeof r->seconds);
		memset(r->tens, 0, sizeof r->tens);
		r->second = second;
	}
	while (r->second < second) {
		r->second++;
		r->seconds[r->second % RATE_SECONDS] = 0;
		if (r->second % 10 == 0)
			r->tens[r->second / 10 % RATE_TENS] = 0;
	}
}

void
rate_add(struct rate *r, int64_t now_ns, uint64_t bytes)
{
	advance(r, now_ns / NS_PER_SECOND);
	r->seconds[r->second % RATE_SECONDS] += bytes;
	r->tens[r->second / 10 % RATE_TENS] += bytes;
}

/* The bucket being filled counts as the time it has been filled for, so that a steady stream shows its rate at every
 * moment. */
static uint64_t
divide(uint64_t bytes, int64_t begin_ns, int64_t now_ns)
{
	int64_t span_ns = now_ns - begin_ns;

	if (span_ns < NS_PER_SECOND / 10)
		span_ns = NS_PER_SECOND / 10;
	return (uint64_t)((double)bytes * (double)NS_PER_SECOND / (double)span_ns);
}

uint64_t
rate_get(struct rate *r, int64_t now_ns, int seconds)
{
	bool short_one = seconds <= RATE_SECONDS;
	int64_t step = short_one ? 1 : 10, begin;
	uint64_t sum = 0;

	advance(r, now_ns / NS_PER_SECOND);
	begin = (r->second / step - (seconds / step - 1)) * step;
	for (int64_t s = begin; s <= r->second; s += step)
		if (s >= 0)
			sum += short_one ? r->seconds[s % RATE_SECONDS] : r->tens[s / 10 % RATE_TENS];
	if (begin < r->first_second)
		begin = r->first_second;
	return divide(sum, begin * NS_PER_SECOND, now_ns);
}
