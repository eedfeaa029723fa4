/* SPDX-License-Identifier: Apache-2.0 */
/* trend.h: how fast something grows, from what it was over the last hours. Pure. */
#ifndef HF_SERVER_TREND_H
#define HF_SERVER_TREND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/common/units.h"

/* Six hours, a sample every minute. Less than ten minutes tell nothing of a day. */
enum { TREND_SAMPLES = 361 };
#define TREND_INTERVAL_NS (60 * NS_PER_SECOND)
#define TREND_SPAN_MIN_NS (600 * NS_PER_SECOND)

struct trend { /* all zero: nothing known */
	struct {
		int64_t at_ns;
		uint64_t bytes;
	} samples[TREND_SAMPLES]; /* ring, oldest at `first` */
	size_t first, count;
};

/* bytes at now_ns (monotonic). Called as often as one likes; once a minute it is remembered. */
void trend_add(struct trend *t, int64_t now_ns, uint64_t bytes);

/* From the oldest sample to now: bytes per day, and over how long that was measured. False: not known yet. */
bool trend_get(
    const struct trend *t, int64_t now_ns, uint64_t bytes, int64_t *ret_bytes_per_day, int64_t *ret_measured_ns);

#endif
