/* SPDX-License-Identifier: Apache-2.0 */
#include "server/trend.h"

#define DAY_NS (86400 * NS_PER_SECOND)

void
trend_add(struct trend *t, int64_t now_ns, uint64_t bytes)
{
	size_t newest = (t->first + t->count + TREND_SAMPLES - 1) % TREND_SAMPLES;
	size_t slot = (t->first + t->count) % TREND_SAMPLES;

	if (t->count > 0 && now_ns - t->samples[newest].at_ns < TREND_INTERVAL_NS)
		return;
	if (t->count == TREND_SAMPLES)
		t->first = (t->first + 1) % TREND_SAMPLES;
	else
		t->count++;
	t->samples[slot].at_ns = now_ns;
	t->samples[slot].bytes = bytes;
}

bool
trend_get(const struct trend *t, int64_t now_ns, uint64_t bytes, int64_t *ret_bytes_per_day, int64_t *ret_measured_ns)
{
	int64_t span = t->count > 0 ? now_ns - t->samples[t->first].at_ns : 0;
	double grown;

	if (span < TREND_SPAN_MIN_NS)
		return false;
	grown = (double)bytes - (double)t->samples[t->first].bytes;
	*ret_bytes_per_day = (int64_t)(grown * (double)DAY_NS / (double)span);
	*ret_measured_ns = span;
	return true;
}
