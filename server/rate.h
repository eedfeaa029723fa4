/* SPDX-License-Identifier: Apache-2.0 */
/* rate.h: bytes per second over the last 10 s, 1 min and 5 min, from buckets of a second and of ten. Pure; small, for
 * every source has one. */
#ifndef HF_SERVER_RATE_H
#define HF_SERVER_RATE_H

#include <stdbool.h>
#include <stdint.h>

enum { RATE_SECONDS = 10, RATE_TENS = 30 };

struct rate {
	int64_t second;                 /* monotonic second now being counted */
	int64_t first_second;           /* when counting began */
	uint64_t seconds[RATE_SECONDS]; /* by second modulo 10 */
	uint64_t tens[RATE_TENS];       /* by (second / 10) modulo 30 */
};

void rate_init(struct rate *r, int64_t now_ns);
void rate_add(struct rate *r, int64_t now_ns, uint64_t bytes);

/* Bytes per second over the last `seconds` (10, 60 or 300), or over the time since rate_init() where that is shorter.
 */
uint64_t rate_get(struct rate *r, int64_t now_ns, int seconds);

#endif
